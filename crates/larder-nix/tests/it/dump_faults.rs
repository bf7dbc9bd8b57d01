//! A path that changes while it is dumped ends the dump with an error: never with other bytes of the
//! right length.

use std::{fs, fs::File, path::Path};

use futures::StreamExt;
use larder_nix::{
    dump::Dump,
    read_ahead::{self, Blocking, CHUNK, Source},
};
use larder_testkit::{Tree, scratch::scratch, tree::random_bytes};

use crate::support::nix_dump;

/// Begins the dump of a tree of three large files, changes it after one chunk, and goes on.
fn dumped_while(change: impl FnOnce(&Path)) -> String {
    let folder = scratch("faults");
    let path = folder.path().join("tree");
    let tree = ["a", "b", "c"].iter().enumerate().fold(Tree::new(), |tree, (seed, name)| {
        tree.file(*name, random_bytes(seed as u64, 3 * CHUNK))
    });
    tree.write(&path);
    let size = nix_dump(&path).len() as u64;
    let mut dump = Dump::new(&path, 0..size);
    let mut chunk = Vec::new();
    dump.fill(&mut chunk, Blocking::Allowed).unwrap();
    let mut sent = chunk.len() as u64;
    assert!(sent > 0 && sent < 2 * CHUNK as u64, "still inside of the first file");
    change(&path);
    loop {
        chunk.clear();
        match dump.fill(&mut chunk, Blocking::Allowed) {
            Err(error) => {
                assert!(sent < size);
                return error.to_string().replace(&path.display().to_string(), "TREE");
            }
            Ok(()) => assert!(!chunk.is_empty(), "it ended as if all were well"),
        }
        sent += chunk.len() as u64;
    }
}

#[test]
fn a_file_that_shrinks_under_our_hands_ends_the_dump() {
    let shrink = |name: &'static str, size: u64| {
        dumped_while(move |path| {
            File::options().write(true).open(path.join(name)).unwrap().set_len(size).unwrap();
        })
    };
    assert_eq!(shrink("a", CHUNK as u64 + 1), "a file became shorter while it was read: TREE/a");
    // Its header says what it is now; then the whole is too short.
    assert_eq!(shrink("c", 5), "the path is smaller than its NAR was: TREE");
}

#[test]
fn a_file_that_vanishes_before_its_turn_ends_the_dump() {
    let error = dumped_while(|path| fs::remove_file(path.join("b")).unwrap());
    assert_eq!(error, "TREE/b: No such file or directory (os error 2)");
}

#[test]
fn a_path_that_vanishes_as_a_whole_ends_the_dump() {
    let error = dumped_while(|path| fs::remove_dir_all(path).unwrap());
    assert_eq!(error, "TREE/b: No such file or directory (os error 2)");
}

#[test]
fn a_file_that_becomes_a_pipe_is_refused_and_not_waited_for() {
    let error = dumped_while(|path| {
        fs::remove_file(path.join("b")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path.join("b"),
            rustix::fs::FileType::Fifo,
            0o644.into(),
            0,
        )
        .unwrap();
    });
    assert_eq!(error, "TREE/b: the file changed while it was read");
}

#[tokio::test]
async fn a_stream_ends_with_its_first_error() {
    let folder = scratch("faults");
    let path = folder.path().join("gone");
    let mut stream = Box::pin(read_ahead::stream(Dump::new(&path, 0..1000)));
    assert!(stream.next().await.is_some_and(|chunk| chunk.is_err()));
    assert!(stream.next().await.is_none());
}
