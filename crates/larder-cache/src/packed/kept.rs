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

#[cfg(test)]
mod tests {
    use larder_formats::hash::Sha256;
    use proptest::prelude::*;

    use super::{Kept, Key};
    use crate::packed::recipe::Recipe;

    fn kept() -> Kept {
        let key = Key { nar: Sha256::of(b"nar"), recipe: Recipe::of(9) };
        Kept { key, size: 1234, hash: Sha256::of(b"packed") }
    }

    #[test]
    fn a_name_reads_back_as_what_it_was_written_for() {
        let name = kept().to_string();
        assert_eq!(Kept::of_name(&name), Some(kept()));
        let (nar, packed) = (Sha256::of(b"nar").to_nix32(), Sha256::of(b"packed").to_nix32());
        for other in [
            format!("{nar}-1.9.10507-01234-{packed}.nar.zst"),
            format!("{nar}-1.9.10507-+1234-{packed}.nar.zst"),
            format!("{nar}-1.09.10507-1234-{packed}.nar.zst"),
            format!("{nar}-1.9.10507.1-1234-{packed}.nar.zst"),
            format!("{nar}-1.9-1234-{packed}.nar.zst"),
            format!("{nar}-1.9.10507-1234.nar.zst"),
            format!("{name}.part"),
            format!("x{name}"),
            format!("{name}-"),
        ] {
            assert_eq!(Kept::of_name(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_ours_or_is_not(name in "([0-9a-z]{52}|[0-9.]{0,9}|-|\\.nar\\.zst){0,9}") {
            prop_assert!(Kept::of_name(&name).is_none_or(|kept| kept.to_string() == name));
        }
    }
}
