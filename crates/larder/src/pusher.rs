//! Sends what waits to be pushed, for as long as there is somebody to do so.
//!
//! One process at a time does it. What was handed in is handed out to each cache of `to`, and each cache has its
//! own round, so that one that is down keeps none of the others waiting. What a cache has is forgotten; all else
//! stays and is tried again, at growing intervals. Nothing is remembered but in the queue itself:
//! a crash costs a look at what the cache has.

mod collect;
mod round;
mod state;

use std::{path::PathBuf, sync::Arc, time::Duration};

use larder_cache::queue::Queue;
use larder_fleet::lock::{Lock, LockError};
use larder_nix::{command::CancellationToken, database::Database};
use tokio::task::{JoinSet, block_in_place};

pub(crate) use self::{
    round::{Pass, Round},
    state::State,
};
use crate::{clock, config::Config, report::Error, wiring};

/// How often the queue is looked at.
const POLL: Duration = Duration::from_secs(1);

/// How often it is looked whether somebody else still sends what waits.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What all the rounds share.
pub(crate) struct Work {
    pub(crate) config: Config,
    pub(crate) queue: Queue,
    pub(crate) database: Database,
    _lock: Lock,
}

/// The file whose lock is held by whoever sends what waits.
fn lock_file(config: &Config) -> PathBuf {
    state::folder(config).join("lock")
}

impl Work {
    /// Begins, if nobody else is at it.
    pub(crate) fn begin(config: &Config) -> Result<Self, Error> {
        let lock = match Lock::take(&lock_file(config), clock::now()) {
            Err(LockError::Held { holder, .. }) => return Err(Error::PushedElsewhere(holder)),
            lock => lock.map_err(|error| Error::Path(error.to_string()))?,
        };
        let queue = wiring::queue(config)?;
        queue.is_writable()?;
        let database = Database::open(&wiring::layout(config)?)?;
        Ok(Self { config: config.clone(), queue, database, _lock: lock })
    }

    /// The round of each cache of `to`.
    pub(crate) fn rounds(self: &Arc<Self>) -> impl Iterator<Item = Round> {
        let configured = |name| self.config.caches.iter().find(|cache| &cache.name == name);
        let settings = self.config.push.to.iter().filter_map(configured);
        settings.map(|settings| Round::of(Arc::clone(self), settings.clone()))
    }

    /// Hands out what was handed in.
    pub(crate) fn hand_out(&self) -> Result<(), Error> {
        collect::hand_out(self)
    }

    /// Sends until told to stop.
    async fn go_on(self, stop: CancellationToken) {
        let work = Arc::new(self);
        let mut tasks = JoinSet::new();
        for round in work.rounds() {
            tasks.spawn(round.go_on(stop.clone()));
        }
        tasks.spawn(collect::go_on(work, stop));
        tasks.join_all().await;
    }
}

/// Sends what waits until told to stop, and beforehand waits until nobody else does.
pub(crate) async fn stand_by(config: Config, stop: CancellationToken) {
    let mut told = String::new();
    loop {
        match block_in_place(|| Work::begin(&config)) {
            Ok(work) => return work.go_on(stop).await,
            Err(error) => {
                let text = error.to_string();
                if text != told {
                    tracing::warn!("what waits to be pushed is not sent from here: {text}");
                    told = text;
                }
            }
        }
        if tokio::time::timeout(LOOK_AGAIN, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// Sends what waits until told to stop.
pub(crate) async fn watch(config: &Config, stop: CancellationToken) -> Result<(), Error> {
    Work::begin(config)?.go_on(stop).await;
    Ok(())
}

/// Whether somebody sends what waits.
pub(crate) fn is_at_work(config: &Config) -> Result<bool, Error> {
    Lock::is_held(&lock_file(config)).map_err(|error| Error::Path(error.to_string()))
}

/// Says what the counts mean.
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_gauge!(round::WAITING, "Paths that wait to be pushed, by cache.");
    describe_gauge!(round::REFUSED, "Paths among them that must not be pushed, by cache.");
    describe_gauge!(
        round::OLDEST,
        Unit::Seconds,
        "Since when the oldest of them waits (Unix time), by cache; 0 when none waits."
    );
    describe_counter!(round::PUSHED, "Paths pushed, by cache.");
    describe_counter!(round::PUSHED_BYTES, Unit::Bytes, "Bytes of their files, by cache.");
    describe_counter!(round::FAILURES, "Attempts to push that failed, by cache.");
}
