//! A directory of this machine: what others keep there, what a disk that is full says, and what crashes leave.

use std::{fs, os::unix::fs::PermissionsExt};

use bytes::Bytes;
use futures::TryStreamExt;
use larder_cache::storage::{Directory, Storage, StorageErrorKind};
use larder_testkit::{process::Program, scratch::scratch, tree::random_bytes};

use super::{all_keys, contents, drafted, key};

#[tokio::test]
async fn what_is_written_may_be_read_by_everybody() {
    let folder = scratch("directory");
    let place = Directory::new(folder.path());
    place.put(&key("a.narinfo"), Bytes::from_static(b"x")).await.unwrap();
    drafted(&place, b"y", 1).await.publish(&key("nar/b")).await.unwrap();
    for file in ["a.narinfo", "nar/b"] {
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{file}");
    }
}

#[tokio::test]
async fn drafts_lie_apart_and_go_when_they_are_dropped() {
    let folder = scratch("directory");
    let place = Directory::new(folder.path());
    let draft = drafted(&place, &random_bytes(1, 100_000), 10_000).await;
    let drafts = || fs::read_dir(folder.path().join(".larder/drafts")).unwrap().count();
    assert_eq!(drafts(), 1);
    drop(draft);
    assert_eq!(drafts(), 0);
    drafted(&place, b"x", 1).await.publish(&key("x")).await.unwrap();
    assert_eq!(drafts(), 0);
}

#[tokio::test]
async fn what_others_keep_there_is_listed_where_it_has_a_name_for_us() {
    let folder = scratch("directory");
    let at = |name: &str| folder.path().join(name);
    for name in ["plain", "with space", "größe", "folder.narinfo/inside", "lost+found/x"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("plain", at("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    std::os::unix::fs::symlink("circle", at("circle")).unwrap();
    let _ = Program::new("mkfifo").arg(at("pipe")).run().success();
    let place = Directory::new(folder.path());
    assert_eq!(all_keys(&place).await, ["folder.narinfo/inside", "link", "plain"]);
    assert_eq!(contents(&place, &key("link")).await.unwrap(), b"x");
    // Not things that can be read, so they are not there.
    for name in ["dangling", "circle", "folder.narinfo", "plain/below", "pipe"] {
        assert_eq!(place.stat(&key(name)).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_is_an_error_and_not_the_whole() {
    let folder = scratch("directory");
    let place = Directory::new(folder.path());
    let at = key("nar/x.nar");
    place.put(&at, Bytes::from(random_bytes(2, 3_000_000))).await.unwrap();
    let mut stream = place.read(&at, 0..3_000_000).await.unwrap().unwrap();
    let first = stream.try_next().await.unwrap().unwrap();
    assert!(!first.is_empty());
    let file = fs::OpenOptions::new().write(true).open(place.path(&at)).unwrap();
    file.set_len(first.len() as u64 + 1).unwrap();
    assert!(stream.try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn a_full_disk_says_so_and_keeps_what_was_there() {
    let folder = scratch("directory");
    let disk = Disk::mount(&folder.path().join("disk"), 2);
    let place = Directory::new(disk.path());
    place.put(&key("before"), Bytes::from(random_bytes(3, 100_000))).await.unwrap();
    let mut draft = place.draft().await.unwrap();
    let full = loop {
        match draft.write(Bytes::from(random_bytes(4, 300_000))).await {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind, StorageErrorKind::Full, "{full}");
    // What failed once is not taken for written afterwards.
    assert!(draft.write(Bytes::from_static(b"x")).await.is_err());
    assert!(draft.publish(&key("after")).await.is_err());
    assert_eq!(all_keys(&place).await, ["before"]);
    // The draft is gone, so there is room again.
    place.put(&key("after"), Bytes::from(random_bytes(5, 300_000))).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_or_written_to_is_named() {
    let folder = scratch("directory");
    fs::write(folder.path().join("file"), "x").unwrap();
    let place = Directory::new(&folder.path().join("file/cache"));
    assert_eq!(place.stat(&key("x")).await.unwrap(), None);
    let error = place.put(&key("x"), Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("file/cache"), "{error}");
}

/// A small file system of its own.
pub(crate) struct Disk(std::path::PathBuf);

impl Disk {
    pub(crate) fn mount(at: &std::path::Path, mebibytes: u32) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m");
        let mount = Program::new("mount").args(["-t", "tmpfs", "-o", &size, "larder-test"]);
        let _ = mount.arg(at).run().success();
        Self(at.to_owned())
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg("--lazy").arg(&self.0).run();
    }
}
