//! Brings there what may go and can, and says of the rest why not: for those at work when nobody looks on.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use larder_formats::store_path::{StorePath, StorePathHash};

use super::{Event, InspectError, Inspected, Observer, Plan, PlanError, Push};
use crate::secrets::AllowList;

/// Why nothing could be brought there.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It could not be looked for secrets.
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The roots that are there, with all they refer to.
    pub done: Vec<StorePath>,
    /// What must not go there. What refers to it did not either.
    pub refused: Vec<Inspected>,
    /// The roots that reach something refused, each with that.
    pub held_back: Vec<(StorePath, StorePath)>,
    /// What failed, each with the reason. Roots that reach it are not done.
    pub failures: Vec<super::Failure>,
    /// Paths that were sent.
    pub sent: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Push {
    /// Brings these roots and all they refer to there. With `allowed`, what looks like a secret and is not on that
    /// list stays here, and so does all that refers to it.
    ///
    /// # Errors
    /// When the target or the store does not tell what it has. What single paths meet is in the delivery.
    pub async fn deliver(
        &self,
        roots: &[StorePath],
        allowed: Option<&AllowList>,
        now: Timestamp,
        observer: &Observer,
    ) -> Result<Delivery, DeliverError> {
        let hashes: Vec<_> = roots.iter().map(StorePath::hash).collect();
        let mut plan = self.plan(&hashes).await?;
        let referrers = referrers(&plan);
        let mut delivery = Delivery::default();
        let reads = if allowed.is_some() { 2 } else { 1 };
        observer(Event::Planned(reads * plan.nar_size()));
        if let Some(allowed) = allowed {
            delivery.refused = self.inspect(&plan, allowed, now, observer).await?;
            let secret: Vec<_> = delivery.refused.iter().map(|it| it.path.clone()).collect();
            (plan, _) = plan.without(&secret);
        }
        if !plan.send.is_empty() {
            let sent = self.send(&plan, observer).await;
            delivery.sent = plan.send.len().saturating_sub(sent.failures.len());
            delivery.bytes = sent.bytes;
            delivery.failures = sent.failures;
        }
        self.to.release().await;
        delivery.judge(roots, &referrers);
        Ok(delivery)
    }
}

impl Delivery {
    /// Says of each root whether it is done.
    fn judge(&mut self, roots: &[StorePath], referrers: &Referrers) {
        let failed = self.failures.iter().map(|it| it.path.hash());
        let mut unfinished = reached_from(failed, referrers);
        for refused in &self.refused {
            let reached = reached_from(std::iter::once(refused.path.hash()), referrers);
            for root in roots.iter().filter(|root| reached.contains(&root.hash())) {
                if unfinished.insert(root.hash()) {
                    self.held_back.push((root.clone(), refused.path.clone()));
                }
            }
        }
        let done = roots.iter().filter(|root| !unfinished.contains(&root.hash()));
        self.done = done.cloned().collect();
    }
}

type Referrers = HashMap<StorePathHash, Vec<StorePathHash>>;

fn referrers(plan: &Plan) -> Referrers {
    let mut referrers = Referrers::new();
    let upstream = plan.upstream.iter().map(|(info, _)| info);
    for info in plan.send.iter().chain(&plan.there).chain(upstream) {
        for reference in &info.references {
            referrers.entry(reference.hash()).or_default().push(info.store_path.hash());
        }
    }
    referrers
}

/// These and all that refers to them.
fn reached_from(
    start: impl Iterator<Item = StorePathHash>,
    referrers: &Referrers,
) -> HashSet<StorePathHash> {
    let mut open: Vec<StorePathHash> = start.collect();
    let mut seen: HashSet<StorePathHash> = open.iter().copied().collect();
    while let Some(hash) = open.pop() {
        let above = referrers.get(&hash).into_iter().flatten();
        open.extend(above.filter(|hash| seen.insert(**hash)));
    }
    seen
}
