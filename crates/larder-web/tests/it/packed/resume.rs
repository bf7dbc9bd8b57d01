//! A download of a packed NAR that breaks off goes on, whatever became of the server and the file meanwhile.

use std::fs;

use larder_testkit::{Nix, NixVersion};

use super::{ON, add, begin, kept, kept_soon, part, rest, store_with, unpacked};
use crate::{
    http,
    proxy::{Fault, Proxy},
    support::{Key, Server, client, configure, nix_dump, realise, signing, with_every_client},
};

const MIB: u64 = 1024 * 1024;

with_every_client!(
    a_download_that_was_cut_is_resumed_while_it_is_packed_and_when_it_is_kept,
    a_server_killed_in_the_middle_and_started_again_gives_the_rest,
    a_half_is_never_completed_with_one_that_was_packed_in_another_way,
);

/// Slow enough to be packed for some seconds.
const SLOW: &str = "packed-nars-level = 19";

fn a_download_that_was_cut_is_resumed_while_it_is_packed_and_when_it_is_kept(version: NixVersion) {
    let (store, path) = store_with(8 * MIB as usize);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &format!("{}\n{ON}\n{SLOW}", signing(&[&key])));
    for _ in 0..2 {
        let proxy = Proxy::new(server.address(), Fault::Cut(3 * MIB));
        let client = client(version, &proxy.url(), &[&key.public]);
        let _ = realise(&client, &path).success();
        proxy.wait();
        assert!(nix_dump(&client, &path) == nix_dump(&store, &path));
        let asked = proxy.asked();
        let ranges: Vec<&String> = asked.iter().filter(|line| line.starts_with("Range:")).collect();
        assert_eq!(ranges.len(), 1, "{asked:?}");
        let size = server.narinfo(&path).file_size.unwrap();
        let wire = proxy.bytes_down();
        assert!((size..size + 128 * 1024).contains(&wire), "{wire} for {size}; {ranges:?}");
    }
}

fn a_server_killed_in_the_middle_and_started_again_gives_the_rest(version: NixVersion) {
    let (store, path) = store_with(8 * MIB as usize);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let mut server = Server::with(&store, &format!("{}\n{ON}\n{SLOW}", signing(&[&key])));
    let proxy = Proxy::new(server.address(), Fault::Hold(2 * MIB));
    let client = client(version, &proxy.url(), &[&key.public]);
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| realise(&client, &path));
        proxy.wait();
        server.process().kill();
        let _ = fs::remove_dir_all(server.folder().join("state/packed-nars"));
        server.restart();
        proxy.release();
        let _ = fetching.join().unwrap().success();
    });
    assert!(nix_dump(&client, &path) == nix_dump(&store, &path));
}

fn a_half_is_never_completed_with_one_that_was_packed_in_another_way(version: NixVersion) {
    let (store, path) = store_with(6 * MIB as usize);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let lines = format!("{}\n{ON}", signing(&[&key]));
    let mut server = Server::with(&store, &lines);
    let address = server.address().to_owned();
    let proxy = Proxy::new(&address, Fault::Hold(2 * MIB));
    let client = client(version, &proxy.url(), &[&key.public]);
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| realise(&client, &path));
        proxy.wait();
        server.process().kill();
        let folder = server.folder().to_owned();
        fs::remove_dir_all(folder.join("state/packed-nars")).unwrap();
        configure(&folder, &store.uri(), &format!("listen = [\"{address}\"]\n{lines}\n{SLOW}"));
        server.restart();
        proxy.release();
        let refused = fetching.join().unwrap().failure();
        assert!(refused.stderr.contains("Requested range was not delivered"), "{refused}");
    });
    assert!(!client.is_valid(&path));
    // With the address that is told now it succeeds.
    let fresh = super::client(version, &server.url(), &[&key.public]);
    let _ = realise(&fresh, &path).success();
}

#[test]
fn a_part_that_is_not_packed_yet_comes_when_it_is() {
    let (store, path) = store_with(4 * MIB as usize);
    let server = Server::with(&store, &format!("{ON}\n{SLOW}"));
    let target = server.nar_target(&path);
    let first = begin(&server, &target, 20_000);
    assert!(kept(&server).is_empty(), "it is under way still");
    let far = 4 * MIB as usize;
    let later = part(&server, &target, far);
    let whole = rest(first);
    assert_eq!((whole.status, whole.header("content-length")), (200, None));
    assert_eq!(later.status, 206);
    let said = format!("bytes {far}-{}/{}", whole.body.len() - 1, whole.body.len());
    assert_eq!(later.header("content-range"), Some(said.as_str()));
    assert!(later.body == whole.body[far..] && unpacked(&whole.body) == nix_dump(&store, &path));
    let _ = kept_soon(&server, 1);
    let behind = part(&server, &target, whole.body.len());
    assert_eq!(behind.status, 416);
}

#[test]
fn what_was_dropped_is_packed_to_the_same_bytes_again() {
    let (store, path) = store_with(2 * MIB as usize);
    let server = Server::with(&store, ON);
    let target = server.nar_target(&path);
    let first = http::get(server.address(), &target);
    for file in kept_soon(&server, 1) {
        fs::remove_file(file).unwrap();
    }
    let etag = first.header("etag").unwrap();
    let headers = [("Range", "bytes=1000000-"), ("If-Range", etag)];
    let again = http::request(server.address(), "GET", &target, &headers);
    assert_eq!(again.status, 206);
    assert!(again.body == first.body[1_000_000..]);
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_packing_for_others() {
    let (store, path) = store_with(4 * MIB as usize);
    let other = add(&store, "other", 5, 1000);
    let server = Server::with(&store, &format!("{ON}\n{SLOW}"));
    let target = server.nar_target(&path);
    drop(begin(&server, &target, 20_000));
    let quick = http::get(server.address(), &server.nar_target(&other));
    assert!(quick.complete);
    assert_eq!(kept_soon(&server, 2).len(), 2, "it was not given up");
    assert!(unpacked(&http::get(server.address(), &target).body) == nix_dump(&store, &path));
}
