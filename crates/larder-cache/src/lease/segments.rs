//! The objects that leases lie in: `.larder/leases/<holder>-<number>.json`.
//!
//! A holder writes one of them anew with more and more in it until it is large or old, and then begins the
//! next; so each write is small, and old ones expire whole.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::LeaseError;
use crate::{
    names::Names,
    record::{self, Name, RecordError},
    storage::{Key, Storage},
    time::{SKEW, after},
};

const FOLDER: &str = ".larder/leases";

/// Names in an object, unless so many are asked for at once.
const FULL: usize = 4096;

/// What lies in a lease's object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    expires: Timestamp,
    held: Names,
}

/// What all leases hold that have not expired.
pub(crate) async fn held(storage: &dyn Storage, now: Timestamp) -> Result<Names, RecordError> {
    let mut names = Names::default();
    for (_, record) in record::all::<Record>(storage, FOLDER).await? {
        if now < after(record.expires, SKEW) {
            names.extend(&record.held);
        }
    }
    Ok(names)
}

/// Removes what holders that were killed left.
pub(crate) async fn sweep(storage: &dyn Storage, now: Timestamp) -> Result<(), RecordError> {
    for (key, record) in record::all::<Record>(storage, FOLDER).await? {
        if now >= after(after(record.expires, SKEW), SKEW) {
            storage.delete(&key).await?;
        }
    }
    Ok(())
}

struct Segment {
    key: Key,
    began: Timestamp,
    /// As written for certain.
    expires: Timestamp,
    held: Names,
}

/// The objects of one holder.
pub(super) struct Segments {
    storage: Arc<dyn Storage>,
    holder: Name,
    length: SignedDuration,
    number: u64,
    /// The last one grows; the others expire.
    segments: Vec<Segment>,
}

impl Segments {
    pub(super) fn new(storage: Arc<dyn Storage>, holder: Name, length: SignedDuration) -> Self {
        Self { storage, holder, length, number: 0, segments: Vec::new() }
    }

    /// Holds more.
    pub(super) async fn add(&mut self, names: &Names, now: Timestamp) -> Result<(), RecordError> {
        self.drop_expired(now).await;
        let fits = |last: &Segment| {
            last.held.len() + names.len() <= FULL && now < after(last.began, self.length / 4)
                // One that expired cannot be brought back: a collector may have passed it over.
                && now < last.expires
        };
        if !self.segments.last().is_some_and(fits) {
            let key = Key::new(format!("{FOLDER}/{}-{}.json", self.holder, self.number))?;
            self.number += 1;
            let held = Names::default();
            self.segments.push(Segment { key, began: now, expires: now, held });
        }
        let expires = after(now, self.length);
        if let Some(last) = self.segments.last_mut() {
            // Kept even if it is not written now: the next write has it too.
            last.held.extend(names);
            let record = Record { expires, held: last.held.clone() };
            record::write(&*self.storage, &last.key, &record).await?;
            last.expires = expires;
        }
        Ok(())
    }

    /// Until when something is held.
    pub(super) fn until(&self, is_held: impl Fn(&Names) -> bool) -> Option<Timestamp> {
        let holding = self.segments.iter().filter(|segment| is_held(&segment.held));
        holding.map(|segment| segment.expires).max()
    }

    /// Writes everything anew.
    pub(super) async fn renew(&mut self, now: Timestamp) -> Result<Timestamp, LeaseError> {
        let expires = after(now, self.length);
        if let Some(lapsed) = self.segments.iter().find(|segment| segment.expires <= now) {
            let at = lapsed.expires;
            self.segments.retain(|segment| now < segment.expires);
            return Err(LeaseError::Lapsed(at));
        }
        for segment in &mut self.segments {
            let record = Record { expires, held: segment.held.clone() };
            record::write(&*self.storage, &segment.key, &record).await?;
            segment.expires = expires;
        }
        Ok(expires)
    }

    pub(super) async fn release(&mut self) -> Result<(), RecordError> {
        for segment in std::mem::take(&mut self.segments) {
            self.storage.delete(&segment.key).await?;
        }
        Ok(())
    }

    /// Removes objects that hold nothing any more. What cannot be removed now is left to a collection.
    async fn drop_expired(&mut self, now: Timestamp) {
        let (expired, kept) = std::mem::take(&mut self.segments)
            .into_iter()
            .partition(|segment| after(segment.expires, SKEW) <= now);
        self.segments = kept;
        let expired: Vec<Segment> = expired;
        for segment in expired {
            let _ = self.storage.delete(&segment.key).await;
        }
    }
}
