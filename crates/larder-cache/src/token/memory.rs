//! What was read of the tokens, and for how long that is believed.
//!
//! As long as two clocks say: that of whoever asks, which may be set back, and the one this process runs
//! by, which may stand still while the machine sleeps. Only tokens that were there have a place in it, so
//! it does not grow with what is guessed.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{TokenError, record::TokenRecord, text::TokenId};
use crate::time::after;

/// How long a token's record is believed after it was read. With the time that reading takes, a revocation
/// is known within a minute.
const BELIEVED: Duration = Duration::from_secs(30);

/// How long a token is refused unseen after a look at which ones there are.
const UNKNOWN: Duration = Duration::from_secs(5);

/// How long what could not be read is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(2);

/// By how much requests overtake each other, which looks like a clock that is set back.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// When something was, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    told: Timestamp,
    running: Instant,
}

/// What was read, and when.
#[derive(Debug, Default)]
pub(super) struct Memory {
    there: HashSet<TokenId>,
    looked: Option<Moment>,
    failed: Option<(Moment, TokenError)>,
    records: HashMap<TokenId, (Moment, Result<TokenRecord, TokenError>)>,
}

impl Moment {
    /// Now, as whoever asks says it.
    pub(super) fn new(told: Timestamp) -> Self {
        Self { told, running: Instant::now() }
    }

    /// Now, for one who was told the time then.
    pub(super) fn caught_up(self) -> Self {
        let running = Instant::now();
        let passed = SignedDuration::try_from(running.duration_since(self.running));
        Self { told: after(self.told, passed.unwrap_or(SignedDuration::MAX)), running }
    }

    /// Whether it was less than that long ago, by both clocks.
    fn is_within(self, lifetime: Duration, now: Self) -> bool {
        let told = now.told.duration_since(self.told);
        let most = if told.is_negative() { OVERTAKEN } else { lifetime };
        told.unsigned_abs() < most && now.running.duration_since(self.running) < lifetime
    }
}

impl Memory {
    /// The record of a token, or why it could not be read; nothing if somebody has to read it.
    pub(super) fn record(
        &self,
        id: TokenId,
        now: Moment,
    ) -> Result<Option<TokenRecord>, TokenError> {
        let Some((read, record)) = self.records.get(&id) else { return Ok(None) };
        let lifetime = if record.is_ok() { BELIEVED } else { LEFT_ALONE };
        if read.is_within(lifetime, now) { record.clone().map(Some) } else { Ok(None) }
    }

    /// Whether it is there, as far as memory can say; nothing if somebody has to look.
    pub(super) fn knows(&self, id: TokenId, now: Moment) -> Result<Option<bool>, TokenError> {
        if let Some((failed, error)) = &self.failed
            && failed.is_within(LEFT_ALONE, now)
        {
            return Err(error.clone());
        }
        if self.there.contains(&id) {
            return Ok(Some(true));
        }
        Ok(self.looked.is_some_and(|looked| looked.is_within(UNKNOWN, now)).then_some(false))
    }

    /// Somebody looked which ones there are, and began then.
    pub(super) fn looked(&mut self, there: HashSet<TokenId>, began: Moment) {
        self.looked = Some(began);
        self.records.retain(|id, _| there.contains(id));
        self.there = there;
    }

    /// Somebody read a record, and began then.
    pub(super) fn read(
        &mut self,
        id: TokenId,
        read: &Result<Option<TokenRecord>, TokenError>,
        began: Moment,
    ) {
        match read {
            Ok(Some(record)) => drop(self.records.insert(id, (began, Ok(record.clone())))),
            Ok(None) => {
                self.there.remove(&id);
                self.records.remove(&id);
            }
            Err(TokenError::Storage(error)) if error.is_transient() => {
                self.failed(TokenError::Storage(error.clone()), began);
            }
            // Of one record that is damaged or forbidden the others know nothing.
            Err(error) => {
                self.records.insert(id, (began.caught_up(), Err(error.clone())));
            }
        }
    }

    /// The place failed somebody who began then, which may be long ago.
    pub(super) fn failed(&mut self, error: TokenError, began: Moment) {
        self.failed = Some((began.caught_up(), error));
    }

    /// A token was made.
    pub(super) fn made(&mut self, id: TokenId) {
        self.there.insert(id);
    }

    /// What was read of a token is no longer so.
    pub(super) fn forget(&mut self, id: TokenId) {
        self.records.remove(&id);
    }
}
