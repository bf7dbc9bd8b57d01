//! What is told about one store path: its narinfo, its listing, its build's log.

use larder_formats::store_path::{StorePath, StorePathHash};

/// A file about a store path, beside `nix-cache-info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoFile {
    /// `<hash>.narinfo`.
    Narinfo(StorePathHash),
    /// `<hash>.narinfo?json`.
    NarinfoAsJson(StorePathHash),
    /// `<hash>.ls`.
    Listing(StorePathHash),
}

/// Whose build's log is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogName {
    /// That of this derivation.
    Derivation(StorePath),
    /// That of the derivation with this hash part, or of one that made the path with it.
    Hash(StorePathHash),
}

impl InfoFile {
    /// Reads a file's name, percent-decoded, and what follows the `?`, as it came. Nothing, if no file
    /// about a path is called so.
    pub fn parse(file: &str, query: Option<&str>) -> Option<Self> {
        let (hash, ending) = file.split_once('.')?;
        let hash = hash.parse().ok()?;
        match ending {
            "narinfo" if query.is_some_and(asks_for_json) => Some(Self::NarinfoAsJson(hash)),
            "narinfo" => Some(Self::Narinfo(hash)),
            "ls" => Some(Self::Listing(hash)),
            _ => None,
        }
    }
}

impl LogName {
    /// Reads the base name of a store path, or its hash part, percent-decoded. Nothing, if it is neither.
    pub fn parse(name: &str) -> Option<Self> {
        match name.parse::<StorePath>() {
            Ok(path) if path.is_derivation() => Some(Self::Derivation(path)),
            Ok(path) => Some(Self::Hash(path.hash())),
            Err(_) => Some(Self::Hash(name.parse().ok()?)),
        }
    }
}

/// `json`, alone or among other parameters, with or without a value.
fn asks_for_json(query: &str) -> bool {
    query.split('&').any(|parameter| parameter.split('=').next() == Some("json"))
}
