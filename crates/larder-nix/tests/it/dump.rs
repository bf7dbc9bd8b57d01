//! A dump is byte for byte what Nix itself makes, and a listing what Nix itself lists.

use std::{fs, os::unix::fs::symlink, path::Path};

use futures::StreamExt;
use larder_formats::nar::Listing;
use larder_nix::{
    dump::{self, Dump},
    read_ahead::{self, CHUNK},
};
use larder_testkit::{Nix, NixVersion, TestStore, Tree, scratch::scratch, tree::random_bytes};
use serde_json::Value;

use crate::support::{nix_dump, parse, read, with_every_version};

with_every_version!(a_listing_is_the_one_nix_writes);

fn whole(path: &Path) -> Vec<u8> {
    let nix = nix_dump(path);
    let (ours, _) = read(Dump::new(path, 0..nix.len() as u64)).unwrap();
    assert!(ours == nix, "{}: {} bytes, and Nix has {}", path.display(), ours.len(), nix.len());
    ours
}

#[test]
fn a_tree_with_all_that_a_nar_can_hold_is_dumped_as_by_nix() {
    let folder = scratch("dump");
    Tree::odd().write(&folder.path().join("odd"));
    whole(&folder.path().join("odd"));
}

#[test]
fn a_root_that_is_a_file_or_a_link_or_empty_is_dumped_as_by_nix() {
    let folder = scratch("dump");
    let path = |name: &str| folder.path().join(name);
    Tree::new()
        .file("file", b"content".as_slice())
        .executable("run", b"#!/bin/sh".as_slice())
        .file("nothing", b"".as_slice())
        .directory("folder")
        .write(folder.path());
    symlink("/nowhere", path("link")).unwrap();
    for name in ["file", "run", "nothing", "folder", "link"] {
        whole(&path(name));
    }
}

#[test]
fn files_around_the_size_of_a_chunk_are_dumped_as_by_nix() {
    let folder = scratch("dump");
    let sizes = [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK - 200, 5 * CHUNK];
    let tree = sizes.iter().enumerate().fold(Tree::new(), |tree, (seed, size)| {
        tree.file(format!("f{seed}"), random_bytes(seed as u64, *size))
    });
    tree.write(&folder.path().join("large"));
    whole(&folder.path().join("large"));
}

#[test]
fn thousands_of_small_files_go_out_in_few_large_pieces() {
    let folder = scratch("dump");
    let path = folder.path().join("small");
    Tree::random(3, 4000, 40).write(&path);
    let nix = nix_dump(&path);
    let (ours, chunks) = read(Dump::new(&path, 0..nix.len() as u64)).unwrap();
    assert!(ours == nix);
    assert!(chunks <= nix.len() / CHUNK + 1, "{chunks} pieces for {} bytes", nix.len());
}

#[test]
fn a_tree_deeper_than_the_folders_kept_open_is_dumped_as_by_nix() {
    let folder = scratch("dump");
    let path = folder.path().join("deep");
    // Files on the way back up, too: those are read after the folders below were left. Nix 2.34 refuses
    // trees deeper than 64.
    let tree = (1..=60).fold(Tree::new(), |tree, depth| {
        let below = "d/".repeat(depth);
        tree.file(format!("{below}a"), random_bytes(depth as u64, 50))
            .file(format!("{below}z"), random_bytes(depth as u64, 500))
    });
    tree.write(&path);
    whole(&path);
}

#[tokio::test]
async fn a_stream_of_a_dump_is_the_dump() {
    let folder = scratch("dump");
    let path = folder.path().join("tree");
    Tree::random(4, 20, 60_000).write(&path);
    let nix = nix_dump(&path);
    let mut stream = Box::pin(read_ahead::stream(Dump::new(&path, 0..nix.len() as u64)));
    let mut streamed = Vec::new();
    while let Some(chunk) = stream.next().await {
        streamed.extend_from_slice(&chunk.unwrap());
    }
    assert!(streamed == nix);
}

fn a_listing_is_the_one_nix_writes(version: NixVersion) {
    let store = TestStore::new(version);
    // As odd as a listing allows: JSON has no names that are not UTF-8.
    let tree = (0..=17).fold(Tree::new(), |tree, size| {
        tree.file(format!("sizes/{size:02}"), random_bytes(9, size))
    });
    let tree = tree
        .executable("bin/run", b"#!/bin/sh\n".as_slice())
        .symlink("bin/link", "run")
        .directory("empty")
        .file("names/größe-☃", b"8".as_slice())
        .file("names/line\nbreak\"quote\\", b"7".as_slice());
    for path in [store.add_tree("tree", &tree), store.add_closure("closure", 1, 100).remove(0)] {
        let cache = store.work_dir().join("cache");
        let to = format!("file://{}?write-nar-listing=1", cache.display());
        let _ = store.nix(&["nix", "copy", "--to", &to, &path]).success();
        let file = cache.join(format!("{}.ls", parse(&path).hash()));
        let nix: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let listing = dump::list(&store.real_path(&path)).unwrap();
        let ours: Value = serde_json::from_str(&listing.to_json()).unwrap();
        assert_eq!(ours, nix);
        assert_eq!(Listing::parse(&nix.to_string()).unwrap(), listing);
    }
}

#[test]
fn a_name_that_json_cannot_hold_is_an_error_that_names_it() {
    let folder = scratch("dump");
    Tree::odd().write(&folder.path().join("odd"));
    let error = dump::list(&folder.path().join("odd")).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#""not-utf8-\\xff\\xfe" is not UTF-8, so the path has no listing"#
    );
}
