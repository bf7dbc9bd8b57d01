//! The names of NARs.
//!
//! Three styles are understood, since clients remember a narinfo for up to 30 days and a server that
//! replaces another must go on answering what that one promised:
//!
//! - `<NAR hash>.nar?hash=<path hash>`: ours, and Harmonia's
//! - `<path hash>-<NAR hash>.nar`: nix-serve's
//! - `<path hash>.nar`: nix-serve's of old

use larder_formats::{hash::Sha256, store_path::StorePathHash};

/// Which NAR is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarName {
    /// The path whose NAR it is.
    pub path: StorePathHash,
    /// The NAR's own hash, where the name says it: another build of the path is not meant then.
    pub nar_hash: Option<Sha256>,
}

impl NarName {
    /// Reads a file's name, percent-decoded, and what follows the `?`, as it came. Nothing, if it is in
    /// none of the styles, or says twice which path it means.
    pub fn parse(file: &str, query: Option<&str>) -> Option<Self> {
        let stem = file.strip_suffix(".nar")?;
        let mut paths = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .filter(|(name, _)| name == "hash")
            .map(|(_, path)| path);
        let parameter = paths.next();
        if paths.next().is_some() {
            return None;
        }
        let (path, nar_hash) = match (stem.split_once('-'), parameter) {
            (Some((path, nar_hash)), _) => (path.parse().ok()?, Some(nar_hash)),
            (None, Some(path)) => (path.parse().ok()?, Some(stem)),
            (None, None) => (stem.parse().ok()?, None),
        };
        let nar_hash = nar_hash.map(Sha256::parse_nix32).transpose().ok()?;
        Some(Self { path, nar_hash })
    }
}
