//! File trees to put into stores, with content that is the same in every run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A file tree to be written somewhere.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    entries: Vec<(Vec<u8>, Node)>,
}

#[derive(Debug, Clone)]
enum Node {
    File { bytes: Vec<u8>, executable: bool },
    Symlink(Vec<u8>),
    Directory,
}

impl Tree {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `files` files of `size` bytes each, spread over folders of a hundred. No two seeds share a file,
    /// and nothing in it compresses.
    #[must_use]
    pub fn random(seed: u64, files: usize, size: usize) -> Self {
        (0..files).fold(Self::new(), |tree, n| {
            let bytes = random_bytes(seed.wrapping_mul(1_000_003).wrapping_add(n as u64), size);
            tree.file(format!("d{:03}/f{n:05}", n / 100), bytes)
        })
    }

    /// Everything an archive of files must carry: an executable, links (one dangling), empty files and
    /// folders, sizes around the padding of eight, and names that sort or print oddly.
    #[must_use]
    pub fn odd() -> Self {
        let tree = (0..=17).fold(Self::new(), |tree, size| {
            tree.file(format!("sizes/{size:02}"), random_bytes(7, size))
        });
        tree.executable("bin/run", b"#!/bin/sh\necho ran\n".as_slice())
            .symlink("bin/link", "run")
            .symlink("dangling", "/nowhere/at all")
            .directory("empty")
            .file("empty-file", b"".as_slice())
            .file("names/with space", b"1".as_slice())
            .file("names/.hidden", b"2".as_slice())
            .file("names/a", b"3".as_slice())
            .file("names/a.b", b"4".as_slice())
            .file("names/a-b", b"5".as_slice())
            .file("names/A", b"6".as_slice())
            .file("names/line\nbreak", b"7".as_slice())
            .file("names/größe-☃", b"8".as_slice())
            .file(b"names/not-utf8-\xff\xfe".as_slice(), b"9".as_slice())
            .file("names/quote\"back\\slash", b"10".as_slice())
            .file("deep/1/2/3/4/5/6/7/8/9/10/11/12/leaf", b"deep".as_slice())
    }

    /// One more file; the folders above it are made.
    #[must_use]
    pub fn file(self, path: impl AsRef<[u8]>, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path.as_ref(), Node::File { bytes: bytes.into(), executable: false })
    }

    /// One more file that may be executed.
    #[must_use]
    pub fn executable(self, path: impl AsRef<[u8]>, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path.as_ref(), Node::File { bytes: bytes.into(), executable: true })
    }

    /// One more symbolic link.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(path.as_ref(), Node::Symlink(target.as_ref().to_vec()))
    }

    /// One more folder, empty unless something is put into it.
    #[must_use]
    pub fn directory(self, path: impl AsRef<[u8]>) -> Self {
        self.with(path.as_ref(), Node::Directory)
    }

    /// Writes the tree; `to` is made.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, to: &Path) {
        make_dir(to);
        for (path, node) in &self.entries {
            let path = to.join(OsStr::from_bytes(path));
            path.parent().into_iter().for_each(make_dir);
            let written = match node {
                Node::Directory => fs::create_dir_all(&path),
                Node::Symlink(target) => symlink(OsStr::from_bytes(target), &path),
                Node::File { bytes, executable } => fs::write(&path, bytes).and_then(|()| {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                }),
            };
            written.unwrap_or_else(|error| panic!("{path:?}: {error}"));
        }
    }

    fn with(mut self, path: &[u8], node: Node) -> Self {
        self.entries.push((path.to_vec(), node));
        self
    }
}

/// `size` bytes that look random and are the same for the same seed (xorshift64*, Vigna 2016).
#[must_use]
pub fn random_bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Makes everything below a folder removable: Nix leaves its folders read-only, which stops all but root.
pub(crate) fn make_writable(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())) {
        make_writable(&entry.path());
    }
}

pub(crate) fn make_dir(dir: &Path) {
    fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
}

pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    path.parent().into_iter().for_each(make_dir);
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}
