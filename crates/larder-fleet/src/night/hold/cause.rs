//! What a failure may be blamed on.
//!
//! Promise: what comes of the network, a full disk or a forge is blamed on no input. Nix tells these apart only in
//! texts for people, so the texts are looked at; what is not known is taken for the build's own fault, and then has to
//! fail with the new lock and build with the old one before anything is said of an input.

use crate::ledger::{Failure, FailureKind, Outcome};

/// Words of Nix, curl, git and the system when something could not be had, or not be written, at that moment.
const PASSING: [&str; 17] = [
    "Could not resolve host",
    "Couldn't resolve host",
    "Could not resolve hostname",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Network is unreachable",
    "No route to host",
    "Operation timed out",
    "unable to download",
    "cannot download",
    "Could not read from remote repository",
    "unable to access '",
    "No space left on device",
    "database is busy",
];

/// Whether the host failed by what it is built from.
pub(super) fn is_to_blame(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::EvaluationFailed { message } => !is_passing(message),
        Outcome::BuildFailed { failures, kind, message } if failures.is_empty() => {
            *kind == FailureKind::Itself && !is_passing(message)
        }
        Outcome::BuildFailed { failures, .. } => failures.iter().any(is_lasting),
        Outcome::Built
        | Outcome::Unchanged
        | Outcome::Unfinished { .. }
        | Outcome::NotPublished { .. } => false,
    }
}

/// Whether a derivation fails for what it is: one that is too big for the machine does, too.
pub(super) fn is_lasting(failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::Transient => false,
        FailureKind::Memory { .. } | FailureKind::TimedOut => true,
        FailureKind::Itself => !failure.last_lines.iter().any(|line| is_passing(line)),
    }
}

fn is_passing(text: &str) -> bool {
    PASSING.iter().any(|words| text.contains(words))
}
