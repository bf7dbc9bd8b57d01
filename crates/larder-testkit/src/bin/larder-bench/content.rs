//! Real content: files that are on every machine which can build Larder.
//!
//! Large ones are the Rust toolchain's libraries, small ones the sources of the crates that `Cargo.lock`
//! names. So two machines with the same toolchain and the same `Cargo.lock` measure the same bytes.

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use larder_testkit::{
    Tree,
    nix::workspace_root,
    process::{Program, cargo_home, find_program},
};

use crate::statistics::median;

/// A file is large from here.
const LARGE: u64 = 4 << 20;
/// The compiler itself is one library of some 150 MiB: of such, this much from the front is taken.
const CUT: u64 = 32 << 20;
/// Large files are taken until they come to this.
const ENOUGH: u64 = 96 << 20;
/// Less would be no measurement of large files.
const TOO_LITTLE: u64 = 48 << 20;
/// A file is small up to here.
const SMALL: u64 = 64 << 10;
/// How many small files one store path holds.
const SMALL_FILES: usize = 6000;
/// How many small files become a store path of their own.
pub(crate) const TEXTS: usize = 600;

/// What the store is filled with.
pub(crate) struct Content {
    /// Large files, by their paths in the toolchain's `lib`.
    pub(crate) large: Vec<Piece>,
    /// Small files, by their paths in the registry: a folder a crate.
    pub(crate) small: Vec<Piece>,
    /// More small files, each of them text.
    pub(crate) texts: Vec<PathBuf>,
}

/// A file and what is read of it.
pub(crate) struct Piece {
    name: PathBuf,
    bytes: Vec<u8>,
}

impl Content {
    /// Reads what this machine has.
    pub(crate) fn find() -> Self {
        let large = large();
        let mut files = sources();
        assert!(
            files.len() >= SMALL_FILES + TEXTS,
            "only {} small files are in the sources of the crates Cargo.lock names, in {}/registry/src; \
             {} are needed: run `cargo fetch` and try again",
            files.len(),
            cargo_home().display(),
            SMALL_FILES + TEXTS,
        );
        let rest = files.split_off(SMALL_FILES);
        let small = files.iter().map(|(folder, file)| Piece::read(folder, file)).collect();
        let rust = rest.into_iter().map(|(_, file)| file).filter(|file| is(file, "rs"));
        let texts: Vec<PathBuf> = rust.take(TEXTS).collect();
        assert!(texts.len() == TEXTS, "only {} more Rust files are in the registry", texts.len());
        Self { large, small, texts }
    }
}

/// What was found, in a line for people.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = |pieces: &[Piece]| -> Vec<f64> {
            pieces.iter().map(|piece| piece.bytes.len() as f64).collect()
        };
        let (large, small) = (sizes(&self.large), sizes(&self.small));
        write!(
            f,
            "{} large files of {:.0} MiB (median {:.1} MiB), {} small ones of {:.0} MiB (median {:.1} KiB), \
             {} paths of one text each",
            large.len(),
            large.iter().sum::<f64>() / f64::from(1 << 20),
            median(&large) / f64::from(1 << 20),
            small.len(),
            small.iter().sum::<f64>() / f64::from(1 << 20),
            median(&small) / 1024.0,
            self.texts.len(),
        )
    }
}

impl Piece {
    fn read(folder: &Path, file: &Path) -> Self {
        let mut bytes = Vec::new();
        let opened = File::open(file).and_then(|opened| opened.take(CUT).read_to_end(&mut bytes));
        let _ = opened.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { name: file.strip_prefix(folder).unwrap_or(file).to_owned(), bytes }
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// A tree of these files.
pub(crate) fn tree(pieces: &[Piece]) -> Tree {
    pieces.iter().fold(Tree::new(), |tree, piece| {
        tree.file(piece.name.as_os_str().as_encoded_bytes(), piece.bytes.as_slice())
    })
}

/// The Rust toolchain's large libraries, sorted by path.
pub(crate) fn large_files() -> Vec<PathBuf> {
    let mut files = files_below(&toolchain(), |file, size| size >= LARGE && is_library(file));
    files.sort();
    files
}

/// The folder of the Rust toolchain's libraries.
fn toolchain() -> PathBuf {
    let asked = Program::new(find_program("rustc"))
        .args(["--print", "sysroot"])
        .dir(workspace_root())
        .run()
        .success();
    Path::new(asked.text()).join("lib")
}

fn large() -> Vec<Piece> {
    let lib = toolchain();
    let mut pieces: Vec<Piece> = Vec::new();
    let total = |pieces: &[Piece]| pieces.iter().map(Piece::len).sum::<u64>();
    for file in large_files() {
        if total(&pieces) < ENOUGH {
            pieces.push(Piece::read(&lib, &file));
        }
    }
    let found = total(&pieces);
    assert!(
        found >= TOO_LITTLE,
        "only {found} bytes of large libraries are below {}, {TOO_LITTLE} are needed: \
         is the whole Rust toolchain installed?",
        lib.display(),
    );
    pieces
}

/// The small files of the crates that `Cargo.lock` names, in its order, each with the registry's folder.
fn sources() -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for folder in source_folders() {
        let registry = folder.parent().unwrap_or(&folder).to_owned();
        let mut files = files_below(&folder, |_, size| size <= SMALL);
        files.sort();
        found.extend(files.into_iter().map(|file| (registry.clone(), file)));
    }
    found
}

/// The folders of the crates that `Cargo.lock` names, in its order.
pub(crate) fn source_folders() -> Vec<PathBuf> {
    let lock = workspace_root().join("Cargo.lock");
    let text = fs::read_to_string(&lock).unwrap_or_else(|e| panic!("{}: {e}", lock.display()));
    let root = cargo_home().join("registry/src");
    let mut registries: Vec<PathBuf> = entries(&root).map(|entry| entry.path()).collect();
    registries.sort();
    // A mirror beside the registry may have the same crate.
    let folder = |krate: String| {
        registries.iter().map(|registry| registry.join(&krate)).find(|folder| folder.is_dir())
    };
    locked(&text).into_iter().filter_map(folder).collect()
}

/// The packages of a `Cargo.lock`, as the registry's folders are named: `bytes-1.11.0`.
fn locked(text: &str) -> Vec<String> {
    let value = |line: &str, key: &str| -> Option<String> {
        Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
    };
    let mut packages = Vec::new();
    let mut name = None;
    for line in text.lines() {
        if let Some(found) = value(line, "name") {
            name = Some(found);
        } else if let Some(version) = value(line, "version")
            && let Some(name) = name.take()
        {
            packages.push(format!("{name}-{version}"));
        }
    }
    packages
}

/// Regular files below a folder that are wanted, by their size in bytes; in no order.
pub(crate) fn files_below(folder: &Path, wanted: impl Fn(&Path, u64) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder) {
            // Of a link itself, not of what it points to.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() && wanted(&entry.path(), metadata.len()) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.filter_map(Result::ok)
}

fn is(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|found| found == ending)
}

/// `libstd.rlib`, `libstd.so`, `libLLVM.so.22.1`.
fn is_library(file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    is(file, "rlib") || is(file, "so") || is(file, "dylib") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_names_its_packages_as_the_registry_names_their_folders() {
        let text = "version = 4\n\n[[package]]\nname = \"bytes\"\nversion = \"1.11.0\"\n\
                    dependencies = [\n \"serde\",\n]\n\n[[package]]\nname = \"a-b\"\nversion = \"0.1.0+x\"\n";
        assert_eq!(locked(text), ["bytes-1.11.0", "a-b-0.1.0+x"]);
    }

    #[test]
    fn libraries_are_told_from_other_files_with_and_without_a_number() {
        for library in ["libstd.rlib", "libstd-1.so", "libLLVM.so.22.1-stable"] {
            assert!(is_library(Path::new(library)), "{library}");
        }
        for other in ["rustc", "libstd.a.txt", "sources.html"] {
            assert!(!is_library(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn only_wanted_files_are_found_however_deep_and_links_are_not() {
        let folder = larder_testkit::scratch::scratch("content");
        Tree::new()
            .file("a/b/great", vec![0; 100])
            .file("a/little", vec![0; 3])
            .symlink("link", "a/b/great")
            .write(folder.path());
        let found = files_below(folder.path(), |_, size| size >= 50);
        assert_eq!(found, [folder.path().join("a/b/great")]);
    }
}
