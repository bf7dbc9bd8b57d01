//! What goes wrong with one path ends the answers about that path, and nothing else.

use std::io::{Read, Write};

use larder_formats::store_path::StoreDir;
use larder_testkit::{Nix, NixVersion, TestStore, Tree, tree::random_bytes};

use crate::{
    http,
    support::{Key, Server, nix_dump, parse, signing},
};

#[test]
fn a_path_collected_in_the_middle_of_its_answer_ends_that_answer_alone() {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = |seed: u64| {
        (0..30).fold(Tree::new(), |tree, n| {
            tree.file(format!("f{n:02}"), random_bytes(seed + n, 1_000_000))
        })
    };
    let doomed = store.add_source("doomed", &tree(1));
    let kept = store.add_source("kept", &tree(100));
    let mut server = Server::of(&store);
    let begin = |target: &str| {
        let mut stream = http::connect(server.address());
        stream.write_all(&http::message("GET", target, &[])).unwrap();
        let mut received = vec![0; 50_000];
        stream.read_exact(&mut received).unwrap();
        (stream, received)
    };
    let (mut first, mut first_received) = begin(&server.nar_target(&doomed));
    let (mut second, mut second_received) = begin(&server.nar_target(&kept));
    let nar = nix_dump(&store, &doomed);
    let _ = store.nix(&["nix-store", "--delete", &doomed]).success();
    first_received.extend(http::rest(&mut first));
    let cut = http::Answer::parse(&first_received, false).unwrap();
    assert_eq!(cut.status, 200);
    assert!(!cut.complete, "it must not look whole");
    assert!(nar.starts_with(&cut.body), "what came was right as far as it went");
    second_received.extend(http::rest(&mut second));
    let whole = http::Answer::parse(&second_received, false).unwrap();
    assert!(whole.complete && whole.body == nix_dump(&store, &kept));
    let gone = http::get(server.address(), &format!("/{}.narinfo", parse(&doomed).hash()));
    assert_eq!(gone.status, 404);
    assert!(server.process().is_running());
    let log = server.process().output();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn an_encoded_answer_about_a_collected_path_does_not_look_whole_either() {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = (0..30)
        .fold(Tree::new(), |tree, n| tree.file(format!("f{n:02}"), random_bytes(n, 1_000_000)));
    let path = store.add_source("doomed", &tree);
    let server = Server::with(&store, "compress-nars = true");
    let mut stream = http::connect(server.address());
    let target = server.nar_target(&path);
    stream.write_all(&http::message("GET", &target, &[("Accept-Encoding", "zstd")])).unwrap();
    let mut received = vec![0; 50_000];
    stream.read_exact(&mut received).unwrap();
    let _ = store.nix(&["nix-store", "--delete", &path]).success();
    received.extend(http::rest(&mut stream));
    let answer = http::Answer::parse(&received, false).unwrap();
    assert_eq!(answer.header("content-encoding"), Some("zstd"));
    assert!(!answer.complete);
}

#[test]
fn a_path_built_again_with_other_bytes_is_served_and_signed_as_it_is_now() {
    let store = TestStore::new(NixVersion::V2_34);
    let shell = store.work_dir().join("../tools").canonicalize().unwrap();
    let expression = format!(
        "derivation {{ name = \"random\"; system = \"{}\"; builder = \"${{{}}}/busybox\"; \
         args = [ \"sh\" \"-c\" \"read line < /proc/sys/kernel/random/uuid; echo $line > $out\" ]; }}",
        larder_testkit::nix::system(),
        shell.display()
    );
    // A store has its database from its first path on.
    let _ = store.build_expr(&expression);
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &signing(&[&key]));
    let trusted = [key.public.parse().unwrap()];
    let build = || {
        let path = store.build_expr(&expression).pop().unwrap();
        let info = server.narinfo(&path);
        assert!(info.is_trusted_by(&StoreDir::default(), &trusted));
        let nar = http::get(server.address(), &format!("/{}", info.url));
        assert!(nar.body == nix_dump(&store, &path));
        (path, info)
    };
    let (path, before) = build();
    let _ = store.nix(&["nix-store", "--delete", &path]).success();
    let (again, after) = build();
    assert_eq!(again, path);
    assert_ne!(after.nar_hash, before.nar_hash, "so that there is something to tell apart");
    assert_eq!(http::get(server.address(), &format!("/{}", before.url)).status, 404);
}

#[test]
fn a_path_whose_files_are_gone_is_no_error_of_the_servers() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("lost", &Tree::new().file("a", b"a".as_slice()));
    let server = Server::of(&store);
    let target = server.nar_target(&path);
    std::fs::remove_dir_all(store.real_path(&path)).unwrap();
    let listing = http::get(server.address(), &format!("/{}.ls", parse(&path).hash()));
    assert_eq!((listing.status, listing.header("cache-control")), (404, Some("no-store")));
    let bytes = http::ask(server.address(), &http::message("GET", &target, &[]));
    let answer = http::Answer::parse(&bytes, false);
    assert!(answer.is_none_or(|answer| answer.status < 500 && !answer.complete));
}

#[test]
fn a_path_that_cannot_be_told_is_a_miss_that_nobody_remembers() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("damaged", &Tree::new());
    let other = store.add_source("whole", &Tree::new().file("a", b"a".as_slice()));
    let mut server = Server::of(&store);
    let database = store.state_dir().join("db/db.sqlite");
    let change = format!("update ValidPaths set hash = 'sha256:zz' where path = '{path}'");
    let writer = larder_testkit::Program::new("sqlite3").arg(&database).arg(&change);
    let _ = writer.run().success();
    let answer = http::get(server.address(), &format!("/{}.narinfo", parse(&path).hash()));
    assert_eq!((answer.status, answer.header("cache-control")), (404, Some("no-store")));
    assert!(!answer.text().contains("zz"), "the reason is for the log");
    let line = server.process().wait_for_line("damaged hash");
    assert!(line.contains(&path), "{line}");
    assert_eq!(server.narinfo(&other).store_path, parse(&other));
}

#[test]
fn a_name_that_json_cannot_hold_has_no_listing_and_its_nar_is_served() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("odd", &Tree::odd());
    let server = Server::of(&store);
    let listing = http::get(server.address(), &format!("/{}.ls", parse(&path).hash()));
    assert_eq!(listing.status, 404);
    let nar = http::get(server.address(), &server.nar_target(&path));
    assert!(nar.body == nix_dump(&store, &path));
}
