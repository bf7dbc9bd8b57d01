//! What a running collection says of itself: `.larder/collections/<id>.json`.
//!
//! No storage we work with can write on a condition, so nothing here is a lock. A collector first writes what
//! it is about to remove, and only then reads what others hold; who wants to hold something first writes
//! that, and only then reads what collectors are about to remove. Whichever way the two cross, at
//! least one of them sees the other: then the collector leaves it, or the other one waits until the collection
//! has ended and sees what is left.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    names::Names,
    record::{self, RecordError},
    storage::{Key, Storage, StorageError, StorageErrorKind},
    time::{Clock, SKEW, after, before},
};

const FOLDER: &str = ".larder/collections";

/// What lies in a collection's object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// From then on nothing is removed any more, whatever became of the collector.
    expires: Timestamp,
    condemned: Names,
}

/// A collection of somebody's that may be removing these.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    key: Key,
    condemned: Names,
}

impl Running {
    pub(crate) fn condemns(&self, names: &Names) -> bool {
        self.condemned.meets(names)
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(
        &self,
        storage: &dyn Storage,
        clock: &Clock,
        poll: Duration,
    ) -> Result<(), RecordError> {
        loop {
            // The time before the question: what has expired by then was not renewed before.
            let now = clock();
            match record::read::<Record>(storage, &self.key).await? {
                None => return Ok(()),
                Some(record) if now >= after(record.expires, SKEW) => return Ok(()),
                Some(_) => tokio::time::sleep(poll).await,
            }
        }
    }
}

/// The collections that may be removing something now.
pub(crate) async fn running(
    storage: &dyn Storage,
    now: Timestamp,
) -> Result<Vec<Running>, RecordError> {
    let all = record::all::<Record>(storage, FOLDER).await?;
    let running = all.into_iter().filter(|(_, record)| now < after(record.expires, SKEW));
    Ok(running.map(|(key, Record { condemned, .. })| Running { key, condemned }).collect())
}

/// Waits until no collection that runs now can remove any of these any more.
pub(crate) async fn none_condemns(
    storage: &dyn Storage,
    names: &Names,
    clock: &Clock,
    poll: Duration,
) -> Result<(), RecordError> {
    for collection in running(storage, clock()).await? {
        if collection.condemns(names) {
            collection.ended(storage, clock, poll).await?;
        }
    }
    Ok(())
}

/// Removes what collectors that were killed left. Failures are left to the next one.
pub(crate) async fn sweep(storage: &dyn Storage, now: Timestamp) -> Result<(), RecordError> {
    for (key, record) in record::all::<Record>(storage, FOLDER).await? {
        if now >= after(after(record.expires, SKEW), SKEW) {
            storage.delete(&key).await?;
        }
    }
    Ok(())
}

/// A collection of ours that everybody can see.
pub(crate) struct Announced {
    storage: Arc<dyn Storage>,
    clock: Clock,
    key: Key,
    record: Record,
    length: SignedDuration,
}

impl Announced {
    /// Says what is about to be removed. `id` is one that no collection has had.
    pub(crate) async fn new(
        storage: Arc<dyn Storage>,
        clock: Clock,
        id: &str,
        condemned: Names,
        length: SignedDuration,
    ) -> Result<Self, RecordError> {
        let key = Key::new(format!("{FOLDER}/{id}.json"))?;
        let record = Record { expires: after(clock(), length), condemned };
        record::write(&*storage, &key, &record).await?;
        Ok(Self { storage, clock, key, record, length })
    }

    /// When it was written by the storage's clock; nothing if that is within [`SKEW`] of the time by ours.
    pub(crate) async fn written_at_another_time(&self) -> Result<Option<Timestamp>, RecordError> {
        let begun = before(self.record.expires, self.length);
        let Some(object) = self.storage.stat(&self.key).await? else {
            let what = format!("looking at {} in {}", self.key, self.storage.url());
            let why = "it was just written, and is gone";
            return Err(StorageError::new(StorageErrorKind::Transient, what, why).into());
        };
        let agrees = before(begun, SKEW) <= object.modified
            && object.modified <= after((self.clock)(), SKEW);
        Ok((!agrees).then_some(object.modified))
    }

    /// Whether something may be removed still that takes no longer than that.
    pub(crate) fn has(&self, time: SignedDuration) -> bool {
        after((self.clock)(), time) < self.record.expires
    }

    /// When nothing is removed any more unless it takes longer.
    pub(crate) fn latest_end(&self) -> Timestamp {
        self.record.expires
    }

    /// Says that it takes longer. One that has expired cannot be renewed: others count on it.
    pub(crate) async fn renew(&mut self) -> Result<(), RecordError> {
        if self.has(SignedDuration::ZERO) && !self.has(self.length / 2) {
            let renewed =
                Record { expires: after((self.clock)(), self.length), ..self.record.clone() };
            record::write(&*self.storage, &self.key, &renewed).await?;
            // Written too late, it may have been given up before.
            if self.has(SignedDuration::ZERO) {
                self.record = renewed;
            }
        }
        Ok(())
    }

    /// Does something that removes nothing, and stays announced meanwhile.
    pub(crate) async fn during<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, RecordError> {
        let mut work = std::pin::pin!(work);
        let half = Duration::try_from(self.length / 4).unwrap_or_default();
        loop {
            match tokio::time::timeout(half, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) => self.renew().await?,
            }
        }
    }

    /// Says that nothing is removed any more.
    pub(crate) async fn end(self) -> Result<(), RecordError> {
        Ok(self.storage.delete(&self.key).await?)
    }
}
