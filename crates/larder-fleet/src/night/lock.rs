//! One run at a time.
//!
//! The lock is the system's own (`flock`), so it is gone with the process that held it, however that
//! ended. The file's text only tells people who holds it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

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
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
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
}
