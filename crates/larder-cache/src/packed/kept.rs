//! A packed NAR that is kept, and the name of its file, which says all there is to know of it.

use std::fmt;

use larder_formats::hash::Sha256;

use super::recipe::Recipe;

const SUFFIX: &str = ".nar.zst";

/// Bytes that a file takes are whole blocks.
const BLOCK: u64 = 4096;

/// Which packed NAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The NAR's hash: paths with the same NAR share it.
    pub(super) nar: Sha256,
    pub(super) recipe: Recipe,
}

/// A packed NAR that is kept: `<NAR hash>-<recipe>-<size>-<hash of the file>.nar.zst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) key: Key,
    /// Bytes in it.
    pub(super) size: u64,
    /// The hash of them.
    pub(super) hash: Sha256,
}

impl Kept {
    /// Reads a file's name. Nothing for what is not ours.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('-');
        let mut next = || parts.next();
        let nar = Sha256::parse_nix32(next()?).ok()?;
        let recipe = next()?.parse().ok()?;
        let size = next()?.parse().ok()?;
        let hash = Sha256::parse_nix32(next()?).ok()?;
        let kept = Self { key: Key { nar, recipe }, size, hash };
        (kept.to_string() == name).then_some(kept)
    }

    /// Bytes that it takes on a disk.
    pub(super) fn footprint(&self) -> u64 {
        footprint(self.size)
    }
}

/// Bytes that so many take on a disk.
pub(super) fn footprint(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key: Key { nar, recipe }, size, hash } = self;
        write!(f, "{}-{recipe}-{size}-{}{SUFFIX}", nar.to_nix32(), hash.to_nix32())
    }
}
