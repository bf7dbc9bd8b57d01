//! NARs that are packed when they are first asked for, and kept.

mod bounds;
mod faults;
mod resume;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use async_compression::tokio::bufread::ZstdDecoder;
use larder_cache::packed::{DROPPED, KEPT_BYTES, PACKED, PACKED_REQUESTS};
use larder_formats::{hash::Sha256, narinfo::Compression};
use larder_testkit::{Nix, NixVersion, TestStore, Tree, tree::random_bytes};
use tokio::io::AsyncReadExt;

use crate::{
    exposition::Page,
    http::{self, Answer},
    reload::reload,
    support::{Key, Server, client, nix_dump, parse, realise, signing, with_every_client},
};

const ON: &str = "packed-nars = \"1GB\"";

with_every_client!(a_closure_is_copied_packed_at_first_and_from_what_is_kept_then);

/// A store with one path of that many bytes that do not get smaller, and as many that do.
fn store_with(size: usize) -> (TestStore, String) {
    let store = TestStore::new(NixVersion::V2_34);
    let path = add(&store, "path", 1, size);
    (store, path)
}

fn add(store: &TestStore, name: &str, seed: u64, size: usize) -> String {
    let text = "what compresses well\n".repeat(size / 21);
    let tree = Tree::new().file("random", random_bytes(seed, size)).file("text", text);
    store.add_source(name, &tree)
}

/// What is kept.
fn kept(server: &Server) -> Vec<PathBuf> {
    let folder = server.folder().join("state/packed-nars");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The same, once that many are: an answer does not wait until its NAR is kept.
fn kept_soon(server: &Server, number: usize) -> Vec<PathBuf> {
    let began = Instant::now();
    loop {
        let kept = kept(server);
        if kept.len() == number {
            return kept;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{kept:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a packed NAR is when it is unpacked.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut bytes = Vec::new();
        ZstdDecoder::new(packed).read_to_end(&mut bytes).await.unwrap();
        bytes
    })
}

/// Asks for a target and reads the answer's head and so many bytes behind it.
fn begin(server: &Server, target: &str, bytes: usize) -> (TcpStream, Vec<u8>) {
    let mut stream = http::connect(server.address());
    stream.write_all(&http::message("GET", target, &[])).unwrap();
    let mut received = vec![0; bytes];
    stream.read_exact(&mut received).unwrap();
    (stream, received)
}

fn rest((mut stream, mut received): (TcpStream, Vec<u8>)) -> Answer {
    received.extend(http::rest(&mut stream));
    Answer::parse(&received, false).unwrap()
}

/// Asks for a part.
fn part(server: &Server, target: &str, from: usize) -> Answer {
    let range = format!("bytes={from}-");
    http::request(server.address(), "GET", target, &[("Range", &range)])
}

fn counted(server: &Server, name: &str) -> f64 {
    Page::of(server.address()).sum(name, &[])
}

fn asked(server: &Server, outcome: &str) -> f64 {
    Page::of(server.address()).sum(PACKED_REQUESTS, &[("outcome", outcome)])
}

fn a_closure_is_copied_packed_at_first_and_from_what_is_kept_then(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let chain = store.add_closure("chain", 3, 50_000);
    let odd = store.add_tree_referring("odd", &Tree::odd(), &chain[2..]);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &format!("{}\n{ON}", signing(&[&key])));
    let closure = store.closure(&odd);
    let first = server.narinfo(&odd);
    assert_eq!(first.compression, Compression::Zstd);
    assert_eq!((first.file_hash, first.file_size), (None, None), "nobody knows yet");
    for n in 1..=2 {
        let client = client(version, &server.url(), &[&key.public]);
        let _ = realise(&client, &odd).success();
        for path in &closure {
            assert!(nix_dump(&client, path) == nix_dump(&store, path), "{path}");
        }
        let _ = client.nix(&["nix-store", "--verify", "--check-contents"]).success();
        assert_eq!(kept_soon(&server, closure.len()).len(), closure.len());
        assert_eq!(counted(&server, PACKED), closure.len() as f64, "once for all");
        let (packing, kept) = (asked(&server, "packing"), asked(&server, "kept"));
        assert_eq!((packing, kept), (closure.len() as f64, ((n - 1) * closure.len()) as f64));
    }
    for path in &closure {
        let info = server.narinfo(path);
        let packed = http::get(server.address(), &format!("/{}", info.url));
        assert_eq!(info.file_size, Some(packed.body.len() as u64));
        assert_eq!(info.file_hash, Some(Sha256::of(&packed.body)));
        assert!(unpacked(&packed.body) == nix_dump(&store, path));
    }
    assert!(counted(&server, KEPT_BYTES) > 0.0);
    assert_eq!(counted(&server, DROPPED), 0.0);
}

#[test]
fn what_is_told_of_a_packed_nar_before_and_when_it_is_kept() {
    let (store, path) = store_with(300_000);
    let server = Server::with(&store, ON);
    let target = server.nar_target(&path);
    let head = http::head(server.address(), &target);
    assert_eq!((head.status, head.header("content-length")), (200, None));
    assert!(kept(&server).is_empty(), "nothing was packed for it");
    let first = http::get(server.address(), &target);
    assert_eq!((first.status, first.complete), (200, true));
    assert_eq!(first.header("content-encoding"), None);
    let _ = kept_soon(&server, 1);
    let second = http::get(server.address(), &target);
    assert!(second.body == first.body && unpacked(&first.body) == nix_dump(&store, &path));
    let size = first.body.len().to_string();
    assert_eq!(second.header("content-length"), Some(size.as_str()));
    for answer in [&head, &first, &second] {
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("content-type"), Some("application/x-nix-nar"));
        assert_eq!(answer.header("etag"), first.header("etag"));
    }
    let head = http::head(server.address(), &target);
    assert_eq!(head.header("content-length"), Some(size.as_str()));
    let plain = http::get(server.address(), &plain_target(&server, &path));
    assert!(plain.body == nix_dump(&store, &path), "what clients remember goes on working");
}

fn plain_target(server: &Server, path: &str) -> String {
    let hash = server.narinfo(path).nar_hash.to_nix32();
    format!("/nar/{hash}.nar?hash={}", parse(path).hash())
}

#[test]
fn names_of_nothing_are_absent() {
    let (store, path) = store_with(1000);
    let other = add(&store, "other", 2, 1000);
    let server = Server::with(&store, ON);
    let (info, target) = (server.narinfo(&path), server.nar_target(&path));
    let (hash, out) = (info.nar_hash.to_nix32(), parse(&path).hash());
    let others = server.narinfo(&other).nar_hash.to_nix32();
    for absent in [
        // Another build of the path than the one that is here.
        target.replace(&hash, &others),
        target.replace(&out.to_string(), "00000000000000000000000000000000"),
        format!("{target}&hash={out}"),
        format!("{target}&packing=1.3.10507"),
        format!("/nar/{hash}.nar.zst"),
        format!("/nar/{hash}.nar.zst?hash={hash}"),
        format!("/nar/{hash}.nar.zst?packing=1.3.10507"),
        format!("/nar/{out}.nar.zst?hash={out}"),
        format!("/nar/..%2F{hash}.nar.zst?hash={out}"),
        format!("/nar/{hash}.nar.xz?hash={out}"),
    ] {
        assert_eq!(http::get(server.address(), &absent).status, 404, "{absent}");
    }
    assert!(kept(&server).is_empty());
}

#[test]
fn a_nar_packed_in_another_way_is_had_whole_and_never_in_part() {
    let (store, path) = store_with(300_000);
    let server = Server::with(&store, ON);
    let info = server.narinfo(&path);
    let target = format!("/{}", info.url);
    let (plain, _) = target.split_once("&packing=").unwrap();
    for packing in ["", "&packing=1.19.10507", "&packing=1.3.1", "&packing=x", "&packing=01.3.1"] {
        let other = format!("{plain}{packing}");
        let whole = http::get(server.address(), &other);
        assert!(unpacked(&whole.body) == nix_dump(&store, &path), "{other}");
        for header in ["accept-ranges", "etag"] {
            assert_eq!(whole.header(header), None, "{other}");
        }
        let again = part(&server, &other, 1000);
        assert_eq!((again.status, again.header("content-range")), (200, None), "{other}");
        assert!(again.body == whole.body, "{other}");
    }
    assert_eq!(kept_soon(&server, 1).len(), 1, "packed as it is now");
}

#[test]
fn many_clients_at_once_have_one_nar_packed_once() {
    let (store, path) = store_with(3_000_000);
    let server = Server::with(&store, &format!("{ON}\npacked-nars-level = 15"));
    let target = server.nar_target(&path);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = || http::get(server.address(), &target);
        let asking: Vec<_> = (0..24).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let nar = nix_dump(&store, &path);
    assert!(unpacked(&answers[0].body) == nar);
    assert!(answers.iter().all(|answer| answer.complete && answer.body == answers[0].body));
    let _ = kept_soon(&server, 1);
    assert_eq!(counted(&server, PACKED), 1.0);
    assert_eq!(asked(&server, "alone"), 0.0);
    assert_eq!(asked(&server, "kept") + asked(&server, "packing"), 24.0);
}

#[test]
fn it_is_switched_on_and_off_while_the_server_runs() {
    let (store, path) = store_with(300_000);
    let mut server = Server::of(&store);
    assert_eq!(server.narinfo(&path).compression, Compression::None);
    reload(&mut server, &store, ON);
    let target = server.nar_target(&path);
    assert_eq!(server.narinfo(&path).compression, Compression::Zstd);
    let packed = http::get(server.address(), &target).body;
    let _ = kept_soon(&server, 1);
    reload(&mut server, &store, &format!("{ON}\npriority = 7"));
    assert!(http::get(server.address(), &target).body == packed);
    assert_eq!((asked(&server, "packing"), asked(&server, "kept")), (1.0, 1.0));
    reload(&mut server, &store, "");
    assert_eq!(server.narinfo(&path).compression, Compression::None);
    // A client remembers for a month what it was told.
    let whole = http::get(server.address(), &target);
    assert!(whole.complete && whole.body == packed);
    let rest = part(&server, &target, 1000);
    assert_eq!(rest.status, 206);
    assert!(rest.body == packed[1000..]);
    assert_eq!(asked(&server, "alone"), 2.0);
    reload(&mut server, &store, ON);
    assert!(http::get(server.address(), &target).body == packed);
    assert_eq!(asked(&server, "kept"), 2.0, "what is there of before is used");
}
