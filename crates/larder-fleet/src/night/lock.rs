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
        if let Err(error) = exclusive(&file) {
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

/// Locks it. Whoever only looks holds it for a moment, too.
fn exclusive(file: &File) -> Result<(), Errno> {
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
