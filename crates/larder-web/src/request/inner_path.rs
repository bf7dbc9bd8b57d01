//! `<hash>/<name>/…`: a place inside a store path.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use larder_formats::store_path::StorePathHash;
use percent_encoding::percent_decode_str;

/// A place inside a store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InnerPath {
    /// The store path.
    pub hash: StorePathHash,
    /// The names that lead there, one below the other; none for the store path itself. None of them is
    /// empty, `.` or `..`, and none holds a `/` or a NUL.
    pub names: Vec<OsString>,
    /// Whether the address ends in a slash, as that of a folder does.
    pub folder: bool,
}

impl InnerPath {
    /// Takes an address apart as it came, percent-encoded and without a slash in front, byte by byte:
    /// names in a store need not be UTF-8. Nothing, if it has a name that no file has.
    pub fn parse(address: &str) -> Option<Self> {
        let (hash, below) = match address.split_once('/') {
            Some((hash, below)) => (hash, Some(below)),
            None => (address, None),
        };
        let (names, folder) = match below {
            None => (None, false),
            Some("") => (None, true),
            Some(below) => match below.strip_suffix('/') {
                Some(below) => (Some(below), true),
                None => (Some(below), false),
            },
        };
        let names = names.into_iter().flat_map(|names| names.split('/')).map(name);
        Some(Self { hash: hash.parse().ok()?, names: names.collect::<Option<_>>()?, folder })
    }
}

fn name(encoded: &str) -> Option<OsString> {
    let name: Vec<u8> = percent_decode_str(encoded).collect();
    let none = matches!(name.as_slice(), b"" | b"." | b"..")
        || name.iter().any(|byte| matches!(byte, b'/' | 0));
    (!none).then(|| OsString::from_vec(name))
}
