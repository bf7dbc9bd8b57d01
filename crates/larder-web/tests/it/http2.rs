//! HTTP/2 over TLS: the same answers as ever, many at once over one connection.

use std::{fs, time::Duration};

use axum::{body::Bytes, http::Request};
use h2::{RecvStream, client::SendRequest};
use larder_testkit::{NixVersion, TestStore, Tree, scratch::scratch, tree::random_bytes};
use rustix::process::Signal;

use crate::{http, secure::Secure, support::nix_dump};

const STREAMS: usize = 16;

/// A server of paths that differ, and each one's target and NAR; the store goes when the last is dropped.
fn world(paths: usize, size: usize) -> (Secure, Vec<(String, Vec<u8>)>, TestStore) {
    let store = TestStore::new(NixVersion::V2_34);
    let paths: Vec<String> = (0..paths)
        .map(|n| {
            let tree = Tree::new().file("f", random_bytes(n as u64, size + n));
            store.add_source(&format!("p{n}"), &tree)
        })
        .collect();
    let secure = Secure::of(&store);
    let wanted = paths.iter().map(|path| (secure.server.nar_target(path), nix_dump(&store, path)));
    let wanted = wanted.collect();
    (secure, wanted, store)
}

pub(crate) async fn ask(client: &mut SendRequest<Bytes>, target: &str) -> RecvStream {
    let request = Request::get(format!("https://localhost{target}")).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

pub(crate) async fn whole(mut body: RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    bytes
}

#[test]
fn sixteen_nars_at_once_over_one_connection_are_all_exact() {
    let (secure, wanted, _store) = world(STREAMS, 1_000_000);
    let folder = scratch("curl");
    let at = |n: usize| folder.path().join(n.to_string()).display().to_string();
    let lines: String = (0..STREAMS)
        .map(|n| format!("url = \"{}{}\"\noutput = \"{}\"\n", secure.url(), wanted[n].0, at(n)))
        .collect();
    let list = folder.path().join("list");
    fs::write(&list, lines).unwrap();
    let list = list.display().to_string();
    let told = "%{http_version} %{http_code} %{num_connects}\\n";
    let options = ["--http2", "--parallel", "--parallel-max", "16", "--write-out", told];
    let said = secure.authority.curl(&[&options[..], &["--config"]].concat(), &list).success();
    assert_eq!(said.lines().len(), STREAMS);
    assert!(said.lines().iter().all(|line| line.starts_with("2 200 ")), "{said}");
    let connections = said.lines().iter().filter(|line| line.ends_with(" 1")).count();
    assert_eq!(connections, 1, "{said}");
    for (n, (target, nar)) in wanted.iter().enumerate() {
        assert!(fs::read(at(n)).unwrap() == *nar, "{target}");
    }
}

#[test]
fn ranges_and_questions_without_a_body_are_answered_as_by_the_older_version() {
    let (secure, wanted, _store) = world(1, 300_000);
    let (target, nar) = &wanted[0];
    let part = secure.curl(&["--http2", "--range", "1000-1999"], target).success();
    assert!(part.stdout_bytes == nar[1000..2000]);
    let told = ["--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"];
    let beyond = [&["--http2", "--range", "999999999-"][..], &told].concat();
    assert_eq!(secure.curl(&beyond, target).success().text(), "2 416");
    let head = secure.curl(&["--http2", "--head"], target).success().stdout;
    assert!(head.starts_with("HTTP/2 200"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", nar.len())), "{head}");
    let plain = http::head(secure.server.address(), target);
    let named = ["content-type", "cache-control", "accept-ranges", "etag"];
    for name in named {
        if let Some(value) = plain.header(name) {
            assert!(head.contains(&format!("{name}: {value}\r\n")), "{name} in {head}");
        }
    }
}

/// What the process itself holds in memory now, in bytes; pages of files do not count.
fn own_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_streams_of_one_connection_take_little_memory() {
    const SLOW: usize = 32;
    let (mut secure, wanted, _store) = world(1, 12_000_000);
    let (target, nar) = &wanted[0];
    // As curl grants it: much more than the server should read ahead.
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(10_000_000).initial_connection_window_size(100_000);
    let mut client = secure.authority.http2(&secure.address, &settings).await;
    let pid = secure.server.process().pid();
    let before = own_memory(pid);
    let mut bodies = Vec::new();
    for _ in 0..SLOW {
        bodies.push(ask(&mut client, target).await);
    }
    // All have begun, and none is taken: the connection's window is full.
    let whole_nars = bodies.into_iter().map(whole).map(tokio::spawn).collect::<Vec<_>>();
    let mut peak = own_memory(pid);
    for task in whole_nars {
        assert!(task.await.unwrap() == *nar);
        peak = peak.max(own_memory(pid));
    }
    let more = (peak - before) / 1024 / 1024;
    assert!(more < 48, "{more} MiB");
    assert!(secure.server.process().is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_told_to_stop_lets_the_answers_of_a_connection_end() {
    let (mut secure, wanted, _store) = world(8, 2_000_000);
    let mut client = secure.authority.http2(&secure.address, &h2::client::Builder::new()).await;
    let mut bodies = Vec::new();
    for (target, _) in &wanted {
        bodies.push(ask(&mut client, target).await);
    }
    secure.server.process().signal(Signal::TERM);
    secure.server.process().wait_for_line("stopping");
    // All together: they share the connection's window.
    let all: Vec<_> = bodies.into_iter().map(whole).map(tokio::spawn).collect();
    for (body, (target, nar)) in all.into_iter().zip(&wanted) {
        assert!(body.await.unwrap() == *nar, "{target}");
    }
    drop(client);
    assert_eq!(secure.server.process().wait(Duration::from_secs(20)), 0);
}

#[test]
fn hundreds_of_connections_by_tls_at_once_are_all_answered() {
    const CONNECTIONS: usize = 200;
    let (secure, wanted, _store) = world(1, 100_000);
    let (target, nar) = &wanted[0];
    let mut streams: Vec<_> =
        (0..CONNECTIONS).map(|_| secure.authority.connect(&secure.address)).collect();
    for stream in &mut streams {
        std::io::Write::write_all(stream, &http::message("GET", target, &[])).unwrap();
    }
    for mut stream in streams {
        let answer = http::Answer::parse(&http::rest(&mut stream), false).unwrap();
        assert!(answer.status == 200 && answer.complete && answer.body == *nar);
    }
}
