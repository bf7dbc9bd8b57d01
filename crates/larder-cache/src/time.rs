//! Time, as those see it who work on one cache from several machines.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// Says what time it is. Never read here: the program brings its own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How far apart the clocks of two machines may be that work on one cache. Whoever waits for another's
/// lease to end waits this much longer.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Later by that much; at the end of time where there is no later.
#[must_use]
pub fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    let furthest = if duration.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(duration).unwrap_or(furthest)
}

/// Earlier by that much; at the beginning of time where there is no earlier.
#[must_use]
pub fn before(time: Timestamp, duration: SignedDuration) -> Timestamp {
    let furthest = if duration.is_negative() { Timestamp::MAX } else { Timestamp::MIN };
    time.checked_sub(duration).unwrap_or(furthest)
}
