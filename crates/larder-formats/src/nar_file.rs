//! The names of the files that NARs lie in, in a static cache.
//!
//! Promise: a name that is read is written the same again. What is in the file is not known here.

use std::fmt;

use crate::{hash::Sha256, narinfo::Compression};

/// The file of a NAR: `nar/<hash of the file>.nar[.<suffix of the compression>]`. Named by what is in it, so
/// what lies under a name is never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarFile {
    /// The hash of the file, compressed as it is.
    pub hash: Sha256,
    /// The suffix.
    pub suffix: Suffix,
}

/// What follows `.nar` in the name of a NAR's file. Nix has none for gzip, so none says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suffix {
    /// Nothing: not compressed, or with gzip.
    None,
    /// `.xz`
    Xz,
    /// `.bz2`
    Bz2,
    /// `.gz`, which Nix does not write.
    Gz,
    /// `.zst`
    Zst,
    /// `.br`
    Br,
    /// `.lz4`
    Lz4,
    /// `.lzip`
    Lzip,
}

impl Suffix {
    const ALL: [(Self, &'static str); 8] = [
        (Self::None, ""),
        (Self::Xz, ".xz"),
        (Self::Bz2, ".bz2"),
        (Self::Gz, ".gz"),
        (Self::Zst, ".zst"),
        (Self::Br, ".br"),
        (Self::Lz4, ".lz4"),
        (Self::Lzip, ".lzip"),
    ];

    /// What Nix appends for a compression.
    #[must_use]
    pub fn of(compression: Compression) -> Self {
        match compression {
            Compression::Xz => Self::Xz,
            Compression::Bzip2 => Self::Bz2,
            Compression::Zstd => Self::Zst,
            Compression::Br => Self::Br,
            Compression::Lz4 => Self::Lz4,
            Compression::Lzip => Self::Lzip,
            _ => Self::None,
        }
    }

    /// Its text, the dot included.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(suffix, _)| *suffix == self);
        found.map_or("", |(_, text)| text)
    }

    /// The compression it stands for; nothing where it says nothing.
    #[must_use]
    pub fn compression(self) -> Option<Compression> {
        Some(match self {
            Self::None => return None,
            Self::Xz => Compression::Xz,
            Self::Bz2 => Compression::Bzip2,
            Self::Gz => Compression::Gzip,
            Self::Zst => Compression::Zstd,
            Self::Br => Compression::Br,
            Self::Lz4 => Compression::Lz4,
            Self::Lzip => Compression::Lzip,
        })
    }
}

impl NarFile {
    /// Reads a file's name, without the folder.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (hash, suffix) = name.split_once(".nar")?;
        let hash = Sha256::parse_nix32(hash).ok()?;
        let (suffix, _) = Suffix::ALL.into_iter().find(|(_, text)| *text == suffix)?;
        Some(Self { hash, suffix })
    }

    /// Reads the URL of a narinfo. Nothing for one that leads elsewhere, or is not named as we name them.
    #[must_use]
    pub fn of_url(url: &str) -> Option<Self> {
        Self::parse(url.strip_prefix("nar/")?)
    }

    /// The URL in its narinfos.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nar/{self}")
    }
}

impl fmt::Display for NarFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.nar{}", self.hash.to_nix32(), self.suffix.as_str())
    }
}
