//! Upstreams that say what is not so: nothing of it reaches a store, and what another one has is had all the same.

use std::fs;

use larder_testkit::{NixVersion, Tree, tree::random_bytes};

use super::{Asked, Origin, Proxy, asked, fetches};
use crate::{
    http,
    support::{Key, client, nix_dump, parse, realise, with_every_client},
};

with_every_client!(
    a_wrong_nar_is_taken_from_elsewhere,
    a_wrong_large_nar_is_never_whole_and_is_taken_from_elsewhere_next,
    a_path_signed_by_another_key_is_not_believed,
    a_narinfo_of_another_path_is_not_believed,
);

/// Two caches with the same path, of which the first has another NAR's bytes under the right name.
fn with_wrong_nar(size: usize) -> (Origin, Origin, String) {
    let (bad, good) = (Origin::new("bad", 1), Origin::new("good", 2));
    let top = good.store.add_tree("top", &Tree::new().file("x", random_bytes(1, size)));
    let other = good.store.add_tree("other", &Tree::new().file("x", random_bytes(2, size)));
    for origin in [&bad, &good] {
        origin.publish(&good.store, &top, "none");
    }
    bad.publish(&good.store, &other, "none");
    fs::copy(bad.nar(&other), bad.nar(&top)).unwrap();
    (bad, good, top)
}

fn a_wrong_nar_is_taken_from_elsewhere(version: NixVersion) {
    let (bad, good, top) = with_wrong_nar(2 << 20);
    let nginx = (bad.served(), good.served());
    let urls = ([nginx.0.url()], [nginx.1.url()]);
    let upstreams = [
        Asked { name: "bad", urls: &urls.0, key: &bad.key },
        Asked { name: "good", urls: &urls.1, key: &good.key },
    ];
    let proxy = Proxy::of(&upstreams, "keep-size = \"1GB\"");
    let reader = client(version, &proxy.url(), &[&bad.key.public]);
    let _ = realise(&reader, &top).success();
    assert!(nix_dump(&reader, &top) == nix_dump(&good.store, &top));
    assert_eq!(proxy.status()["upstreams"][1]["addresses"][0]["bytes"].as_u64().unwrap() >> 20, 2);
}

fn a_wrong_large_nar_is_never_whole_and_is_taken_from_elsewhere_next(version: NixVersion) {
    let (bad, good, top) = with_wrong_nar(12 << 20);
    let nginx = (bad.served(), good.served());
    let urls = ([nginx.0.url()], [nginx.1.url()]);
    let upstreams = [
        Asked { name: "bad", urls: &urls.0, key: &bad.key },
        Asked { name: "good", urls: &urls.1, key: &good.key },
    ];
    let proxy = Proxy::of(&upstreams, "keep-size = \"1GB\"");
    let info = http::get(&proxy.address, &format!("/{}.narinfo", parse(&top).hash())).text();
    let url = info.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    let first = http::get(&proxy.address, &format!("/{url}"));
    assert!(!first.complete, "bytes that were passed on were wrong, so the last never comes");
    let reader = client(version, &proxy.url(), &[&bad.key.public]);
    let _ = realise(&reader, &top).success();
    assert!(nix_dump(&reader, &top) == nix_dump(&good.store, &top));
}

fn a_path_signed_by_another_key_is_not_believed(version: NixVersion) {
    let origin = Origin::new("origin", 1);
    let top = origin.store.add_tree("top", &Tree::new().file("x", "y"));
    origin.publish(&origin.store, &top, "zstd");
    let nginx = origin.served();
    let urls = [nginx.url()];
    let key = Key::new(origin.folder.path(), "origin-1", 9);
    let own = Key::new(origin.folder.path(), "own-1", 8);
    let lines = format!("signing-keys = [{:?}]", own.file.display().to_string());
    let proxy = Proxy::of(&[Asked { name: "origin", urls: &urls, key: &key }], &lines);
    proxy.wait_until(&["up"]);
    let reader = client(version, &proxy.url(), &[&own.public, &origin.key.public]);
    let _ = realise(&reader, &top).failure();
    assert_eq!(proxy.status()["upstreams"][0]["addresses"][0]["untrusted"], 1);
    // With the right key it is, and the proxy's own signature is all that a client needs.
    let proxy = Proxy::of(&[Asked { name: "origin", urls: &urls, key: &origin.key }], &lines);
    let reader = client(version, &proxy.url(), &[&own.public]);
    let _ = realise(&reader, &top).success();
}

#[test]
fn what_was_kept_is_not_believed_when_its_key_is_not_any_more() {
    let origin = Origin::new("origin", 1);
    let top = origin.store.add_tree("top", &Tree::new().file("x", random_bytes(1, 90_000)));
    origin.publish(&origin.store, &top, "xz");
    let nginx = origin.served();
    let urls = [nginx.url()];
    let lines = "keep-size = \"1GB\"";
    let asked_of = |key| [Asked { name: "origin", urls: &urls, key }];
    let mut proxy = Proxy::of(&asked_of(&origin.key), lines);
    fetches(NixVersion::V2_34, &proxy.url(), &origin, &top);
    let kept = proxy.kept().join(format!("{}.narinfo", parse(&top).hash()));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !kept.exists() {
        assert!(std::time::Instant::now() < end, "it is not kept");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let other = Key::new(origin.folder.path(), "origin-2", 9);
    proxy.reload(&asked_of(&other), lines);
    assert_eq!(asked(&proxy, &top).0, 404);
    proxy.reload(&asked_of(&origin.key), lines);
}

fn a_narinfo_of_another_path_is_not_believed(version: NixVersion) {
    let (bad, good) = (Origin::new("bad", 1), Origin::new("good", 2));
    let top = good.store.add_tree("top", &Tree::new().file("x", "right"));
    let other = good.store.add_tree("other", &Tree::new().file("x", "wrong"));
    for path in [&top, &other] {
        bad.publish(&good.store, path, "zstd");
    }
    good.publish(&good.store, &top, "zstd");
    fs::copy(bad.narinfo(&other), bad.narinfo(&top)).unwrap();
    let nginx = (bad.served(), good.served());
    let urls = ([nginx.0.url()], [nginx.1.url()]);
    let upstreams = [
        Asked { name: "bad", urls: &urls.0, key: &bad.key },
        Asked { name: "good", urls: &urls.1, key: &good.key },
    ];
    let proxy = Proxy::of(&upstreams, "");
    fetches(version, &proxy.url(), &good, &top);
    let alone = Proxy::of(&upstreams[..1], "");
    assert_eq!(asked(&alone, &top).0, 404);
}
