//! Store paths: `/nix/store/<32 characters>-<name>`.
//!
//! Promise: a [`StorePath`] is well formed by Nix's own rules, so it can be put into a file name,
//! a URL or a line of text without escaping, and can't lead out of the store. Whether the path
//! exists is not known here.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nix32::{self, Nix32Error};

/// The longest name Nix allows, in bytes: a file name of 255 less hash, dash and suffixes Nix adds.
pub const MAX_NAME_LEN: usize = 211;

const HASH_LEN: usize = 32;

/// The folder store paths live in, `/nix/store` unless told otherwise. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreDir(Arc<str>);

/// The hash part of a store path: 20 bytes, 32 characters of Nix's base 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorePathHash([u8; 20]);

/// A store path without its folder: hash and name. Printed as its base name `<hash>-<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath {
    hash: StorePathHash,
    name: Box<str>,
}

/// Why a text is not a store path (or not a store folder).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorePathError {
    /// A store folder is an absolute, normalized path without control characters.
    #[error(
        "{0:?} is not a store folder: it must be an absolute path such as /nix/store, without a \
         trailing slash, empty parts, `.` or `..`"
    )]
    StoreDir(String),
    /// The path lies elsewhere.
    #[error("{path:?} is not a path in the store {store_dir}")]
    OutsideStore {
        /// The path given.
        path: String,
        /// The folder it should lie in.
        store_dir: StoreDir,
    },
    /// The text lies below a store path; only the store path itself was expected.
    #[error("{0:?} lies below a store path; give the store path itself")]
    BelowStorePath(String),
    /// There is no `<32 characters>-` in front.
    #[error("{0:?} is not a store path: it must begin with 32 characters and a dash")]
    NoHash(String),
    /// The hash part is not base 32.
    #[error("{text:?} is not a store path: {source}")]
    Hash {
        /// The text given.
        text: String,
        /// What is wrong with its hash.
        source: Nix32Error,
    },
    /// The name is empty, too long, has other characters than Nix allows, or begins like `.` or `..`.
    #[error(
        "{0:?} is not a name of a store path: 1 to 211 of A-Z a-z 0-9 + - . _ ? =, \
         and not `.`, `..` or beginning with `.-` or `..-`"
    )]
    Name(String),
}

impl StoreDir {
    /// Takes a store folder.
    ///
    /// # Errors
    /// [`StorePathError::StoreDir`] unless it is absolute and normalized.
    pub fn new(dir: &str) -> Result<Self, StorePathError> {
        let normal = |part: &str| !part.is_empty() && part != "." && part != "..";
        let parts = dir.strip_prefix('/').filter(|rest| rest.split('/').all(normal));
        if parts.is_none() || dir.chars().any(char::is_control) {
            return Err(StorePathError::StoreDir(shown(dir)));
        }
        Ok(Self(dir.into()))
    }

    /// The folder as text, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a full store path, such as `/nix/store/<hash>-<name>`.
    ///
    /// # Errors
    /// [`StorePathError`] when it is not directly in this folder or is malformed.
    pub fn parse(&self, full: &str) -> Result<StorePath, StorePathError> {
        let base = full.strip_prefix(self.as_str()).and_then(|rest| rest.strip_prefix('/'));
        match base {
            None => {
                Err(StorePathError::OutsideStore { path: shown(full), store_dir: self.clone() })
            }
            Some(base) if base.contains('/') => Err(StorePathError::BelowStorePath(shown(full))),
            Some(base) => base.parse(),
        }
    }

    /// The full path of a store path in this folder.
    #[must_use]
    pub fn display(&self, path: &StorePath) -> String {
        format!("{}/{}-{}", self.0, path.hash, path.name)
    }
}

impl StorePathHash {
    /// Takes the 20 bytes of a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl StorePath {
    /// Puts a store path together.
    ///
    /// # Errors
    /// [`StorePathError::Name`] when Nix would not allow the name.
    pub fn new(hash: StorePathHash, name: &str) -> Result<Self, StorePathError> {
        check_name(name)?;
        Ok(Self { hash, name: name.into() })
    }

    /// The hash part, by which caches are asked.
    #[must_use]
    pub const fn hash(&self) -> StorePathHash {
        self.hash
    }

    /// The name: what follows the hash and its dash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is a derivation (`.drv`).
    #[must_use]
    pub fn is_derivation(&self) -> bool {
        self.name.ends_with(".drv")
    }
}

impl Default for StoreDir {
    /// `/nix/store`.
    fn default() -> Self {
        Self("/nix/store".into())
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for StoreDir {
    type Err = StorePathError;

    fn from_str(dir: &str) -> Result<Self, StorePathError> {
        Self::new(dir)
    }
}

impl FromStr for StorePathHash {
    type Err = Nix32Error;

    fn from_str(text: &str) -> Result<Self, Nix32Error> {
        nix32::decode_array(text).map(Self)
    }
}

impl fmt::Display for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&nix32::encode(&self.0))
    }
}

impl fmt::Debug for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Ord for StorePathHash {
    /// The order of the texts, which Nix sorts by: base 32 writes the last byte first.
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for StorePathHash {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;

    /// Reads a base name, `<hash>-<name>`.
    fn from_str(base: &str) -> Result<Self, StorePathError> {
        let parts = base.split_at_checked(HASH_LEN);
        let Some((hash, name)) = parts.and_then(|(h, n)| Some((h, n.strip_prefix('-')?))) else {
            return Err(StorePathError::NoHash(shown(base)));
        };
        let hash =
            hash.parse().map_err(|source| StorePathError::Hash { text: shown(base), source })?;
        Self::new(hash, name)
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.name)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for StorePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StorePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), StorePathError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    let first = name.split('-').next();
    let sized = !name.is_empty() && name.len() <= MAX_NAME_LEN;
    if sized && name.bytes().all(allowed) && first != Some(".") && first != Some("..") {
        Ok(())
    } else {
        Err(StorePathError::Name(shown(name)))
    }
}

/// As much of a hostile text as belongs in a message.
fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}
