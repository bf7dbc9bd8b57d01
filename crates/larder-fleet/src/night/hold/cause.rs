//! What a failure may be blamed on.
//!
//! Promise: what comes of the network, a full disk or a forge is blamed on no input. Nix tells these apart only in
//! texts for people, so the texts are looked at; what is not known is taken for the build's own fault, and then has to
//! fail with the new lock and build with the old one before anything is said of an input.

use std::collections::BTreeSet;

use crate::night::guard::KILLED;
use crate::{
    host::HostName,
    ledger::{Failure, FailureKind, Ledger, LedgerError, Outcome},
};

/// Words of Nix, curl, git and the system when something could not be had, or not be written, at that moment.
const PASSING: [&str; 18] = [
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
    KILLED,
];

/// Runs in a row after which what fails for the moment is not believed to do so: a source that is gone is gone.
const PATIENCE: usize = 3;

/// Tells what lasts from what passes.
#[derive(Default)]
pub(super) struct Causes {
    /// Packages that failed, for whatever reason, in each of the last runs.
    stubborn: BTreeSet<String>,
    /// Hosts that could not be evaluated in any of them.
    mute: BTreeSet<HostName>,
}

impl Causes {
    /// By what the ledger knows of these hosts.
    pub(super) fn of<'a>(
        ledger: Option<&Ledger>,
        hosts: impl Iterator<Item = &'a HostName>,
    ) -> Result<Self, LedgerError> {
        let mut causes = Self::default();
        let Some(ledger) = ledger else { return Ok(causes) };
        for host in hosts {
            let before = ledger.last_outcomes(host, PATIENCE)?;
            if before.len() < PATIENCE {
                continue;
            }
            if before.iter().all(|it| matches!(it, Outcome::EvaluationFailed { .. })) {
                causes.mute.insert(host.clone());
            }
            let failed = |outcome: &Outcome| match outcome {
                Outcome::BuildFailed { failures, .. } => {
                    failures.iter().map(|it| it.package().to_owned()).collect()
                }
                _ => BTreeSet::new(),
            };
            let each = before.iter().map(failed);
            let in_all = each.reduce(|all, one| all.intersection(&one).cloned().collect());
            causes.stubborn.extend(in_all.unwrap_or_default());
        }
        Ok(causes)
    }

    /// Whether the host failed by what it is built from.
    pub(super) fn is_to_blame(&self, host: &HostName, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::EvaluationFailed { message } => {
                !is_passing(message) || self.mute.contains(host)
            }
            // Where no derivation failed, something else did: a builder that is away, a daemon that was restarted.
            Outcome::BuildFailed { failures, .. } => {
                failures.iter().any(|failure| self.is_lasting(failure))
            }
            Outcome::Built
            | Outcome::Unchanged
            | Outcome::Unfinished { .. }
            | Outcome::NotPublished { .. } => false,
        }
    }

    /// Whether a derivation fails for what it is: one that is too big for the machine does, too.
    pub(super) fn is_lasting(&self, failure: &Failure) -> bool {
        let seems_so = match failure.kind {
            FailureKind::Transient => false,
            FailureKind::Memory { .. } | FailureKind::TimedOut => true,
            FailureKind::Itself => !failure.last_lines.iter().any(|line| is_passing(line)),
        };
        seems_so || self.stubborn.contains(failure.package())
    }
}

fn is_passing(text: &str) -> bool {
    PASSING.iter().any(|words| text.contains(words))
}
