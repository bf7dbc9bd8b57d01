//! A broken download goes on where it broke off: the bytes on the wire are counted.

use larder_testkit::{Nix, NixVersion, TestStore, Tree, tree::random_bytes};
use rustix::process::Signal;

use crate::{
    proxy::{Fault, Proxy},
    support::{Key, Server, client, nix_dump, realise, signing, with_every_client},
};

const MIB: u64 = 1024 * 1024;

with_every_client!(
    a_download_that_was_cut_is_resumed_and_not_begun_again,
    a_server_killed_in_the_middle_of_a_nar_and_started_again_serves_the_rest,
);

fn large(store: &TestStore) -> String {
    let tree = (0..8)
        .fold(Tree::new(), |tree, n| tree.file(format!("f{n}"), random_bytes(n, MIB as usize)));
    store.add_tree("large", &tree)
}

fn a_download_that_was_cut_is_resumed_and_not_begun_again(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let path = large(&store);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &signing(&[&key]));
    let proxy = Proxy::new(server.address(), Fault::Cut(5 * MIB));
    let client = client(version, &proxy.url(), &[&key.public]);
    let _ = realise(&client, &path).success();
    proxy.wait();
    let size = nix_dump(&store, &path).len() as u64;
    assert!(nix_dump(&client, &path).len() as u64 == size);
    let _ = client.nix(&["nix-store", "--verify-path", &path]).success();
    let asked = proxy.asked();
    let ranges: Vec<&String> = asked.iter().filter(|line| line.starts_with("Range:")).collect();
    assert_eq!(ranges.len(), 1, "{asked:?}");
    let wire = proxy.bytes_down();
    assert!(
        (size..size + 64 * 1024).contains(&wire),
        "{wire} bytes on the wire for a NAR of {size}; {ranges:?}"
    );
}

fn a_server_killed_in_the_middle_of_a_nar_and_started_again_serves_the_rest(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let path = large(&store);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let mut server = Server::with(&store, &signing(&[&key]));
    let proxy = Proxy::new(server.address(), Fault::Hold(3 * MIB));
    let client = client(version, &proxy.url(), &[&key.public]);
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| realise(&client, &path));
        proxy.wait();
        server.process().kill();
        server.restart();
        proxy.release();
        let _ = fetching.join().unwrap().success();
    });
    assert!(nix_dump(&client, &path) == nix_dump(&store, &path));
    server.process().signal(Signal::TERM);
}
