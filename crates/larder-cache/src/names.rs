//! Store paths and NAR files by name, as leases keep them and collections condemn them.

use std::collections::BTreeSet;

use larder_formats::{nar_file::NarFile, store_path::StorePathHash};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Some paths and NAR files of a cache, there or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Paths: their narinfos.
    #[serde(with = "paths", default)]
    pub paths: BTreeSet<StorePathHash>,
    /// Files of NARs.
    #[serde(with = "nars", default)]
    pub nars: BTreeSet<NarFile>,
}

impl Names {
    /// Of these paths.
    pub fn of_paths(paths: impl IntoIterator<Item = StorePathHash>) -> Self {
        Self { paths: paths.into_iter().collect(), nars: BTreeSet::new() }
    }

    /// Of this NAR's file.
    #[must_use]
    pub fn of_nar(file: NarFile) -> Self {
        Self { paths: BTreeSet::new(), nars: BTreeSet::from([file]) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len() + self.nars.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.nars.is_empty()
    }

    /// Takes in others.
    pub fn extend(&mut self, other: &Self) {
        self.paths.extend(&other.paths);
        self.nars.extend(&other.nars);
    }

    /// Leaves out others.
    pub fn remove(&mut self, other: &Self) {
        self.paths.retain(|path| !other.paths.contains(path));
        self.nars.retain(|nar| !other.nars.contains(nar));
    }

    /// Whether any of these is also one of those.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        !self.paths.is_disjoint(&other.paths) || !self.nars.is_disjoint(&other.nars)
    }
}

mod paths {
    use super::{BTreeSet, Deserializer, Serializer, StorePathHash, parsed};

    pub(super) fn serialize<S: Serializer>(
        paths: &BTreeSet<StorePathHash>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<StorePathHash>, D::Error> {
        parsed(deserializer, |text| text.parse().ok())
    }
}

mod nars {
    use super::{BTreeSet, Deserializer, NarFile, Serializer, parsed};

    pub(super) fn serialize<S: Serializer>(
        nars: &BTreeSet<NarFile>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(nars.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<NarFile>, D::Error> {
        parsed(deserializer, NarFile::parse)
    }
}

/// A name that cannot be read is an error: who passes over it could remove what it stands for.
fn parsed<'de, D: Deserializer<'de>, T: Ord>(
    deserializer: D,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<BTreeSet<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let read = |text: &String| {
        parse(text).ok_or_else(|| D::Error::custom(format!("{text:?} is no name of this kind")))
    };
    texts.iter().map(read).collect()
}
