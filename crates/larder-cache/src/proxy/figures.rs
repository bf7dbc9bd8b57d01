//! What an address of an upstream did so far.

use std::time::Duration;

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

/// The counter of answers of upstreams. Its labels are `upstream` and `outcome`: `found`, `absent`, `untrusted` where none
/// of its keys signed what it has, or `failed`.
pub const UPSTREAM_ANSWERS: &str = "larder_upstream_answers_total";

/// The histogram of the time that their answers took, by `upstream`.
pub const UPSTREAM_SECONDS: &str = "larder_upstream_answer_seconds";

/// The gauge that is 1 for an address that answers and 0 for one that does not, by `upstream` and `url`.
pub const UPSTREAM_UP: &str = "larder_upstream_up";

/// The counter of bytes of NARs that came from upstreams, as they were packed, by `upstream`.
pub const UPSTREAM_BYTES: &str = "larder_upstream_bytes_total";

/// The counter of paths that a proxy was asked for. Its label is `outcome`: `kept`, `found`, `absent`, or `unknown`
/// where not all told and nobody else had it.
pub const PROXY_PATHS: &str = "larder_proxy_paths_total";

/// Counts an answer of an upstream.
pub(super) fn count(upstream: &str, outcome: Outcome, took: Duration) {
    let name = || upstream.to_owned();
    let outcome = match outcome {
        Outcome::Found => "found",
        Outcome::Absent => "absent",
        Outcome::Untrusted => "untrusted",
        Outcome::Failed => "failed",
    };
    metrics::counter!(UPSTREAM_ANSWERS, "upstream" => name(), "outcome" => outcome).increment(1);
    metrics::histogram!(UPSTREAM_SECONDS, "upstream" => name()).record(took);
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
