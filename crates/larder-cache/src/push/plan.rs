//! What is to be sent, and what need not be.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

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
    /// Those of what is sent that the target has, but not well.
    pub again: HashSet<StorePathHash>,
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

    /// Sorts out what an upstream has; the rest is to be sent, and so is what is to be sent again.
    async fn ask(&mut self, upstreams: &[Upstream], mut absent: Vec<Arc<NarInfo>>) {
        for upstream in upstreams {
            let asked = std::mem::take(&mut absent);
            let paths: Vec<_> = asked.iter().map(|info| info.store_path.clone()).collect();
            // In order, since references come first.
            for (info, has) in asked.into_iter().zip(upstream.has_each(&paths).await) {
                match has {
                    _ if self.again.contains(&info.store_path.hash()) => absent.push(info),
                    Some(true) => self.upstream.push((info, upstream.name.clone())),
                    Some(false) => absent.push(info),
                    None => {
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
        self.plan_again(roots, HashSet::new()).await
    }

    /// The same, and these are sent whoever has them: what the target has of them is damaged.
    ///
    /// # Errors
    /// As [`Push::plan`].
    pub async fn plan_again(
        &self,
        roots: &[StorePathHash],
        again: HashSet<StorePathHash>,
    ) -> Result<Plan, PlanError> {
        let wanted = closure(&*self.from, roots).await?;
        let paths: Vec<_> = wanted.iter().map(|info| info.store_path.hash()).collect();
        let held = self.to.hold(&Names::of_paths(paths.iter().copied())).await?.paths;
        let mut there = self.to.present(paths).await?;
        there.retain(|path| !again.contains(path));
        let mut plan = Plan { held, again, ..Plan::default() };
        let (there, absent): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|info| there.contains(&info.store_path.hash()));
        plan.there = there;
        plan.ask(&self.upstreams, absent).await;
        Ok(plan)
    }
}
