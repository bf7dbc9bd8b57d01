//! What is to be sent, and what need not be.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use larder_formats::{
    narinfo::NarInfo,
    store_path::{StorePath, StorePathHash},
};

use super::{ClosureError, Push, closure::closure};
use crate::{
    cache::Cache, lease::LeaseError, names::Names, source::object_storage::CommitError,
    upstream::Upstream,
};

/// Paths that an upstream is asked about at once.
const AT_ONCE: usize = 32;

/// What a push would do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What is sent, references first.
    pub send: Vec<Arc<NarInfo>>,
    /// What the target has.
    pub there: Vec<Arc<NarInfo>>,
    /// What an upstream has, and the upstream's name.
    pub upstream: Vec<(Arc<NarInfo>, String)>,
    /// Upstreams that did not tell; what they might have is sent.
    pub silent: BTreeSet<String>,
    /// Since when what the target has is kept from being collected.
    pub held: Timestamp,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The closure is not known.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// The target does not tell what it has.
    #[error(transparent)]
    Target(#[from] CommitError),
    /// What it has could not be kept from being collected meanwhile.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl Plan {
    /// Leaves out all but these paths.
    pub fn restrict(&mut self, only: &[StorePathHash]) {
        let wanted = |info: &Arc<NarInfo>| only.contains(&info.store_path.hash());
        self.send.retain(wanted);
        self.there.retain(wanted);
        self.upstream.retain(|(info, _)| wanted(info));
    }

    /// Leaves out these paths, and those that refer to them; says which these are.
    #[must_use]
    pub fn without(mut self, paths: &[StorePath]) -> (Self, Vec<StorePath>) {
        let mut gone: HashSet<StorePath> = paths.iter().cloned().collect();
        let mut referrers = Vec::new();
        // References first, so that one look at each will do.
        self.send.retain(|info| {
            let path = &info.store_path;
            let leads_there = info.references.iter().any(|it| gone.contains(it));
            if leads_there && gone.insert(path.clone()) {
                referrers.push(path.clone());
            }
            !gone.contains(path)
        });
        (self, referrers)
    }

    /// Sorts out what an upstream has; the rest is to be sent.
    async fn ask(&mut self, upstreams: &[Upstream], mut absent: Vec<Arc<NarInfo>>) {
        for upstream in upstreams {
            let asked = std::mem::take(&mut absent);
            // One that did not tell once is not asked on: it may be that there is no network.
            let silent = &AtomicBool::new(false);
            let answers = stream::iter(asked).map(|info| async move {
                if silent.load(Ordering::Relaxed) {
                    return (info, Ok(false));
                }
                let answer = upstream.has(&info.store_path).await;
                silent.fetch_or(answer.is_err(), Ordering::Relaxed);
                (info, answer)
            });
            // In order, since references come first.
            let answers: Vec<_> = answers.buffered(AT_ONCE).boxed().collect().await;
            for (info, answer) in answers {
                match answer {
                    Ok(true) => self.upstream.push((info, upstream.name.clone())),
                    Ok(false) => absent.push(info),
                    Err(error) => {
                        tracing::debug!(%error, upstream = upstream.name, "an upstream did not tell");
                        self.silent.insert(upstream.name.clone());
                        absent.push(info);
                    }
                }
            }
        }
        self.send = absent;
    }

    /// Bytes of the NARs that are sent.
    #[must_use]
    pub fn nar_size(&self) -> u64 {
        self.send.iter().map(|info| info.nar_size).sum()
    }

    /// All paths of the closure.
    pub fn paths(&self) -> impl Iterator<Item = StorePathHash> {
        let upstream = self.upstream.iter().map(|(info, _)| info);
        self.send.iter().chain(&self.there).chain(upstream).map(|info| info.store_path.hash())
    }
}

/// What of these paths and all they refer to no upstream has, for a target that is not asked.
///
/// # Errors
/// When a path is not there.
pub async fn not_upstream(
    from: &dyn Cache,
    upstreams: &[Upstream],
    roots: &[StorePathHash],
) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    plan.ask(upstreams, closure(from, roots).await?).await;
    Ok(plan)
}

impl Push {
    /// What is to be done so that the target, or an upstream, has these paths and all they refer to.
    ///
    /// # Errors
    /// When a path is not there, or the target does not tell what it has.
    pub async fn plan(&self, roots: &[StorePathHash]) -> Result<Plan, PlanError> {
        let wanted = closure(&*self.from, roots).await?;
        let paths: Vec<_> = wanted.iter().map(|info| info.store_path.hash()).collect();
        let held = self.to.hold(&Names::of_paths(paths.iter().copied())).await?.paths;
        let there = self.to.present(paths).await?;
        let mut plan = Plan { held, ..Plan::default() };
        let (there, absent): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|info| there.contains(&info.store_path.hash()));
        plan.there = there;
        plan.ask(&self.upstreams, absent).await;
        Ok(plan)
    }
}
