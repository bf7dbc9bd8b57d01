//! A store of a gigabyte of real content: what a machine's closure weighs.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use larder_testkit::{Nix, NixVersion, TestStore};

use crate::content::{files_below, large_files, source_folders};

/// Bytes that are enough.
const ENOUGH: u64 = 1 << 30;

/// At most this much of it are large files; the rest are sources.
const LARGE: u64 = 600 << 20;

/// Store paths that are given to one command.
const AT_ONCE: usize = 100;

/// A store, and the path whose closure is all of it.
pub(crate) struct Packages {
    pub(crate) store: TestStore,
    pub(crate) top: String,
    paths: usize,
    bytes: u64,
}

impl Packages {
    /// The Rust toolchain's libraries, whole, a store path each, and the sources of the crates that `Cargo.lock`
    /// names, a store path a crate. A last path refers to all of them.
    pub(crate) fn new() -> Self {
        let store = TestStore::new(NixVersion::V2_34);
        let mut chosen = Vec::new();
        let mut bytes = 0;
        for file in large_files() {
            let size = fs::metadata(&file).map_or(0, |metadata| metadata.len());
            if bytes + size <= LARGE {
                bytes += size;
                chosen.push(file);
            }
        }
        for folder in source_folders() {
            if bytes < ENOUGH {
                bytes += size_of(&folder);
                chosen.push(folder);
            }
        }
        let paths: Vec<String> =
            chosen.chunks(AT_ONCE).flat_map(|some| add(&store, some)).collect();
        let top = top(&store, &paths);
        Self { store, top, paths: paths.len() + 1, bytes }
    }
}

/// What was found, in a line for people.
impl fmt::Display for Packages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} paths of {} MiB", self.paths, self.bytes >> 20)
    }
}

fn size_of(folder: &Path) -> u64 {
    let files = files_below(folder, |_, _| true);
    files.iter().filter_map(|file| fs::metadata(file).ok()).map(|metadata| metadata.len()).sum()
}

fn add(store: &TestStore, files: &[PathBuf]) -> Vec<String> {
    store.program("nix-store").arg("--add").args(files).run().success().lines()
}

fn top(store: &TestStore, paths: &[String]) -> String {
    let paths: Vec<String> =
        paths.iter().map(|path| format!("(builtins.storePath {path})")).collect();
    // In a file: a command line has not room for so many.
    let file = store.work_dir().join("top.nix");
    let text = format!(
        r#"derivation {{
          name = "top"; system = builtins.currentSystem; builder = "/bin/sh";
          args = [ "-c" "echo $references > $out" ];
          references = [ {} ];
        }}"#,
        paths.join(" ")
    );
    fs::write(&file, text).expect("the expression can be written");
    let tops = store.build_expr(&format!("import {}", file.display()));
    tops.into_iter().next().expect("a derivation has an output")
}
