//! Mending what a check found.
//!
//! First what this machine's store has is sent again, over what is damaged. What is still wrong then is removed with
//! all that refers to it, as a collection removes: announced, referrers first, and nothing that a pin or a lease
//! reaches. So nobody is told of wrong bytes that could be taken away, and repairing again finishes what was left.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use larder_formats::{
    narinfo::NarInfo,
    store_path::{StorePath, StorePathHash},
};

use tokio_util::sync::CancellationToken;

use super::{
    apply::{CollectError, Collector, Outcome, Progress},
    check::{Broken, CheckError, Checker, Found},
    plan::{Plan, Wrong},
    snapshot::Snapshot,
};
use crate::{
    cache::CacheError,
    pin,
    push::{self, InspectError, Inspected, Observer, PlanError, Push, Sent},
    record::{Name, RecordError},
    secrets::AllowList,
};

/// Mends one cache.
pub struct Repair {
    /// Says what is wrong.
    pub checker: Checker,
    /// Removes what cannot be mended.
    pub collector: Collector,
    /// Sends what this machine's store has; without, nothing is mended so.
    pub push: Option<Push>,
    /// Where others can read the cache, what may be sent although it looks like a secret.
    pub allowed: Option<AllowList>,
    /// Stops it: what is being sent is left, and nothing more is removed.
    pub stop: CancellationToken,
}

/// What there is to do.
#[derive(Debug, Default)]
pub struct Remedies {
    /// What can be sent again, and what that needs. Nothing if there is no such thing.
    pub send: Option<push::Plan>,
    /// What could be sent but for the secrets that it may hold.
    pub secrets: Vec<Inspected>,
    /// What has to be removed when that is sent.
    pub remove: Plan,
    /// What is wrong, and stays.
    pub stays: Vec<Stays>,
}

/// Something wrong that stays where it is.
#[derive(Debug)]
pub struct Stays {
    /// What.
    pub broken: Broken,
    /// The pins that reach it. None: somebody is working with it.
    pub pins: Vec<Name>,
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// What became of what was sent again.
    pub sent: Sent,
    /// How many paths that brought back.
    pub mended: usize,
    /// What was not sent, because it may hold secrets.
    pub secrets: Vec<Inspected>,
    /// What was to be removed.
    pub plan: Plan,
    /// What became of that.
    pub removed: Outcome,
    /// What is wrong still.
    pub stays: Vec<Stays>,
    /// What could not be told.
    pub unsure: Vec<String>,
}

/// Is told how far a repair is.
pub struct Watch<'a> {
    /// Of what is looked for secrets, and sent.
    pub sending: &'a Observer,
    /// Of what is removed.
    pub removing: &'a (dyn Fn(Progress) + Sync),
}

/// A repair could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// What is wrong is not known.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Nothing can be removed.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// Pins cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// This machine's store does not tell what it has.
    #[error(transparent)]
    Store(#[from] CacheError),
    /// What to send is not known.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It could not be looked for secrets.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// It was told to.
    #[error("the repair was stopped")]
    Stopped,
}

impl Repaired {
    /// Whether nothing is wrong any more.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.stays.is_empty()
            && self.unsure.is_empty()
            && self.removed.failures.is_empty()
            && self.removed.spared == 0
            && self.removed.left == 0
    }
}

impl Repair {
    /// What would be done about what was found. Changes nothing, but for a lease on what would be sent, if `push` holds
    /// any. `sending` is told of what is looked for secrets.
    ///
    /// # Errors
    /// When the cache or the store does not tell.
    pub async fn remedies(
        &self,
        found: &Found,
        sending: &Observer,
    ) -> Result<Remedies, RepairError> {
        let (send, secrets) = match (&self.push, self.to_send(found).await?) {
            (Some(push), Some(plan)) => {
                let (plan, secrets) = self.harmless(push, plan, sending).await?;
                (Some(plan), secrets)
            }
            _ => (None, Vec::new()),
        };
        let mended = send.iter().flat_map(|plan| &plan.send);
        let mended: HashSet<_> = mended.map(|info| info.store_path.hash()).collect();
        let is_mended = |broken: &&Broken| {
            let sent = mended.contains(&broken.hash) || broken.only_lacks_references();
            sent && broken.missing().all(|path| mended.contains(&path.hash()))
        };
        let left = found.broken.values().filter(|broken| !is_mended(broken));
        let left: BTreeMap<_, _> = left.map(|broken| (broken.hash, broken.clone())).collect();
        let wrong = wrong(&left, found);
        let snapshot = self.checker.look().await?;
        let (remove, stays) = self.collector.plan_wrong(&snapshot, &wrong).await?;
        let stays = self.staying(&snapshot, &stays, left).await?;
        Ok(Remedies { send, secrets, remove, stays })
    }

    /// Does it. `contents`: whether NARs were read for `found`; those of what was wrong are then read again.
    ///
    /// # Errors
    /// When the cache or the store does not tell. What could not be sent or removed is in the answer instead.
    pub async fn apply(
        &mut self,
        found: Found,
        contents: bool,
        watch: &Watch<'_>,
    ) -> Result<Repaired, RepairError> {
        let mut repaired = Repaired::default();
        if let Some(plan) = self.to_send(&found).await? {
            let sent = tokio::select! {
                sent = self.send(plan, watch, &mut repaired) => sent,
                () = self.stop.cancelled() => Err(RepairError::Stopped),
            };
            if let Some(push) = &self.push {
                // What we hold ourselves is not to keep us from removing what could not be mended.
                push.to.release().await;
            }
            sent?;
        }
        // To find out what is wrong may have taken hours, and others mend meanwhile. What they write after this look
        // is spared.
        let snapshot = self.checker.look().await?;
        let found = self.check_again(&snapshot, &found, contents).await?;
        let wrong = wrong(&found.broken, &found);
        let (plan, stays) = self.collector.plan_wrong(&snapshot, &wrong).await?;
        if !plan.paths.is_empty() || !plan.nars.is_empty() {
            repaired.removed = self.collector.apply(&plan, watch.removing).await?;
        }
        repaired.plan = plan;
        repaired.stays = self.staying(&snapshot, &stays, found.broken).await?;
        repaired.unsure = found.unsure;
        Ok(repaired)
    }

    /// What of the broken paths, and of what they lack, the store has, exactly.
    async fn to_send(&self, found: &Found) -> Result<Option<push::Plan>, RepairError> {
        let Some(push) = &self.push else { return Ok(None) };
        let (mut again, mut roots) = (HashSet::new(), BTreeSet::new());
        for broken in found.broken.values() {
            if broken.only_lacks_references() {
                for path in broken.missing() {
                    if ours(push, path.hash()).await?.is_some_and(|it| it.store_path == *path) {
                        roots.insert(path.hash());
                    }
                }
            } else if let Some(ours) = ours(push, broken.hash).await?
                && broken.info.as_ref().is_none_or(|info| {
                    info.nar_hash == ours.nar_hash && info.store_path == ours.store_path
                })
            {
                again.insert(broken.hash);
                roots.insert(broken.hash);
            }
        }
        if roots.is_empty() {
            return Ok(None);
        }
        let roots: Vec<_> = roots.into_iter().collect();
        Ok(Some(push.plan_again(&roots, again).await?))
    }

    async fn send(
        &self,
        plan: push::Plan,
        watch: &Watch<'_>,
        repaired: &mut Repaired,
    ) -> Result<(), RepairError> {
        let Some(push) = &self.push else { return Ok(()) };
        let (plan, secrets) = self.harmless(push, plan, watch.sending).await?;
        repaired.secrets = secrets;
        repaired.sent = push.send(&plan, watch.sending).await;
        repaired.mended = plan.send.len().saturating_sub(repaired.sent.failures.len());
        Ok(())
    }

    /// What of a plan may be sent, and what may not because others could read the secrets in it.
    async fn harmless(
        &self,
        push: &Push,
        plan: push::Plan,
        observer: &Observer,
    ) -> Result<(push::Plan, Vec<Inspected>), RepairError> {
        let Some(allowed) = &self.allowed else { return Ok((plan, Vec::new())) };
        let now = (self.checker.clock)();
        let secrets = push.inspect(&plan, allowed, now, observer).await?;
        let paths: Vec<StorePath> = secrets.iter().map(|found| found.path.clone()).collect();
        Ok((plan.without(&paths).0, secrets))
    }

    /// Looks again at everything that is looked at without reading it, and reads what was wrong.
    async fn check_again(
        &self,
        snapshot: &Snapshot,
        before: &Found,
        contents: bool,
    ) -> Result<Found, RepairError> {
        let mut found = self.checker.check(snapshot).await?;
        if contents {
            let was_wrong =
                |paths: &[StorePathHash]| paths.iter().any(|path| before.broken.contains_key(path));
            let wanted = |file: &_, paths: &[StorePathHash]| {
                before.damaged.contains_key(file) || was_wrong(paths)
            };
            self.checker.read(snapshot, &mut found, &wanted, &|_| {}).await;
        }
        // What could not be read then was not read now.
        found.unsure.extend(before.unsure.iter().cloned());
        found.unsure.sort();
        found.unsure.dedup();
        Ok(found)
    }

    /// What stays, with the pins that keep it.
    async fn staying(
        &self,
        snapshot: &Snapshot,
        stays: &[StorePathHash],
        mut broken: BTreeMap<StorePathHash, Broken>,
    ) -> Result<Vec<Stays>, RepairError> {
        if stays.is_empty() {
            return Ok(Vec::new());
        }
        let pins = pin::all(&**self.checker.cache.storage()).await?;
        let reached: Vec<(Name, Vec<bool>)> =
            pins.into_iter().map(|pin| (pin.name.clone(), reached(snapshot, &pin))).collect();
        let stays = stays.iter().filter_map(|hash| {
            let broken = broken.remove(hash)?;
            let position = snapshot.position(hash);
            let keeps = |reached: &[bool]| position.is_some_and(|position| reached[position]);
            let pins = reached.iter().filter(|(_, reached)| keeps(reached));
            Some(Stays { broken, pins: pins.map(|(name, _)| name.clone()).collect() })
        });
        Ok(stays.collect())
    }
}

/// What this machine's store has of a path.
async fn ours(push: &Push, path: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
    push.from.narinfo(path).await
}

fn wrong(broken: &BTreeMap<StorePathHash, Broken>, found: &Found) -> Wrong {
    Wrong { paths: broken.keys().copied().collect(), nars: found.damaged.keys().copied().collect() }
}

fn reached(snapshot: &Snapshot, pin: &pin::Pin) -> Vec<bool> {
    let mut reached = vec![false; snapshot.paths().len()];
    let from = pin.paths.iter().filter_map(|path| snapshot.position(&path.hash()));
    snapshot.reach(from, &mut reached);
    reached
}
