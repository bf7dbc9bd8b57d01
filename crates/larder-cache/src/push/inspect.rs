//! Looks for secrets in what would be sent, before anything is.

use std::{cmp::Reverse, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use larder_formats::{nar::NarError, narinfo::NarInfo, store_path::StorePath};

use super::{Event, Observer, Plan, Push};
use crate::{
    cache::{Cache, CacheError, NarIdentity},
    on_a_thread::{Lost, on_a_thread},
    secrets::{AllowList, Finding, Scanner},
};

/// A path and what was found in it.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The path.
    pub path: StorePath,
    /// Each of them.
    pub findings: Vec<Finding>,
}

/// Why a path was not looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It could not be read.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// It is not a NAR.
    #[error("{path}: {source}")]
    Nar {
        /// The path.
        path: StorePath,
        /// What is wrong.
        source: NarError,
    },
    /// The work was not finished.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It is gone.
    #[error("{0} is no longer in the store")]
    Gone(StorePath),
}

impl Push {
    /// What must not be sent to where others can read it. Nothing of the plan is sent by this.
    ///
    /// # Errors
    /// When a path cannot be read.
    pub async fn inspect(
        &self,
        plan: &Plan,
        allowed: &AllowList,
        now: Timestamp,
        observer: &Observer,
    ) -> Result<Vec<Inspected>, InspectError> {
        inspect(&self.from, plan, (allowed, now), observer).await
    }
}

/// What of a plan others must not read.
///
/// # Errors
/// When a path cannot be read.
pub async fn inspect(
    from: &Arc<dyn Cache>,
    plan: &Plan,
    (allowed, now): (&AllowList, Timestamp),
    observer: &Observer,
) -> Result<Vec<Inspected>, InspectError> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // The largest first, and each as soon as a core is free: none waits for another one at the end.
    let mut paths: Vec<_> = plan.send.iter().cloned().enumerate().collect();
    paths.sort_by_key(|(_, info)| Reverse(info.nar_size));
    let looked = stream::iter(paths).map(|(place, info)| {
        let scanner = Scanner::new(&info.store_path, allowed, now);
        let work = inspect_path(Arc::clone(from), info, scanner, Arc::clone(observer));
        async move { Ok::<_, InspectError>((place, on_a_thread(work).await??)) }
    });
    let mut found: Vec<_> = looked
        .buffer_unordered(cores)
        .boxed()
        .try_filter(|(_, inspected)| futures::future::ready(!inspected.findings.is_empty()))
        .try_collect()
        .await?;
    // As the plan has them.
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, inspected)| inspected).collect())
}

async fn inspect_path(
    from: Arc<dyn Cache>,
    info: Arc<NarInfo>,
    mut scanner: Scanner,
    observer: Observer,
) -> Result<Inspected, InspectError> {
    let path = info.store_path.clone();
    let identity = NarIdentity { path: path.hash(), nar_hash: info.nar_hash };
    let nar = from.nar(identity, 0..info.nar_size).await?;
    let mut nar = nar.ok_or_else(|| InspectError::Gone(path.clone()))?;
    let wrong = |source| InspectError::Nar { path: path.clone(), source };
    while let Some(chunk) = nar.next().await {
        let chunk = chunk?;
        observer(Event::Passed(chunk.len()));
        scanner.feed(&chunk).map_err(wrong)?;
    }
    let findings = scanner.finish().map_err(wrong)?;
    Ok(Inspected { path, findings })
}
