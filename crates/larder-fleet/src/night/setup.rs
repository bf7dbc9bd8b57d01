//! What a run is done with, and how it can fail as a whole.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use larder_nix::{
    command::CancellationToken,
    database::{Database, DatabaseError},
    nix::Nix,
};

use super::{
    build::{BuildError, Limits},
    evaluate::{HostsError, Wanted},
    guard::Bounds,
    home::Home,
    leases::BuildTimeLeases,
    publish::Publisher,
    source::{FlakeSource, FlakeSourceError},
    update::UpdateError,
};
use crate::{
    builders::Builders,
    host::HostName,
    ledger::{Ledger, LedgerError, PublishedLock},
    lock::LockError,
};

/// Everything a run needs to know beforehand.
#[derive(Debug)]
pub struct Night {
    /// Nix.
    pub nix: Nix,
    /// Nix's database.
    pub database: Database,
    /// Where Larder's own things lie.
    pub state_dir: PathBuf,
    /// The flake, as configured.
    pub flake: String,
    /// Where that is.
    pub source: FlakeSource,
    /// The hosts to build.
    pub hosts: Wanted,
    /// The hosts among them that an update may not break; all, if none are named.
    pub required: Option<Vec<HostName>>,
    /// How much of the machine to take.
    pub limits: Limits,
    /// And how much of the rest.
    pub bounds: Bounds,
    /// Who builds besides; without any, Nix's own setting says.
    pub builders: Option<Builders>,
    /// How many locks are evaluated at most to find out which input broke a host; with 0, none is.
    pub search_limit: u32,
    /// Where an updated lock goes. Without, it is only published.
    pub home: Option<Home>,
    /// Publishes what built. Without, nothing is published and nothing noted in the ledger.
    pub publisher: Option<Publisher>,
    /// Keeps what clients need to build with local edits, where that is wanted and something is published.
    pub leases: Option<BuildTimeLeases>,
    /// Reads the time.
    pub clock: fn() -> Timestamp,
}

/// How far to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Update the lock first.
    pub update: bool,
    /// Stop before building.
    pub dry_run: bool,
}

/// A run ended before it could say anything of single hosts, or could not publish.
#[derive(Debug, thiserror::Error)]
pub enum NightError {
    /// Another run is under way.
    #[error(
        "another run is under way ({holder}): wait for it, or end it with `larder build --cancel`"
    )]
    Busy {
        /// What it says of itself.
        holder: String,
    },
    /// Whether one is cannot be found out.
    #[error(transparent)]
    Lock(LockError),
    /// The flake cannot be had.
    #[error(transparent)]
    Fetch(#[from] FlakeSourceError),
    /// The lock cannot be made.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The hosts cannot be found.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// Nix cannot be run.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Nix's database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A folder could not be made.
    #[error("cannot prepare {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The run was told to stop.
    #[error("the run was cancelled; what was built so far is kept")]
    Cancelled,
}

impl From<LockError> for NightError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { holder, .. } => Self::Busy { holder },
            error @ LockError::Io { .. } => Self::Lock(error),
        }
    }
}

impl NightError {
    /// Whatever was under way when the run was told to stop then failed, which says nothing.
    pub(super) fn or_cancelled(self, cancel: &CancellationToken) -> Self {
        if cancel.is_cancelled() {
            tracing::debug!(error = %self, "cancelled");
            return Self::Cancelled;
        }
        self
    }
}

impl Night {
    /// Whether an update may not break this host.
    pub(super) fn is_required(&self, host: &HostName) -> bool {
        self.required.as_ref().is_none_or(|required| required.contains(host))
    }

    /// The ledger, where the run publishes.
    pub(super) fn ledger(&self) -> Option<&Ledger> {
        self.publisher.as_ref().map(|publisher| &publisher.ledger)
    }

    /// The lock that was published last, whether or not this run publishes.
    pub(super) fn published_lock(&self) -> Result<Option<PublishedLock>, NightError> {
        let ledger = Ledger::read(&ledger_file(&self.state_dir))?;
        Ok(ledger.map(|ledger| ledger.published_lock()).transpose()?.flatten())
    }
}

/// The place in the state folder of the lock that a run holds.
pub fn lock_file(state_dir: &Path) -> PathBuf {
    state_dir.join("run.lock")
}

/// The ledger's place in the state folder.
pub fn ledger_file(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.sqlite")
}
