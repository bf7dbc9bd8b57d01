//! Who may do what: by netrc or bearer, for one cache or another, until it is over or called back.

use std::time::{Duration, Instant};

use larder_testkit::{NixVersion, TestStore, Tree, scratch::scratch};

use super::{NO_UPSTREAMS, cache, larder, put, put_path, serving, token, upload};
use crate::{
    http,
    support::{Server, client, realise},
};

/// `Basic`, as netrc files make curl send it.
fn basic(token: &str) -> String {
    let encoded = base64(format!("somebody:{token}").as_bytes());
    format!("Basic {encoded}")
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

fn read_with(server: &Server, target: &str, authorization: &str) -> u16 {
    http::request(server.address(), "GET", target, &[("Authorization", authorization)]).status
}

#[test]
fn a_token_opens_its_cache_in_both_ways_of_showing_it_and_no_other() {
    let folder = scratch("cache");
    let place = |name: &str| folder.path().join(name).display().to_string();
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("first", &Tree::new());
    let caches = cache("main", &place("main"), "private = true")
        + &cache("other", &place("other"), "private = true")
        + NO_UPSTREAMS;
    let server = Server::with(&store, &caches);
    let secret = token(&server, &["--write"]);
    let it = upload("one", &[]);
    assert_eq!(put_path(&server, &secret, &it).status, 201);
    let target = it.info_target();
    for authorization in [format!("Bearer {secret}"), format!("bearer  {secret}"), basic(&secret)] {
        assert_eq!(read_with(&server, &target, &authorization), 200, "{authorization}");
        let elsewhere = target.replace("/main/", "/other/");
        assert_eq!(read_with(&server, &elsewhere, &authorization), 401);
    }
    for authorization in ["", "Bearer", "Bearer x", "Basic", "Basic !", "Digest x", &basic("x")] {
        assert_eq!(read_with(&server, &target, authorization), 401, "{authorization}");
    }
    let refused = http::get(server.address(), &target);
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").unwrap().starts_with("Basic realm="));
    assert!(refused.text().contains("larder token create"));
    // What the store itself has, everybody reads.
    assert_eq!(http::get(server.address(), "/nix-cache-info").status, 200);
    assert_eq!(http::get(server.address(), "/main/nix-cache-info").status, 401);
}

#[test]
fn reading_tokens_read_and_writing_tokens_do_both() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "private = true");
    let (reads, writes) = (token(&server, &["--read"]), token(&server, &["--write"]));
    let it = upload("one", &[]);
    let refused = put(&server, &reads, &it.nar_target(), &it.file);
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("--write"));
    assert_eq!(put_path(&server, &writes, &it).status, 201);
    for token in [&reads, &writes] {
        let nar = read_with(&server, &it.nar_target(), &format!("Bearer {token}"));
        assert_eq!((nar, read_with(&server, &it.info_target(), &basic(token))), (200, 200));
    }
}

#[test]
fn a_public_cache_asks_for_no_token_and_minds_none_that_is_anothers() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "");
    let it = upload("one", &[]);
    assert_eq!(put_path(&server, &token(&server, &["--write"]), &it).status, 201);
    assert_eq!(http::get(server.address(), &it.info_target()).status, 200);
    // A netrc has one password for a host, whatever it is for.
    assert_eq!(read_with(&server, &it.info_target(), &basic("hunter2")), 200);
    assert_eq!(put(&server, "", &it.nar_target(), &it.file).status, 401);
}

#[test]
fn a_cache_that_others_may_not_read_is_private_unless_it_is_said() {
    for (lines, status) in [
        ("readable-by-others = false", 401),
        ("readable-by-others = false\nprivate = false", 404),
        ("", 404),
    ] {
        let folder = scratch("cache");
        let (_store, server) = serving(&folder.path().join("cache"), lines);
        let target = "/main/00000000000000000000000000000000.narinfo";
        assert_eq!(http::get(server.address(), target).status, status, "{lines}");
    }
}

#[test]
fn a_token_is_over_when_it_says_so() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "private = true");
    let secret = token(&server, &["--read", "--expires", "3s"]);
    let target = "/main/nix-cache-info";
    assert_eq!(read_with(&server, target, &basic(&secret)), 200);
    std::thread::sleep(Duration::from_secs(4));
    let refused = http::request(
        server.address(),
        "GET",
        target,
        &[("Authorization", &format!("Bearer {secret}"))],
    );
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("expired"), "{}", refused.text());
    let listed = larder(&server, &["token", "list"]).run().success();
    assert!(listed.stdout.contains("expired") && !listed.stdout.contains(&secret), "{listed}");
}

#[test]
fn a_revoked_token_is_refused_by_every_server_within_a_minute() {
    let folder = scratch("cache");
    let place = folder.path().join("cache");
    let (_store, one) = serving(&place, "private = true");
    let (_other_store, other) = serving(&place, "private = true");
    let secret = token(&one, &["--read", "--name", "laptop"]);
    let target = "/main/nix-cache-info";
    for server in [&one, &other] {
        assert_eq!(read_with(server, target, &basic(&secret)), 200);
    }
    let id = secret.split('_').nth(1).unwrap();
    let revoked = larder(&one, &["token", "revoke", id]).run().success();
    assert_eq!(revoked.text(), format!("main: {id} is revoked"));
    let began = Instant::now();
    for server in [&one, &other] {
        while read_with(server, target, &basic(&secret)) != 401 {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    let listed = larder(&one, &["token", "list", "--json"]).run().success();
    let listed: serde_json::Value = serde_json::from_str(listed.text()).unwrap();
    assert_eq!((&listed["name"], &listed["read"]), (&"laptop".into(), &true.into()));
    assert!(listed["revoked"].is_string());
    let unknown = larder(&one, &["token", "revoke", "0000000000000000"]).run().failure();
    assert!(unknown.stderr.contains("there is no token"), "{unknown}");
}

#[test]
fn nix_reads_a_private_cache_with_its_netrc() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "private = true");
    let it = upload("one", &[]);
    // A server that has just looked does not look for a new one within five seconds.
    let (writes, reads) = (token(&server, &["--write"]), token(&server, &["--read"]));
    assert_eq!(put_path(&server, &writes, &it).status, 201);
    for version in NixVersion::all() {
        let client = client(version, &format!("{}/main", server.url()), &[]);
        let _ = realise(&client, &it.path).failure();
        let netrc = client.work_dir().join("netrc");
        let line = format!("machine 127.0.0.1 login x password {reads}\n");
        std::fs::write(&netrc, line).unwrap();
        client.configure(&format!(
            "substituters = {}/main\nnetrc-file = {}",
            server.url(),
            netrc.display()
        ));
        // What it was refused before it remembers, but not beyond an hour: a new home.
        let home = client.work_dir().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let realise = larder_testkit::Nix::program(&client, "nix-store").env("HOME", &home);
        let _ = realise.args(["--realise", &it.path]).run().success();
    }
}

#[test]
fn tokens_are_for_something_and_for_caches_that_are_there() {
    let folder = scratch("cache");
    let (_store, server) = serving(&folder.path().join("cache"), "");
    for (words, says) in [
        (["token", "create", "--cache", "main"].as_slice(), "`--read`, `--write` or both"),
        (&["token", "create", "--cache", "mian", "--read"], "Configured: main"),
        (&["token", "create", "--cache", "main", "--read", "--expires", "soon"], "soon"),
        (&["token", "create", "--cache", "main", "--read", "--name", "a b"], "1 to 64 letters"),
        (&["token", "revoke", "x"], "16 characters"),
    ] {
        let refused = larder(&server, words).run().failure();
        assert!(refused.stderr.contains(says), "{refused}");
    }
}
