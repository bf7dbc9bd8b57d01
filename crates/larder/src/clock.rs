//! The one place that reads the time.

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the one home of the clock")]
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
