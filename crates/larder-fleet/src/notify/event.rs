//! What is news.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{host::HostName, ledger::Failure, night::LastGood};

/// The kinds of news that a receiver may want or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A host, or the run itself, fails for the first time, or a host for another reason.
    Failure,
    /// It is good again.
    Recovery,
    /// An input is held.
    Hold,
    /// It no longer is.
    HoldEnded,
    /// No run has ended for long.
    Overdue,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Failure, Self::Recovery, Self::Hold, Self::HoldEnded, Self::Overdue];

    /// Its name, as it is written in the configuration and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Hold => "hold",
            Self::HoldEnded => "hold-ended",
            Self::Overdue => "overdue",
        }
    }
}

/// One thing that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A host fails, or fails for another reason than before.
    HostFailed(Failed),
    /// A host that failed is good again.
    HostRecovered {
        /// The host.
        host: String,
        /// The revision it was published under.
        revision: Option<u64>,
    },
    /// The run itself did not come to its end.
    RunFailed {
        /// The schedule it was done by; none for one by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schedule: Option<String>,
        /// Why.
        message: String,
    },
    /// A run has come to its end again.
    RunRecovered {
        /// The schedule it was done by; none for one by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schedule: Option<String>,
    },
    /// An input is held.
    InputHeld {
        /// The input.
        input: String,
        /// Where it stays.
        at: String,
        /// What breaks something.
        bad: String,
        /// The hosts that fail with it.
        hosts: Vec<HostName>,
        /// The derivations that failed.
        failures: Vec<Failure>,
        /// What Nix said of it.
        message: String,
    },
    /// An input is no longer held.
    HoldEnded {
        /// The input.
        input: String,
    },
    /// No run has come to its end for long.
    Overdue {
        /// When the last one did, or the first began.
        since: Timestamp,
    },
    /// A run has come to its end again after that.
    Resumed,
}

/// A host that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// The host.
    pub host: String,
    /// What fails, in a few words.
    pub what: String,
    /// Whether it was said before to fail, for another reason.
    pub failed_before: bool,
    /// Since when it fails.
    pub since: Option<Timestamp>,
    /// What its machines have meanwhile.
    pub last_good: Option<LastGood>,
    /// The derivations that failed, and the end of each one's log.
    pub failures: Vec<Failure>,
    /// What Nix said, where no derivation failed.
    pub message: String,
}

impl Event {
    /// Its kind.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::HostFailed(_) | Self::RunFailed { .. } => EventKind::Failure,
            Self::HostRecovered { .. } | Self::RunRecovered { .. } => EventKind::Recovery,
            Self::InputHeld { .. } => EventKind::Hold,
            Self::HoldEnded { .. } => EventKind::HoldEnded,
            Self::Overdue { .. } | Self::Resumed => EventKind::Overdue,
        }
    }
}
