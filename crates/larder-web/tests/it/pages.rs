//! What people and their tools see besides store paths.

use std::collections::BTreeSet;

use larder_formats::cache_info::CacheInfo;
use larder_testkit::{NixVersion, TestStore, Tree};
use serde_json::{Value, json};

use crate::{
    http,
    support::{Key, Server, signing},
};

fn store() -> TestStore {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    store
}

#[test]
fn the_landing_page_shows_the_real_keys_and_the_address_it_was_asked_by() {
    let store = store();
    let keys = [1, 2].map(|n| Key::new(&store.work_dir(), &format!("cache-{n}"), n));
    let server = Server::with(&store, &signing(&[&keys[0], &keys[1]]));
    let answer = http::get(server.address(), "/");
    let page = answer.text();
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    for key in &keys {
        assert!(page.contains(&key.public), "{page}");
    }
    let secret = std::fs::read_to_string(&keys[0].file).unwrap();
    assert!(!page.contains(&secret[..secret.len() - 44]), "a secret key on a page");
    assert!(page.contains("extra-substituters = http://test\n"), "{page}");
    assert!(!page.contains("It signs nothing"), "{page}");
}

#[test]
fn a_page_without_keys_says_what_is_missing() {
    let store = store();
    let server = Server::of(&store);
    let page = http::get(server.address(), "/").text();
    assert!(page.contains("It signs nothing: "), "{page}");
    assert!(!page.contains("trusted-public-keys"), "{page}");
}

#[test]
fn a_hostile_host_header_does_not_reach_the_page() {
    let store = store();
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &signing(&[&key]));
    for host in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "evil\" ]; trusted-users = [ \"*",
        "a b",
        "a/b",
        "a%0ab",
        "a${builtins.abort}",
        "\u{fc}mlaut",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let bytes = http::ask(server.address(), request.as_bytes());
        let answer = http::Answer::parse(&bytes, false).unwrap();
        assert!(answer.status == 200 || answer.status == 400, "{host}: {}", answer.status);
        if answer.status == 200 {
            let page = answer.text();
            assert!(page.contains("http://this-server:5000"), "{host}: {page}");
            assert!(!page.contains(host) && !page.contains("<script"), "{host}: {page}");
            assert!(answer.header("content-security-policy").is_some());
        }
    }
}

#[test]
fn the_cache_says_what_it_is() {
    let store = store();
    let server = Server::with(&store, "priority = 17");
    let answer = http::get(server.address(), "/nix-cache-info");
    assert_eq!(answer.header("content-type"), Some("text/x-nix-cache-info"));
    let info = CacheInfo::parse(&answer.text()).unwrap();
    assert_eq!(
        (info.store_dir.as_str(), info.want_mass_query, info.priority),
        ("/nix/store", true, 17)
    );
}

#[test]
fn health_and_version_are_told() {
    let store = store();
    let server = Server::of(&store);
    let health = http::get(server.address(), "/health");
    assert_eq!((health.status, health.text().as_str()), (200, "ok\n"));
    let version: Value =
        serde_json::from_str(&http::get(server.address(), "/version").text()).unwrap();
    let told = larder_testkit::Program::new(larder_testkit::process::built_program("larder"))
        .arg("--version")
        .run()
        .success();
    let number = told.text().strip_prefix("larder ").unwrap().to_owned();
    assert_eq!(version, json!({ "name": "larder", "version": number }));
}

#[test]
fn a_server_that_never_built_anything_has_an_empty_fleet() {
    let store = store();
    let server = Server::of(&store);
    let fleet = http::get(server.address(), "/fleet");
    assert_eq!(fleet.status, 200);
    assert_eq!(serde_json::from_str::<Value>(&fleet.text()).unwrap(), json!({ "hosts": [] }));
    let statuses: BTreeSet<u16> = ["/fleet/a.json", "/fleet/a.rev", "/fleet/a", "/fleet/"]
        .iter()
        .map(|target| http::get(server.address(), target).status)
        .collect();
    assert_eq!(statuses, BTreeSet::from([404]));
}
