//! Ending the run under way, whoever started it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::lock::{Lock, LockError};

/// What became of telling a run to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// There was none.
    Nothing,
    /// It has ended.
    Ended {
        /// What it said of itself.
        holder: String,
    },
}

/// A run could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The lock cannot be looked at.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Who holds it does not say so.
    #[error("a run is under way, but {path} does not say which process does it: end it yourself")]
    Unknown {
        /// The lock.
        path: PathBuf,
    },
    /// The system does not let us.
    #[error("cannot end the run under way ({holder}): {source}; who started it, or root, may")]
    Signal {
        /// What it says of itself.
        holder: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It does not end.
    #[error(
        "the run under way ({holder}) was told to end, and still holds {path} after {} seconds: see what it waits for, \
         or end it with `kill -9`; the next run needs no repair",
        PATIENCE.as_secs()
    )]
    StillRunning {
        /// What it says of itself.
        holder: String,
        /// The lock.
        path: PathBuf,
    },
}

/// Nix gets ten seconds to end its builders, and a run may have to end one program after another.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells whoever holds the lock that is this file to end, as Ctrl-C would, and waits until it has.
pub async fn cancel(path: &Path) -> Result<Cancelled, CancelError> {
    const LOOK: Duration = Duration::from_millis(50);
    let Some(holder) = Lock::holder(path)? else { return Ok(Cancelled::Nothing) };
    let process = holder.split(' ').nth(1).and_then(|number| number.parse().ok());
    let process = process.filter(|number| *number > 1).and_then(Pid::from_raw);
    let process = process.ok_or_else(|| CancelError::Unknown { path: path.to_owned() })?;
    let told = pidfd_open(process, PidfdFlags::empty()).and_then(|process| {
        // A number may be another's by now. What we hold is that of the run if the run still is.
        match Lock::holder(path) {
            Ok(Some(now)) if now == holder => pidfd_send_signal(process, Signal::INT),
            _ => Ok(()),
        }
    });
    match told {
        // It has just ended.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(CancelError::Signal { holder, source: error.into() }),
    }
    let ended = async {
        while Lock::holder(path)?.is_some_and(|now| now == holder) {
            tokio::time::sleep(LOOK).await;
        }
        Ok::<_, LockError>(())
    };
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(ended) => Ok(ended.map(|()| Cancelled::Ended { holder })?),
        Err(_) => Err(CancelError::StillRunning { holder, path: path.to_owned() }),
    }
}
