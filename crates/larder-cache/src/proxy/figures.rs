//! What an address of an upstream did so far.

use std::time::Duration;

use super::tier::Verdict;

/// The weight of the newest answer in the mean latency.
const NEWEST: f64 = 0.1;

/// Counted since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) found: u64,
    pub(super) absent: u64,
    pub(super) untrusted: u64,
    pub(super) failed: u64,
    /// Bytes of NARs, as they came.
    pub(super) bytes: u64,
    /// The mean time of late answers.
    pub(super) latency: Option<Duration>,
    pub(super) last_failure: Option<String>,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Found,
    Absent,
    Untrusted,
    Failed,
}

impl Outcome {
    pub(super) fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Found(_) => Self::Found,
            Verdict::Absent => Self::Absent,
            Verdict::Untrusted => Self::Untrusted,
            Verdict::Unknown => Self::Failed,
        }
    }
}

impl Figures {
    pub(super) fn answered(&mut self, outcome: Outcome, took: Duration) {
        *match outcome {
            Outcome::Found => &mut self.found,
            Outcome::Absent => &mut self.absent,
            Outcome::Untrusted => &mut self.untrusted,
            Outcome::Failed => &mut self.failed,
        } += 1;
        // A failure's time says when patience ended, or nothing.
        if outcome != Outcome::Failed {
            let before = self.latency.unwrap_or(took);
            self.latency = Some(before.mul_f64(1.0 - NEWEST) + took.mul_f64(NEWEST));
        }
    }
}
