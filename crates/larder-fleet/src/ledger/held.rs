//! An input that an update was kept from moving, since a host fails with its new revision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::host::HostName;

/// An input that stays at its last good revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The input, by its name in the flake.
    pub input: String,
    /// The revision it stays at, as a flake reference.
    pub at: String,
    /// The revision that breaks something, as a flake reference.
    pub bad: String,
    /// Since when it has been held, without an end in between.
    pub since: Timestamp,
    /// The hosts that fail with it.
    pub hosts: Vec<HostName>,
    /// The derivations that failed, and the end of each one's log; none where a host cannot be evaluated.
    pub failures: Vec<Failure>,
    /// What Nix said of it.
    pub message: String,
}
