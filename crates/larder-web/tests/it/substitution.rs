//! Each Nix version fetches from us what it should, and refuses what it should.

use larder_testkit::{Nix, NixVersion, TestStore, Tree};

use crate::support::{Key, Server, client, nix_dump, realise, signing, with_every_client};

with_every_client!(
    a_closure_is_substituted_whole_and_unaltered,
    what_nobody_signed_is_refused_unless_it_is_content_addressed,
    a_key_that_is_not_trusted_is_refused,
    any_one_of_several_keys_is_enough,
    the_signatures_a_path_has_are_kept,
    encoded_nars_are_understood,
);

fn fleet_store() -> TestStore {
    TestStore::new(NixVersion::V2_34)
}

fn a_closure_is_substituted_whole_and_unaltered(version: NixVersion) {
    let store = fleet_store();
    let chain = store.add_closure("chain", 3, 50_000);
    let odd = store.add_tree_referring("odd", &Tree::odd(), &chain[2..]);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &signing(&[&key]));
    let client = client(version, &server.url(), &[&key.public]);
    let _ = realise(&client, &odd).success();
    assert_eq!(client.closure(&odd), store.closure(&odd));
    for path in client.closure(&odd) {
        assert!(nix_dump(&client, &path) == nix_dump(&store, &path), "{path}");
    }
    let _ = client.nix(&["nix-store", "--verify", "--check-contents"]).success();
}

fn what_nobody_signed_is_refused_unless_it_is_content_addressed(version: NixVersion) {
    let store = fleet_store();
    let built = store.add_tree("built", &Tree::new().file("a", b"a".as_slice()));
    let source = store.add_source("source", &Tree::new().file("a", b"a".as_slice()));
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::of(&store);
    let client = client(version, &server.url(), &[&key.public]);
    let refused = realise(&client, &built).failure();
    assert!(refused.stderr.contains("signed by any"), "{refused}");
    assert!(!client.is_valid(&built));
    let _ = realise(&client, &source).success();
}

fn a_key_that_is_not_trusted_is_refused(version: NixVersion) {
    let store = fleet_store();
    let path = store.add_tree("built", &Tree::new().file("a", b"a".as_slice()));
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let namesake = Key::new(&store.work_dir(), "cache-1", 2);
    let stranger = Key::new(&store.work_dir(), "other-1", 3);
    let server = Server::with(&store, &signing(&[&key]));
    let client = client(version, &server.url(), &[&namesake.public, &stranger.public]);
    let refused = realise(&client, &path).failure();
    assert!(refused.stderr.contains("signed by any"), "{refused}");
    assert!(!client.is_valid(&path));
}

fn any_one_of_several_keys_is_enough(version: NixVersion) {
    let store = fleet_store();
    let path = store.add_tree("built", &Tree::new().file("a", b"a".as_slice()));
    let keys = [1, 2].map(|n| Key::new(&store.work_dir(), &format!("cache-{n}"), n));
    let server = Server::with(&store, &signing(&[&keys[0], &keys[1]]));
    for key in &keys {
        let client = client(version, &server.url(), &[&key.public]);
        let _ = realise(&client, &path).success();
    }
    assert_eq!(server.narinfo(&path).signatures.len(), 2);
}

fn the_signatures_a_path_has_are_kept(version: NixVersion) {
    let store = fleet_store();
    let path = store.add_tree("built", &Tree::new().file("a", b"a".as_slice()));
    let upstream = Key::new(&store.work_dir(), "upstream-1", 1);
    let own = Key::new(&store.work_dir(), "cache-1", 2);
    let file = upstream.file.display().to_string();
    let _ = store.nix(&["nix", "store", "sign", "--key-file", &file, &path]).success();
    let unsigning = Server::of(&store);
    let server = Server::with(&store, &signing(&[&own]));
    for url in [unsigning.url(), server.url()] {
        let client = client(version, &url, &[&upstream.public]);
        let _ = realise(&client, &path).success();
    }
    let names: Vec<String> =
        server.narinfo(&path).signatures.iter().map(|one| one.key_name().to_owned()).collect();
    assert_eq!(names, ["cache-1", "upstream-1"]);
}

fn encoded_nars_are_understood(version: NixVersion) {
    let store = fleet_store();
    let tree = (0..20).fold(Tree::new(), |tree, n| {
        tree.file(format!("f{n}"), "the same words again\n".repeat(5000))
    });
    let path = store.add_tree("text", &tree);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let lines = format!("{}\ncompress-nars = true", signing(&[&key]));
    let server = Server::with(&store, &lines);
    let client = client(version, &server.url(), &[&key.public]);
    let _ = realise(&client, &path).success();
    assert!(nix_dump(&client, &path) == nix_dump(&store, &path));
}
