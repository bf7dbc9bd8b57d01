//! What is downloaded, and from which cache.

use larder_formats::store_path::StorePath;
use serde::Serialize;

use super::{changes::PackageDiff, reason::CacheAnswer};
use crate::night::BuildPlan;

/// What is downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Downloads {
    /// How many store paths.
    pub paths: usize,
    /// Bytes to download, as far as the caches say.
    pub bytes: u64,
    /// Bytes they take in the store.
    pub unpacked_bytes: u64,
    /// Paths that neither a cache has nor a derivation is known for.
    pub unknown: Vec<StorePath>,
    /// From which cache how much of it comes: each path from the first that has it.
    pub caches: Vec<FromCache>,
    /// What these are, against the running system. What is only needed to build is among them, and what goes
    /// away is not.
    pub packages: PackageDiff,
}

/// What comes from a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FromCache {
    /// The cache's URL, without a password in it.
    pub cache: String,
    /// How many paths.
    pub paths: usize,
    /// Bytes to download, where the cache says so.
    pub bytes: u64,
}

impl Downloads {
    /// Counts what Nix plans to fetch, as the caches know it.
    pub fn of<'a>(
        plan: &'a BuildPlan,
        answers: &[CacheAnswer],
        running: impl IntoIterator<Item = &'a StorePath>,
    ) -> Self {
        let mut left = plan.fetch.clone();
        let mut caches = Vec::new();
        for CacheAnswer { cache, told } in answers {
            let Ok(known) = told else { continue };
            let mut from = FromCache { cache: cache.clone(), paths: 0, bytes: 0 };
            left.retain(|path| match known.get(path) {
                None => true,
                Some(info) => {
                    from.paths += 1;
                    from.bytes += info.download_size.unwrap_or_default();
                    false
                }
            });
            if from.paths > 0 {
                caches.push(from);
            }
        }
        Self {
            paths: plan.fetch.len(),
            bytes: plan.download_bytes,
            unpacked_bytes: plan.unpacked_bytes,
            unknown: plan.unknown.iter().cloned().collect(),
            caches,
            packages: PackageDiff::of_downloads(running, &plan.fetch),
        }
    }
}
