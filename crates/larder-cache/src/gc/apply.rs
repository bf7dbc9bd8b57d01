//! Carrying out a plan while others read, write and collect.
//!
//! Promise: what is removed was needed by nobody at that moment, whatever happened since the plan was made; what is
//! left has its references as whole as before, even if this ends at any step; and a NAR outlives its last
//! narinfo by the grace time. Running again finishes what was left.
//!
//! Portion by portion: what is about to go is announced (see `collection.rs`); then leases, pins and the cache
//! itself are looked at again, what anybody needs now is let be, and the rest is removed, referrers
//! before what they refer to. What cannot be removed keeps what it refers to, and is reported.

mod portion;
mod tidy;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use larder_formats::{nar_file::NarFile, store_path::StorePathHash};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::portion::Portion;
use super::{
    index::{Index, IndexError},
    orphans,
    plan::{self, Known, Plan, Policy, Removal, What, Wrong},
    snapshot::{ObjectKind, Snapshot},
};
use crate::{
    collection::Announced,
    last_use::Written,
    lease,
    names::Names,
    pin,
    record::{Name, RecordError},
    source::object_storage::layout,
    storage::{Key, KeyError, Storage, StorageError},
    time::Clock,
};

/// How a plan is carried out.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Paths or NARs that are announced together. Whoever wants one of them waits until all are done.
    pub portion: usize,
    /// How long an announcement holds unless it is renewed: the time that others wait for a collector
    /// that was killed.
    pub length: SignedDuration,
    /// The time a removal may take.
    pub removal: Duration,
    /// The time after which what others wrote is seen everywhere. None where a storage shows at once what was
    /// acknowledged, as all do that are tested with.
    pub settling: Duration,
    /// Requests at once.
    pub parallel: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            portion: 20_000,
            length: SignedDuration::from_mins(5),
            removal: Duration::from_secs(60),
            settling: Duration::ZERO,
            parallel: 32,
        }
    }
}

impl Pace {
    /// The time that a removal takes at most.
    fn longest(&self) -> SignedDuration {
        SignedDuration::try_from(self.removal).unwrap_or_default()
    }
}

/// A collection could not go on.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Pins, leases or other records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A name that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// By one of two clocks, everything is older than it is, or younger.
    #[error(
        "this machine's clock says {here:.0}, and that of {url} said {there:.0} then, {difference:#}: nobody could tell \
         what is old, so nothing was removed; set the clock that is wrong (timedatectl), and collect again",
        difference = apart(*here, *there)
    )]
    Clocks {
        /// The cache.
        url: String,
        /// The time here.
        here: Timestamp,
        /// The time that something bears that was just written.
        there: Timestamp,
    },
}

/// How far a collection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Objects of the plan that were dealt with.
    pub done: usize,
    /// Objects of the plan.
    pub total: usize,
}

/// What a collection did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Paths that were removed, or were gone already.
    pub paths: usize,
    /// NAR files that were removed, or were gone already.
    pub nars: usize,
    /// Other objects that were removed, or were gone already.
    pub objects: usize,
    /// Bytes of all these.
    pub freed: u64,
    /// What was to go and is needed by somebody now.
    pub spared: usize,
    /// What was not come to, because this was told to stop.
    pub left: usize,
    /// What could not be removed, and what depends on that. A later collection tries again.
    pub failures: Vec<Failure>,
}

/// Something that could not be removed.
#[derive(Debug)]
pub struct Failure {
    /// What.
    pub what: What,
    /// Why; nothing where it stays because something stays that refers to it, or because time ran out.
    pub error: Option<StorageError>,
}

/// Collects in one cache.
pub struct Collector {
    storage: Arc<dyn Storage>,
    index: Index,
    name: Name,
    clock: Clock,
    pace: Pace,
    stop: CancellationToken,
    /// Announcements and notes so far.
    number: u64,
}

impl Collector {
    /// Does nothing yet. `name` is one that no other collector has or had: its objects are named for
    /// it.
    #[must_use]
    pub fn new(
        storage: Arc<dyn Storage>,
        index: Index,
        name: Name,
        clock: Clock,
        pace: Pace,
    ) -> Self {
        Self { storage, index, name, clock, pace, stop: CancellationToken::new(), number: 0 }
    }

    /// The same, stopping when it is told to.
    #[must_use]
    pub fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// Looks at the cache, and plans. Changes nothing in it.
    ///
    /// # Errors
    /// When the cache or its records cannot be read.
    pub async fn plan(&self, policy: &Policy) -> Result<Plan, CollectError> {
        let (snapshot, known, _) = self.look().await?;
        Ok(plan::plan(&snapshot, &known, policy, (self.clock)()))
    }

    /// Plans the removal of what was found to be wrong in a snapshot; says also what of it stays. Changes nothing.
    ///
    /// # Errors
    /// When the cache's records cannot be read.
    pub async fn plan_wrong(
        &self,
        snapshot: &Snapshot,
        wrong: &Wrong,
    ) -> Result<(Plan, Vec<StorePathHash>), CollectError> {
        let (known, _) = self.records((self.clock)()).await?;
        Ok(plan::wrong(snapshot, &known, wrong))
    }

    /// Carries a plan out, unless it is told to stop: it does so between portions. `progress` is told how far it is.
    ///
    /// # Errors
    /// When the cache or its records cannot be read, or nothing be announced. What single objects refuse is in
    /// the outcome instead.
    pub async fn apply(
        &mut self,
        plan: &Plan,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Outcome, CollectError> {
        self.compare_clocks().await?;
        self.tidy(plan).await?;
        let mut outcome = Outcome::default();
        let total = plan.paths.len() + plan.nars.len() + plan.objects.len();
        let mut done = 0;
        // Records of uploads that broke off go before their NARs: what is recorded still then is needed.
        for removals in [&plan.paths, &plan.objects, &plan.nars] {
            for portion in removals.chunks(self.pace.portion.max(1)) {
                if self.stop.is_cancelled() {
                    outcome.left = total - done;
                    return Ok(outcome);
                }
                match portion[0].what {
                    What::Path(..) => self.paths(portion, &mut outcome).await?,
                    What::Nar(_) => self.nars(portion, &mut outcome).await?,
                    What::Object(..) => self.objects(portion, &mut outcome).await?,
                }
                done += portion.len();
                progress(Progress { done, total });
            }
        }
        Ok(outcome)
    }

    /// What is there and what is known, in this order: records first, so that what a lease held is listed
    /// if the lease is gone.
    async fn look(&self) -> Result<(Snapshot, Known, Looked), CollectError> {
        let now = (self.clock)();
        let (known, looked) = self.records(now).await?;
        let (_, snapshot) = self.index.refresh(&*self.storage, now, self.pace.parallel).await?;
        Ok((snapshot, known, looked))
    }

    async fn records(&self, now: Timestamp) -> Result<(Known, Looked), CollectError> {
        let storage = &*self.storage;
        let held = lease::held(storage, now).await?;
        let pins = pin::all(storage).await?;
        let mut written = Written::read(storage).await?;
        let noted = orphans::read(storage).await?;
        let (ended, lasting): (Vec<_>, Vec<_>) =
            pins.into_iter().partition(|pin| pin.has_ended(now));
        let hashes = |pin: &pin::Pin| pin.paths.iter().map(|path| path.hash()).collect::<Vec<_>>();
        for pin in &ended {
            let until = pin.until.unwrap_or(now);
            hashes(pin).into_iter().for_each(|path| written.add(path, until));
        }
        let known = Known {
            pinned: lasting.iter().flat_map(hashes).collect(),
            held,
            uses: written.uses(),
            orphans: noted.since.clone(),
        };
        Ok((known, Looked { written, noted, ended }))
    }

    async fn paths(
        &mut self,
        removals: &[Removal],
        outcome: &mut Outcome,
    ) -> Result<(), CollectError> {
        let hash = |removal: &Removal| match removal.what {
            What::Path(hash, _) => Some((hash, removal.written)),
            What::Nar(_) | What::Object(..) => None,
        };
        let condemned: HashMap<_, _> = removals.iter().filter_map(hash).collect();
        let mut announced = self.announce(Names::of_paths(condemned.keys().copied())).await?;
        let (snapshot, known, _) = announced.during(self.look_again()).await??;
        let confirmed: HashSet<_> =
            plan::confirmed(&snapshot, &known, &condemned).into_iter().collect();
        let mut orphans = Orphans { nars: orphaned(&snapshot, &confirmed), noted_until: None };
        let portion = Portion::of(&snapshot, removals, &confirmed);
        outcome.spared += portion.spared;
        outcome.paths += portion.gone;
        // What refers to these was not removed.
        let mut needed = HashSet::new();
        let mut is_certain = true;
        for level in portion.levels {
            let (stays, may_go): (Vec<_>, Vec<_>) =
                level.into_iter().partition(|(_, position)| needed.contains(position));
            let stays = stays.into_iter().map(|(removal, position)| (removal, position, Err(None)));
            let gone = self.remove(may_go, &mut announced, &mut orphans).await?;
            is_certain &= gone.iter().all(|(_, _, result)| result.is_ok());
            for (removal, position, result) in stays.chain(gone) {
                if !outcome.note(removal, result) {
                    needed.extend(snapshot.references(position));
                }
            }
        }
        self.ended(announced, is_certain).await
    }

    async fn nars(
        &mut self,
        removals: &[Removal],
        outcome: &mut Outcome,
    ) -> Result<(), CollectError> {
        let file = |removal: &Removal| match removal.what {
            What::Nar(file) => Some((file, removal.written)),
            What::Path(..) | What::Object(..) => None,
        };
        let condemned: HashMap<_, _> = removals.iter().filter_map(file).collect();
        let names = Names { nars: condemned.keys().copied().collect(), ..Names::default() };
        let mut announced = self.announce(names).await?;
        let (snapshot, known, _) = announced.during(self.look_again()).await??;
        let confirmed: HashSet<_> =
            plan::confirmed_nars(&snapshot, &known, &condemned).into_iter().collect();
        let may_go: Vec<_> = removals
            .iter()
            .filter(|removal| file(removal).is_some_and(|(file, _)| confirmed.contains(&file)))
            .map(|removal| (removal, 0))
            .collect();
        outcome.spared += removals.len() - may_go.len();
        let gone = self.remove(may_go, &mut announced, &mut Orphans::default()).await?;
        let is_certain = gone.iter().all(|(_, _, result)| result.is_ok());
        for (removal, _, result) in gone {
            outcome.note(removal, result);
        }
        self.ended(announced, is_certain).await
    }

    /// Lets those go on who wait for an announcement. A removal that failed may still be on its way, so then
    /// they wait until it expires.
    async fn ended(&self, announced: Announced, is_certain: bool) -> Result<(), CollectError> {
        if is_certain {
            announced.end().await?;
        }
        Ok(())
    }

    /// Other objects can be made again, and nobody waits for them: each is looked at once more instead.
    async fn objects(
        &mut self,
        removals: &[Removal],
        outcome: &mut Outcome,
    ) -> Result<(), CollectError> {
        let this = &*self;
        let work = removals.iter().map(|removal| async move {
            let removed = timeout(this.pace.removal, this.remove_unchanged(removal)).await;
            (removal, removed.map_or(Err(None), |removed| removed.map_err(Some)))
        });
        let results: Vec<_> =
            stream::iter(work).buffered(this.pace.parallel).boxed().collect().await;
        for (removal, result) in results {
            match result {
                Ok(false) => outcome.spared += 1,
                Ok(true) => _ = outcome.note(removal, Ok(())),
                Err(error) => _ = outcome.note(removal, Err(error)),
            }
        }
        Ok(())
    }

    async fn remove_unchanged(&self, removal: &Removal) -> Result<bool, StorageError> {
        let What::Object(key, kind) = &removal.what else { return Ok(false) };
        let Some(object) = self.storage.stat(key).await? else { return Ok(true) };
        if object.modified.as_microsecond() != removal.written.as_microsecond() {
            return Ok(false);
        }
        if let ObjectKind::Listing(path) | ObjectKind::Realisation(Some(path)) = kind
            && let Ok(narinfo) = layout::narinfo(*path)
            && self.storage.stat(&narinfo).await?.is_some()
        {
            return Ok(false);
        }
        self.storage.delete(key).await.map(|()| true)
    }

    async fn announce(&mut self, condemned: Names) -> Result<Announced, CollectError> {
        let (storage, clock) = (Arc::clone(&self.storage), Arc::clone(&self.clock));
        let id = self.next();
        Ok(Announced::new(storage, clock, &id, condemned, self.pace.length).await?)
    }

    async fn look_again(&self) -> Result<(Snapshot, Known, Looked), CollectError> {
        self.settle().await;
        self.look().await
    }

    async fn settle(&self) {
        if !self.pace.settling.is_zero() {
            tokio::time::sleep(self.pace.settling).await;
        }
    }

    /// Removes these, as far as the announcement lasts. The NARs that lose their last narinfo by it are noted
    /// before.
    async fn remove<'a>(
        &mut self,
        removals: Vec<(&'a Removal, usize)>,
        announced: &mut Announced,
        orphans: &mut Orphans,
    ) -> Result<Vec<Removed<'a>>, CollectError> {
        let mut results = Vec::with_capacity(removals.len());
        for some in removals.chunks(self.pace.parallel.max(1)) {
            // A failure shows in that there is no time left.
            let _ = announced.renew().await;
            let end = announced.latest_end();
            if orphans.noted_until != Some(end) && !orphans.nars.is_empty() {
                let id = self.next();
                let noted = orphans::note(&*self.storage, &id, end, &orphans.nars);
                announced.during(noted).await??;
                orphans.noted_until = Some(end);
            }
            let in_time = announced.has(self.pace.longest()) && announced.latest_end() == end;
            let this = &*self;
            let work = some.iter().map(|(removal, position)| async move {
                let result = if in_time { this.remove_one(&removal.what).await } else { Err(None) };
                (*removal, *position, result)
            });
            results.extend(futures::future::join_all(work).boxed().await);
        }
        Ok(results)
    }

    async fn remove_one(&self, what: &What) -> Result<(), Option<StorageError>> {
        let key: Result<Key, KeyError> = match what {
            What::Path(hash, _) => layout::narinfo(*hash),
            What::Nar(file) => layout::nar_file(file),
            What::Object(key, _) => Ok(key.clone()),
        };
        let Ok(key) = key else { return Err(None) };
        let removed = timeout(self.pace.removal, self.storage.delete(&key)).await;
        removed.map_err(|_| None)?.map_err(Some)
    }

    fn next(&mut self) -> String {
        self.number += 1;
        format!("{}-{}", self.name, self.number)
    }
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Collector({}, {})", self.name, self.storage.url())
    }
}

impl Outcome {
    /// Counts what came of a removal. Says whether it is gone.
    fn note(&mut self, removal: &Removal, result: Result<(), Option<StorageError>>) -> bool {
        match result {
            Ok(()) => {
                let count = match removal.what {
                    What::Path(..) => &mut self.paths,
                    What::Nar(_) => &mut self.nars,
                    What::Object(..) => &mut self.objects,
                };
                *count += 1;
                self.freed += removal.size;
                true
            }
            Err(error) => {
                self.failures.push(Failure { what: removal.what.clone(), error });
                false
            }
        }
    }
}

/// NARs whose last narinfos are about to go.
#[derive(Default)]
struct Orphans {
    nars: Vec<NarFile>,
    /// They are noted as needed until then.
    noted_until: Option<Timestamp>,
}

fn orphaned(snapshot: &Snapshot, confirmed: &HashSet<StorePathHash>) -> Vec<NarFile> {
    let (mut going, mut staying) = (HashSet::new(), HashSet::new());
    for entry in snapshot.paths() {
        let side = if confirmed.contains(&entry.hash) { &mut going } else { &mut staying };
        side.extend(entry.nar);
    }
    going.difference(&staying).copied().collect()
}

/// How far two times are apart, to the second.
fn apart(one: Timestamp, other: Timestamp) -> SignedDuration {
    SignedDuration::from_secs(one.duration_since(other).as_secs().abs())
}

type Removed<'a> = (&'a Removal, usize, Result<(), Option<StorageError>>);

/// What was read and is to be put in order.
struct Looked {
    written: Written,
    noted: orphans::Noted,
    ended: Vec<pin::Pin>,
}
