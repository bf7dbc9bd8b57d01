//! Leases: what somebody is working with stays, for a while.
//!
//! Promise of [`Leases::hold`]: when it has returned, those of the named paths and NAR files that are found in
//! the cache *when looked at after that* stay until the lease ends, paths with their closures. So a writer
//!
//! - holds a NAR file before it takes it for present, and before it gives a draft that name;
//! - holds a path and all its references before it takes any of them for present, and before it
//!   writes the path's narinfo;
//! - looks only then, and lets go only when the narinfo is written.
//!
//! How that comes without locks is told in `collection.rs`. What is held lies in `.larder/leases/`, in few
//! objects: all that is asked for while one is being written goes into the next write together.

mod segments;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use larder_formats::{nar_file::NarFile, store_path::StorePathHash};

use self::segments::Segments;
pub(crate) use self::segments::{held, sweep};
use crate::{
    collection::{self, Running},
    names::Names,
    record::{Name, RecordError},
    storage::Storage,
    time::{Clock, after},
};

/// How leases are held.
#[derive(Clone, Copy, Debug)]
pub struct LeaseOptions {
    /// How long what is held stays held, at least half of it.
    pub length: SignedDuration,
    /// How often a collection is looked at that has to end first.
    pub poll: Duration,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self { length: SignedDuration::from_hours(6), poll: Duration::from_secs(2) }
    }
}

/// Since when all of something has been held without a gap. What was found to be there before that has to be
/// looked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSince {
    /// The paths among it.
    pub paths: Timestamp,
    /// The NAR files among it.
    pub nars: Timestamp,
}

impl HeldSince {
    /// Nothing that is there ever goes.
    pub const EVER: Self = Self { paths: Timestamp::MIN, nars: Timestamp::MIN };
}

/// Something could not be held.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LeaseError {
    /// The cache failed.
    #[error("cannot keep paths from being collected meanwhile: {0}")]
    Record(#[from] RecordError),
    /// It was held too long without being renewed.
    #[error(
        "what was held expired at {0}: it may be gone, and has to be held and looked for again"
    )]
    Lapsed(Timestamp),
}

/// What one process holds in one cache.
pub struct Leases {
    storage: Arc<dyn Storage>,
    clock: Clock,
    options: LeaseOptions,
    /// One writes at a time; the others gather.
    segments: tokio::sync::Mutex<Segments>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Asked for, and in no lease yet.
    pending: Names,
    /// Rounds of writing: begun, and done.
    begun: u64,
    done: u64,
    /// How the round that was done last went.
    last: Option<Result<Arc<Vec<Running>>, RecordError>>,
    /// What is held for certain.
    paths: HashMap<StorePathHash, Period>,
    nars: HashMap<NarFile, Period>,
}

/// From when until when something is held without a gap.
#[derive(Clone, Copy)]
struct Period {
    since: Timestamp,
    until: Timestamp,
}

impl State {
    fn forget_all(&mut self) {
        (self.paths, self.nars) = Default::default();
    }

    fn forget_expired(&mut self, now: Timestamp) {
        self.paths.retain(|_, held| now < held.until);
        self.nars.retain(|_, held| now < held.until);
    }
}

impl Leases {
    /// Holds nothing yet. `holder` is a name that no other process has or had: its objects are named
    /// for it.
    #[must_use]
    pub fn new(
        storage: Arc<dyn Storage>,
        holder: &Name,
        clock: Clock,
        options: LeaseOptions,
    ) -> Self {
        let segments = Segments::new(Arc::clone(&storage), holder.clone(), options.length);
        Self {
            storage,
            clock,
            options,
            segments: tokio::sync::Mutex::new(segments),
            state: Mutex::default(),
        }
    }

    /// Holds these. Waits while a collection may be removing one of them.
    ///
    /// # Errors
    /// When the cache cannot be written to or read; nothing may be relied upon then.
    pub async fn hold(&self, names: &Names) -> Result<HeldSince, LeaseError> {
        if let Some(running) = self.written(names).await? {
            for collection in running.iter().filter(|collection| collection.condemns(names)) {
                collection.ended(&*self.storage, &self.clock, self.options.poll).await?;
            }
            self.settle(names).await;
        }
        let state = self.state();
        Ok(HeldSince {
            paths: since(&state.paths, &names.paths),
            nars: since(&state.nars, &names.nars),
        })
    }

    /// The same without waiting: whether they are held now. Otherwise a collection may be removing one of
    /// them, and a reader is best told that it is not there.
    ///
    /// # Errors
    /// As [`Leases::hold`].
    pub async fn try_hold(&self, names: &Names) -> Result<bool, LeaseError> {
        let Some(running) = self.written(names).await? else { return Ok(true) };
        if running.iter().any(|collection| collection.condemns(names)) {
            return Ok(false);
        }
        self.settle(names).await;
        Ok(true)
    }

    /// Holds everything anew as often as is needed, for as long as this is polled. What cannot be renewed in time
    /// is noticed by who next holds it.
    pub async fn keep(&self) -> ! {
        let quarter = Duration::try_from(self.options.length / 4).unwrap_or(Duration::MAX);
        loop {
            tokio::time::sleep(quarter).await;
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "leases could not be renewed");
            }
        }
    }

    /// Holds everything for the whole length again. To be called at least twice in a lease's length by
    /// those who hold something longer than that.
    ///
    /// # Errors
    /// When it was too late, or the cache cannot be written to.
    pub async fn renew(&self) -> Result<(), LeaseError> {
        let mut segments = self.segments.lock().await;
        let now = (self.clock)();
        let renewed = segments.renew(now).await;
        let mut state = self.state();
        match renewed {
            Ok(expires) => {
                state.forget_expired(now);
                state.paths.values_mut().for_each(|held| held.until = expires);
                state.nars.values_mut().for_each(|held| held.until = expires);
                Ok(())
            }
            Err(error) => {
                if matches!(error, LeaseError::Lapsed(_)) {
                    state.forget_all();
                }
                Err(error)
            }
        }
    }

    /// Lets go of everything.
    ///
    /// # Errors
    /// When the cache cannot be written to; then it is let go when the leases expire.
    pub async fn release(&self) -> Result<(), LeaseError> {
        let mut segments = self.segments.lock().await;
        self.state().forget_all();
        Ok(segments.release().await?)
    }

    /// Sees to it that these lie in a lease. Says which collections were running after that; nothing if
    /// all of them were held for certain before.
    async fn written(&self, names: &Names) -> Result<Option<Arc<Vec<Running>>>, RecordError> {
        let Some(round) = self.ask(names) else { return Ok(None) };
        let mut segments = self.segments.lock().await;
        let begun = {
            let mut state = self.state();
            if state.done >= round
                && let Some(last) = state.last.clone()
            {
                // Done in a round that began after they were asked for.
                return last.map(Some);
            }
            state.begun += 1;
            state.begun
        };
        let pending = self.state().pending.clone();
        let result = self.round(&mut segments, &pending).await;
        let mut state = self.state();
        state.pending.remove(&pending);
        state.done = begun;
        state.last = Some(result.clone());
        result.map(Some)
    }

    /// Puts these among what is pending, and tells the round in which they are written at the latest.
    fn ask(&self, names: &Names) -> Option<u64> {
        let now = (self.clock)();
        let enough = after(now, self.options.length / 2);
        let mut state = self.state();
        let paths: Vec<_> = missing(&state.paths, &names.paths, enough);
        let nars: Vec<_> = missing(&state.nars, &names.nars, enough);
        if paths.is_empty() && nars.is_empty() {
            return None;
        }
        state.pending.paths.extend(paths);
        state.pending.nars.extend(nars);
        Some(state.begun + 1)
    }

    async fn round(
        &self,
        segments: &mut Segments,
        pending: &Names,
    ) -> Result<Arc<Vec<Running>>, RecordError> {
        if !pending.is_empty() {
            segments.add(pending, (self.clock)()).await?;
        }
        // Only now: see the module's text.
        Ok(Arc::new(collection::running(&*self.storage, (self.clock)()).await?))
    }

    /// Notes that these are held for certain.
    async fn settle(&self, names: &Names) {
        let segments = self.segments.lock().await;
        let now = (self.clock)();
        let mut state = self.state();
        state.forget_expired(now);
        for path in &names.paths {
            if let Some(until) = segments.until(|held| held.paths.contains(path)) {
                state.paths.entry(*path).or_insert(Period { since: now, until }).until = until;
            }
        }
        for nar in &names.nars {
            if let Some(until) = segments.until(|held| held.nars.contains(nar)) {
                state.nars.entry(*nar).or_insert(Period { since: now, until }).until = until;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leases({})", self.storage.url())
    }
}

/// Those that are not held until then.
fn missing<'a, T: Copy + Eq + Hash + 'a>(
    held: &HashMap<T, Period>,
    wanted: impl IntoIterator<Item = &'a T>,
    until: Timestamp,
) -> Vec<T> {
    let lacking = |name: &&T| held.get(*name).is_none_or(|held| held.until < until);
    wanted.into_iter().filter(lacking).copied().collect()
}

/// Since when all of these are held: not even now, where one of them is not.
fn since<'a, T: Eq + Hash + 'a>(
    held: &HashMap<T, Period>,
    wanted: impl IntoIterator<Item = &'a T>,
) -> Timestamp {
    let since = |name| held.get(name).map_or(Timestamp::MAX, |held| held.since);
    wanted.into_iter().map(since).max().unwrap_or(Timestamp::MIN)
}
