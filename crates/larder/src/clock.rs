//! The one place that reads the time.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::{config::value, report::Error};

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the one home of the clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// What clocks show here.
pub(crate) fn zone() -> TimeZone {
    TimeZone::system()
}

/// The time after so long, as people write it: `90d`. The end of time where that is later.
pub(crate) fn after(duration: &str) -> Result<Timestamp, Error> {
    let duration = value::duration(duration).map_err(Error::Value)?;
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    Ok(larder_cache::time::after(now(), duration))
}
