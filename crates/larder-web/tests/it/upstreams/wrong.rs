//! Upstreams that say what is not so: nothing of it reaches a store, and what another one has is had all the same.

use std::fs;

use larder_testkit::{BadLine, Fault, NixVersion, Tree, tree::random_bytes};

use super::{Asked, KEEPING, Origin, Proxy, fetches};
use crate::{
    http,
    support::{Key, client, nix_dump, realise, with_every_client},
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
    let upstreams =
        [Asked::at("bad", nginx.0.url(), &bad.key), Asked::at("good", nginx.1.url(), &good.key)];
    let proxy = Proxy::of(&upstreams, KEEPING);
    let reader = client(version, &proxy.url(), &[&bad.key.public]);
    let _ = realise(&reader, &top).success();
    assert!(nix_dump(&reader, &top) == nix_dump(&good.store, &top));
    assert_eq!(proxy.status()["upstreams"][1]["addresses"][0]["bytes"].as_u64().unwrap() >> 20, 2);
}

#[test]
fn who_goes_on_behind_wrong_bytes_is_not_blamed_for_them() {
    let (bad, good, top) = with_wrong_nar(2 << 20);
    let nginx = (bad.served(), good.served());
    let line = BadLine::to(&format!("127.0.0.1:{}", nginx.0.port()));
    line.obey(|_| Fault::CutAnswer(1 << 20));
    let upstreams = [
        Asked::at("bad", format!("http://{}", line.address()), &bad.key),
        Asked::at("good", nginx.1.url(), &good.key),
    ];
    let proxy = Proxy::of(&upstreams, KEEPING);
    let nar = http::get(&proxy.address, &proxy.nar(&top));
    assert!(nar.complete && nar.body == nix_dump(&good.store, &top), "{}", nar.status);
}

fn a_wrong_large_nar_is_never_whole_and_is_taken_from_elsewhere_next(version: NixVersion) {
    let (bad, good, top) = with_wrong_nar(12 << 20);
    let nginx = (bad.served(), good.served());
    let upstreams =
        [Asked::at("bad", nginx.0.url(), &bad.key), Asked::at("good", nginx.1.url(), &good.key)];
    let proxy = Proxy::of(&upstreams, KEEPING);
    let first = http::get(&proxy.address, &proxy.nar(&top));
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
    let key = Key::new(origin.folder.path(), "origin-1", 9);
    let own = Key::new(origin.folder.path(), "own-1", 8);
    let lines = format!("signing-keys = [{:?}]", own.file.display().to_string());
    let proxy = Proxy::of(&[Asked::at("origin", nginx.url(), &key)], &lines);
    proxy.wait_until(&["up"]);
    let reader = client(version, &proxy.url(), &[&own.public, &origin.key.public]);
    let _ = realise(&reader, &top).failure();
    assert_eq!(proxy.status()["upstreams"][0]["addresses"][0]["untrusted"], 1);
    // With the right key it is, and the proxy's own signature is all that a client needs.
    let proxy = Proxy::of(&[Asked::at("origin", nginx.url(), &origin.key)], &lines);
    let reader = client(version, &proxy.url(), &[&own.public]);
    let _ = realise(&reader, &top).success();
}

#[test]
fn what_was_kept_is_not_believed_when_its_key_is_not_any_more() {
    let origin = Origin::new("origin", 1);
    let top = origin.store.add_tree("top", &Tree::new().file("x", random_bytes(1, 90_000)));
    origin.publish(&origin.store, &top, "xz");
    let nginx = origin.served();
    let asked_of = |key| [Asked::at("origin", nginx.url(), key)];
    let mut proxy = Proxy::of(&asked_of(&origin.key), KEEPING);
    fetches(NixVersion::V2_34, &proxy.url(), &origin, &top);
    let _ = proxy.wait_for_kept(1);
    let other = Key::new(origin.folder.path(), "origin-2", 9);
    proxy.reload(&asked_of(&other), KEEPING);
    assert_eq!(proxy.asked(&top), 404);
    proxy.reload(&asked_of(&origin.key), KEEPING);
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
    let upstreams =
        [Asked::at("bad", nginx.0.url(), &bad.key), Asked::at("good", nginx.1.url(), &good.key)];
    let proxy = Proxy::of(&upstreams, "");
    fetches(version, &proxy.url(), &good, &top);
    let alone = Proxy::of(&upstreams[..1], "");
    assert_eq!(alone.asked(&top), 404);
}
