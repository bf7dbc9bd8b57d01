//! Realising all hosts.
//!
//! By one run of Nix, because Nix counts jobs per client: several at once would each take the configured number.
//! After it come runs for what may still come to be. A host has built when its output is valid, whatever a run's
//! exit status says.

mod big;
mod drive;
mod realised;
mod rounds;
mod tracker;
mod verdict;
mod watch;

use larder_nix::{command::CommandError, database::DatabaseError, nix::NixError};

pub(super) use drive::{Work, realise};
pub use realised::Retry;
pub(super) use realised::failures_of;
pub(crate) use realised::{Realised, failures_as_text};
pub(crate) use tracker::Tracker;

/// How much of the machine a run may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Builds at once.
    pub max_jobs: u32,
    /// Cores for each build; 0 for all.
    pub cores: u32,
}

/// The hosts could not be realised for a reason that is no single build's.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Nix could not be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What was built cannot be looked up.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nix says nothing of how it is set up, which decides what builders are for.
    #[error(transparent)]
    Nix(#[from] NixError),
}
