//! The files of a host's revision.

use larder_fleet::host::HostName;

/// A file about a host's newest revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevisionFile {
    /// `<host>.json`: the revision, sealed.
    Sealed(HostName),
    /// `<host>.rev`: its nixpkgs commit alone.
    Nixpkgs(HostName),
}

impl RevisionFile {
    /// Reads a file's name, percent-decoded. Nothing, if no host's file is called so.
    pub fn parse(file: &str) -> Option<Self> {
        if let Some(host) = file.strip_suffix(".json") {
            return Some(Self::Sealed(host.parse().ok()?));
        }
        let host = file.strip_suffix(".rev")?;
        Some(Self::Nixpkgs(host.parse().ok()?))
    }
}
