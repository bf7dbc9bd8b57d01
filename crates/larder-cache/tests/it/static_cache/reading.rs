//! Caches that Nix itself wrote, of every version and compression, and broken ones.

use std::{ffi::OsString, sync::Arc};

use larder_cache::{
    cache::{Cache, NarIdentity, PathFile},
    source::ObjectStorage,
    storage::Directory,
};
use larder_formats::store_path::{StoreDir, StorePath};
use larder_testkit::{Nix, NixVersion, TestStore, Tree, tree::random_bytes};

use super::{all, empty, nar};
use crate::{gc::hash, gc::index::put, source::cache_info};

fn parsed(path: &str) -> StorePath {
    StoreDir::default().parse(path).unwrap()
}

/// The bytes of a path's NAR as Nix dumps them.
fn dumped(store: &TestStore, path: &str) -> Vec<u8> {
    let real = store.real_path(path).display().to_string();
    store.nix(&["nix-store", "--dump", &real]).success().stdout_bytes
}

#[tokio::test]
async fn what_every_nix_wrote_is_read_whatever_the_compression() {
    for version in NixVersion::all() {
        let store = TestStore::new(version);
        let tree = Tree::odd().file("large", random_bytes(1, 300_000));
        let (odd, text) = (store.add_tree("odd", &tree), store.add_source("text", &Tree::new()));
        for compression in ["none", "xz", "zstd", "bzip2", "gzip", "br"] {
            let folder = store.work_dir().join(compression);
            let url = format!("file://{}?compression={compression}", folder.display());
            let _ = store.nix(&["nix", "copy", "--to", &url, &odd, &text]).success();
            let cache = ObjectStorage::new(Arc::new(Directory::new(&folder)), cache_info());
            for path in [&odd, &text] {
                let read = nar(&cache, &parsed(path)).await;
                assert!(read.unwrap() == dumped(&store, path), "{version} {compression} {path}");
            }
        }
    }
}

#[tokio::test]
async fn parts_of_nars_and_the_files_in_them_are_read() {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = Tree::new()
        .file("share/data", random_bytes(2, 500_000))
        .executable("bin/run", b"#!/bin/sh\n".to_vec())
        .symlink("bin/also", "../share/data")
        .symlink("bin/away", "/etc/passwd")
        .symlink("bin/up", "../../other");
    let path = store.add_source("tree", &tree);
    let folder = store.work_dir().join("cache");
    let url = format!("file://{}?compression=zstd&write-nar-listing=true", folder.display());
    let _ = store.nix(&["nix", "copy", "--to", &url, &path]).success();
    let cache = ObjectStorage::new(Arc::new(Directory::new(&folder)), cache_info());
    let (path, whole) = (parsed(&path), dumped(&store, &path));
    let info = cache.narinfo(path.hash()).await.unwrap().unwrap();
    let identity = NarIdentity { path: path.hash(), nar_hash: info.nar_hash };
    for range in [0..10, 200_000..400_001, (info.nar_size - 5)..info.nar_size, 7..7] {
        let part = all(cache.nar(identity, range.clone()).await.unwrap().unwrap()).await;
        let expected = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        assert_eq!(part, &whole[expected]);
    }
    let written = cache.listing(path.hash()).await.unwrap().unwrap();
    std::fs::remove_file(folder.join(format!("{}.ls", path.hash()))).unwrap();
    let found_out = cache.listing(path.hash()).await.unwrap().unwrap();
    assert_eq!(written.to_json(), found_out.to_json());
    for (name, expected) in [
        ("share/data", Some(500_000)),
        ("bin/also", Some(500_000)),
        ("bin/away", None),
        ("bin/up", None),
    ] {
        let names = name.split('/').map(OsString::from).collect();
        match (cache.file(path.hash(), names).await.unwrap(), expected) {
            (Some(PathFile::Regular { size, contents }), Some(expected)) => {
                assert_eq!(size, expected);
                assert_eq!(all(contents(1..4)).await, &random_bytes(2, 500_000)[1..4]);
            }
            (None, None) => {}
            _ => panic!("{name}"),
        }
    }
}

#[tokio::test]
async fn a_narinfo_that_cannot_be_read_is_an_error_and_never_absence() {
    let (place, cache) = empty();
    let at = format!("{}.narinfo", hash(1));
    for text in ["", "nonsense", "StorePath: /nix/store/x\n", "\u{feff}"] {
        put(&place, &at, text).await;
        assert!(cache.narinfo(hash(1)).await.is_err(), "{text:?}");
    }
    let another = crate::gc::index::narinfo(2, crate::gc::nar(2), &[]);
    put(&place, &at, another).await;
    let error = cache.narinfo(hash(1)).await.unwrap_err();
    assert!(error.to_string().contains("it is about"), "{error}");
}

#[tokio::test]
async fn a_nar_that_is_gone_or_cut_off_is_never_taken_for_whole() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("data", &Tree::new().file("x", random_bytes(3, 300_000)));
    let folder = store.work_dir().join("cache");
    let url = format!("file://{}?compression=xz", folder.display());
    let _ = store.nix(&["nix", "copy", "--to", &url, &path]).success();
    let cache = ObjectStorage::new(Arc::new(Directory::new(&folder)), cache_info());
    let path = parsed(&path);
    let info = cache.narinfo(path.hash()).await.unwrap().unwrap();
    let identity = NarIdentity { path: path.hash(), nar_hash: info.nar_hash };
    let file = folder.join(&info.url);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let stream = cache.nar(identity, 0..info.nar_size).await.unwrap().unwrap();
    assert!(futures::TryStreamExt::try_collect::<Vec<_>>(stream).await.is_err());
    std::fs::remove_file(&file).unwrap();
    assert!(cache.nar(identity, 0..info.nar_size).await.unwrap().is_none());
}
