//! The software of this machine as packages: programs, and each shared library they load.
//!
//! Found with ldd and patchelf, so the distribution does not matter. What a package needs is what its
//! file names as needed: the references between the sample's store paths are those of the real thing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::process::{Program, locate};

/// The programs looked for. What a machine lacks is left out; what every one has is enough.
const PROGRAMS: [&str; 34] = [
    "bash",
    "ls",
    "cat",
    "sort",
    "grep",
    "sed",
    "find",
    "tar",
    "gzip",
    "xz",
    "curl",
    "git",
    "ssh",
    "sshd",
    "ssh-keygen",
    "openssl",
    "nginx",
    "jq",
    "wrk",
    "patchelf",
    "ip",
    "unshare",
    "mount",
    "ps",
    "perl",
    "less",
    "make",
    "diff",
    "gawk",
    "rsync",
    "zstd",
    "sqlite3",
    "tmux",
    "strace",
];

/// A larger file is left out, with the programs that need it: the sample shall stay quick to build.
const LARGEST_FILE: u64 = 8 << 20;

/// How many packages there may be, and how many bytes they may have together.
const MOST_PACKAGES: usize = 80;
const MOST_BYTES: u64 = 48 << 20;

/// A program or a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name: the program's, or the library's with its interface version (`libz1`).
    pub name: String,
    /// Its version. A program's is `1.0`, since no program tells its own in a way that suits all.
    pub version: String,
    /// Names of the libraries it needs itself, not those they need in turn.
    pub needs: Vec<String>,
    /// Where its file goes in the package (`lib/libz.so.1`, `libexec/curl`).
    pub file: String,
    /// Where its file is on this machine.
    pub source: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

impl Package {
    /// Whether it is a program rather than a library.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.file.starts_with("libexec/")
    }

    /// Whether it is the dynamic loader.
    #[must_use]
    pub fn is_loader(&self) -> bool {
        self.file.starts_with("lib/ld")
    }
}

/// Programs of this machine with all their libraries, by name; every need is among them.
///
/// # Panics
/// When fewer than five programs are found: something is wrong then.
#[must_use]
pub fn collect() -> BTreeMap<String, Package> {
    collect_these(&PROGRAMS)
}

/// The first few of them only: enough for a test that is about something else.
///
/// # Panics
/// As [`collect`] does.
#[must_use]
pub fn collect_few() -> BTreeMap<String, Package> {
    collect_these(&PROGRAMS[..6])
}

fn collect_these(programs: &[&str]) -> BTreeMap<String, Package> {
    let mut all = BTreeMap::new();
    let mut bytes = 0;
    for program in programs {
        let Some(added) = program_with_libraries(program) else { continue };
        let new: Vec<Package> = added.into_iter().filter(|p| !all.contains_key(&p.name)).collect();
        let more: u64 = new.iter().map(|package| package.size).sum();
        if bytes + more <= MOST_BYTES && all.len() + new.len() <= MOST_PACKAGES {
            bytes += more;
            all.extend(new.into_iter().map(|package| (package.name.clone(), package)));
        }
    }
    let programs = all.values().filter(|package| package.is_program()).count();
    assert!(programs >= 5, "only {programs} programs of this machine can be packaged");
    all
}

fn program_with_libraries(name: &str) -> Option<Vec<Package>> {
    let file = locate(name).filter(|file| is_elf(file))?;
    let loaded = loaded_libraries(&file)?;
    let mut packages = Vec::new();
    for (soname, source) in &loaded {
        let (library, version) = library_name(soname, source);
        let file = format!("lib/{soname}");
        packages.push(package(library, version, file, source, &loaded)?);
    }
    packages.push(package(
        name.to_owned(),
        "1.0".into(),
        format!("libexec/{name}"),
        &file,
        &loaded,
    )?);
    Some(packages)
}

fn package(
    name: String,
    version: String,
    file: String,
    source: &Path,
    loaded: &BTreeMap<String, PathBuf>,
) -> Option<Package> {
    let size =
        fs::metadata(source).ok().map(|data| data.len()).filter(|size| *size <= LARGEST_FILE)?;
    let needed = Program::new("patchelf").arg("--print-needed").arg(source).run();
    let needs = needed.lines().into_iter().filter_map(|soname| {
        loaded
            .get(&soname)
            .map(|source| library_name(&soname, source).0)
            .filter(|need| *need != name)
    });
    let mut needs: Vec<String> = needs.collect();
    if !file.starts_with("lib/") {
        // A program names its loader in its interpreter, not among what it needs.
        let loader = loaded.iter().find(|(soname, _)| soname.starts_with("ld"));
        needs.extend(loader.map(|(soname, source)| library_name(soname, source).0));
    }
    needs.sort();
    needs.dedup();
    Some(Package { name, version, needs, file, source: source.to_owned(), size })
}

/// By soname, what the loader would load for a program; `None` for one that is linked statically or can't run.
fn loaded_libraries(file: &Path) -> Option<BTreeMap<String, PathBuf>> {
    let ldd = Program::new("ldd").arg(file).env("LC_ALL", "C").run();
    if !ldd.ok() || ldd.stdout.contains("not found") {
        return None;
    }
    let entries = ldd.lines().into_iter().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [soname, "=>", path, _] => Some(((*soname).to_owned(), PathBuf::from(path))),
            [path, _] if path.starts_with('/') => {
                Some((Path::new(path).file_name()?.to_str()?.to_owned(), PathBuf::from(path)))
            }
            _ => None,
        }
    });
    let all: BTreeMap<String, PathBuf> = entries.collect();
    all.keys().any(|soname| soname.starts_with("ld")).then_some(all)
}

/// `libz.so.1` in a file `libz.so.1.2.13` is `("libz1", "1.2.13")`.
fn library_name(soname: &str, source: &Path) -> (String, String) {
    let (stem, interface) = soname.split_once(".so").unwrap_or((soname, ""));
    let interface = interface.trim_start_matches('.');
    let dash = if stem.ends_with(|c: char| c.is_ascii_digit()) { "-" } else { "" };
    let name = format!("{stem}{dash}{interface}").replace('+', "x").replace('.', "_");
    let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let real = real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let version = real.split_once(".so.").map_or(interface, |(_, version)| version);
    let version = if version.is_empty() { "1" } else { version };
    (name, version.to_owned())
}

fn is_elf(file: &Path) -> bool {
    let mut magic = [0; 4];
    let read = fs::File::open(file).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && &magic == b"\x7fELF"
}
