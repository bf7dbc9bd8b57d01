//! One run at a time.
//!
//! The lock is the system's own (`flock`), so it is gone with the process that held it, however that
//! ended. The file's text only tells people who holds it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Held while a run is under way.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// The lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RunLockError {
    /// Somebody holds it.
    #[error("another run is under way ({holder}): wait for it, or end it")]
    Held {
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The file cannot be opened or locked.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl RunLock {
    /// Takes the lock that is this file, or says who has it. Makes the file, and its folder.
    pub fn take(path: &Path, now: Timestamp) -> Result<Self, RunLockError> {
        let io = |source| RunLockError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(io)?;
        if let Err(error) = lock_exclusively(&file) {
            if error != Errno::WOULDBLOCK {
                return Err(io(error.into()));
            }
            let mut holder = String::new();
            // What cannot be read is merely not shown.
            let _ = file.read_to_string(&mut holder);
            return Err(RunLockError::Held { holder: holder.trim().to_owned() });
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "process {} since {now:.0}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }

    /// Whether somebody holds the lock that is this file. Needs no right but to read it, and changes nothing.
    pub fn is_held(path: &Path) -> Result<bool, RunLockError> {
        let io = |source| RunLockError::Io { path: path.to_owned(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(io)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Ok(true),
            looked => looked.map(|()| false).map_err(|error| io(error.into())),
        }
    }
}

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
    Lock(#[from] RunLockError),
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
    let Some(holder) = held_by(path)? else { return Ok(Cancelled::Nothing) };
    let process = holder.split(' ').nth(1).and_then(|number| number.parse().ok());
    let process = process.filter(|number| *number > 1).and_then(Pid::from_raw);
    let process = process.ok_or_else(|| CancelError::Unknown { path: path.to_owned() })?;
    let told = pidfd_open(process, PidfdFlags::empty()).and_then(|process| {
        // A number may be another's by now. What we hold is that of the run if the run still is.
        match held_by(path) {
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
        while held_by(path)?.is_some_and(|now| now == holder) {
            tokio::time::sleep(LOOK).await;
        }
        Ok::<_, RunLockError>(())
    };
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(ended) => Ok(ended.map(|()| Cancelled::Ended { holder })?),
        Err(_) => Err(CancelError::StillRunning { holder, path: path.to_owned() }),
    }
}

/// What the holder wrote about itself, if somebody holds the lock.
fn held_by(path: &Path) -> Result<Option<String>, RunLockError> {
    if !RunLock::is_held(path)? {
        return Ok(None);
    }
    let io = |source| RunLockError::Io { path: path.to_owned(), source };
    let mut holder = String::new();
    let _ = File::open(path).map_err(io)?.take(4096).read_to_string(&mut holder).map_err(io)?;
    Ok(Some(holder.trim().to_owned()))
}

/// Locks it. Whoever only looks holds it for a moment, too.
pub(crate) fn lock_exclusively(file: &File) -> Result<(), Errno> {
    const LOOK: Duration = Duration::from_millis(20);
    let mut locked = flock(file, FlockOperation::NonBlockingLockExclusive);
    for _ in 0..5 {
        if locked != Err(Errno::WOULDBLOCK) {
            break;
        }
        std::thread::sleep(LOOK);
        locked = flock(file, FlockOperation::NonBlockingLockExclusive);
    }
    locked
}
