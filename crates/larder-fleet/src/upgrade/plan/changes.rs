//! What is another in the new system than in the one that runs: packages and versions, by their closures.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::{package_name::PackageName, store_path::StorePath};
use serde::{Deserialize, Serialize};

/// A system's closure: each path with the bytes of its NAR.
pub type Closure = BTreeMap<StorePath, u64>;

/// What is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Packages and their versions.
    pub packages: PackageDiff,
    /// Bytes of the running system's closure; nothing runs before the first switch.
    pub closure_before: Option<u64>,
    /// Bytes of the new system's closure.
    pub closure_after: u64,
}

impl Changes {
    /// Compares two systems.
    pub fn between(before: Option<&Closure>, after: &Closure) -> Self {
        let paths = before.map(|closure| closure.keys()).into_iter().flatten();
        Self {
            packages: PackageDiff::between(paths, after.keys()),
            closure_before: before.map(|closure| closure.values().sum()),
            closure_after: after.values().sum(),
        }
    }
}

/// What only a reboot brings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reboot {
    /// The parts that are others than those that were booted: of `kernel`, `initrd`, `kernel-modules`.
    pub changed: Vec<&'static str>,
}

/// A package and its versions: several, where several are in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its versions, in no meaningful order. One that has none has the empty one.
    pub versions: BTreeSet<String>,
}

/// A package whose versions are others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its name.
    pub name: String,
    /// The versions of before.
    pub before: BTreeSet<String>,
    /// The versions to come.
    pub after: BTreeSet<String>,
}

/// How two sets of packages differ, each list ordered by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageDiff {
    /// Packages that were not there.
    pub added: Vec<Package>,
    /// Packages that are no longer there.
    pub removed: Vec<Package>,
    /// Packages at other versions.
    pub changed: Vec<Change>,
    /// How many are at the same versions, but not the same: something that they are made of changed.
    pub rebuilt: usize,
}

/// A package's versions and paths.
type Found<'a> = (BTreeSet<&'a str>, BTreeSet<&'a StorePath>);

impl PackageDiff {
    /// Compares sets of store paths. The outputs of a package count as one.
    pub fn between<'a>(
        before: impl IntoIterator<Item = &'a StorePath>,
        after: impl IntoIterator<Item = &'a StorePath>,
    ) -> Self {
        let (before, mut after) = (packages(before), packages(after));
        let mut diff = Self::default();
        for (name, (versions, paths)) in before {
            match after.remove(name) {
                None => diff.removed.push(package(name, &versions)),
                Some((now, _)) if now != versions => diff.changed.push(Change {
                    name: name.to_owned(),
                    before: owned(&versions),
                    after: owned(&now),
                }),
                Some((_, now)) => diff.rebuilt += usize::from(now != paths),
            }
        }
        diff.added = after.iter().map(|(name, (versions, _))| package(name, versions)).collect();
        diff
    }

    /// What these downloads are to the running system: new, or others than what has the same name there.
    pub fn of_downloads<'a>(
        running: impl IntoIterator<Item = &'a StorePath>,
        downloads: impl IntoIterator<Item = &'a StorePath> + Clone,
    ) -> Self {
        let names = packages(downloads.clone());
        let alike = |path: &&StorePath| names.contains_key(PackageName::of(path).name);
        Self::between(running.into_iter().filter(alike), downloads)
    }
}

fn packages<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> BTreeMap<&'a str, Found<'a>> {
    let mut found = BTreeMap::<&str, Found<'_>>::new();
    for path in paths {
        let PackageName { name, version } = PackageName::of(path);
        let (versions, paths) = found.entry(name).or_default();
        versions.insert(version);
        paths.insert(path);
    }
    found
}

fn package(name: &str, versions: &BTreeSet<&str>) -> Package {
    Package { name: name.to_owned(), versions: owned(versions) }
}

fn owned(versions: &BTreeSet<&str>) -> BTreeSet<String> {
    versions.iter().map(|version| (*version).to_owned()).collect()
}
