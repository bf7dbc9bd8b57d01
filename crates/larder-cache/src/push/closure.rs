//! A closure, references first.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use larder_formats::{narinfo::NarInfo, store_path::StorePathHash};

use crate::cache::{Cache, CacheError};

/// Paths that are asked about at once.
const AT_ONCE: usize = 16;

/// Why a closure is not known.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// A path that is wanted, or referred to, is not there.
    #[error("{0} is not in the store; build or fetch it first (`nix-store --realise`)")]
    Absent(String),
    /// The store does not tell.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The closure of some paths in a cache, each after all it refers to.
pub(super) async fn closure(
    cache: &dyn Cache,
    roots: &[StorePathHash],
) -> Result<Vec<Arc<NarInfo>>, ClosureError> {
    let mut known: HashMap<StorePathHash, Arc<NarInfo>> = HashMap::new();
    let mut wanted: Vec<(StorePathHash, String)> =
        roots.iter().map(|hash| (*hash, hash.to_string())).collect();
    while !wanted.is_empty() {
        let answers = stream::iter(wanted.drain(..)).map(|(hash, name)| async move {
            cache.narinfo(hash).await?.ok_or(ClosureError::Absent(name))
        });
        let found: Vec<_> = answers.buffer_unordered(AT_ONCE).boxed().try_collect().await?;
        known.extend(found.iter().map(|info| (info.store_path.hash(), Arc::clone(info))));
        let next: HashMap<StorePathHash, String> = found
            .iter()
            .flat_map(|info| &info.references)
            .filter(|path| !known.contains_key(&path.hash()))
            .map(|path| (path.hash(), path.to_string()))
            .collect();
        wanted.extend(next);
    }
    Ok(sorted(&known, roots))
}

/// References first. Nothing refers to what refers to it, but for itself.
fn sorted(
    known: &HashMap<StorePathHash, Arc<NarInfo>>,
    roots: &[StorePathHash],
) -> Vec<Arc<NarInfo>> {
    let mut sorted = Vec::with_capacity(known.len());
    let mut seen = HashSet::with_capacity(known.len());
    let mut open: Vec<(StorePathHash, bool)> = roots.iter().rev().map(|it| (*it, false)).collect();
    while let Some((hash, done)) = open.pop() {
        let Some(info) = known.get(&hash) else { continue };
        if done {
            sorted.push(Arc::clone(info));
        } else if seen.insert(hash) {
            open.push((hash, true));
            let below = info.references.iter().map(|path| (path.hash(), false));
            open.extend(below.filter(|(hash, _)| !seen.contains(hash)));
        }
    }
    sorted
}
