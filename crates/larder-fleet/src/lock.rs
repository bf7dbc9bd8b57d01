//! A lock that is the system's own (`flock`), so that it is gone with the process that held it, however that
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

/// Held for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it.
    #[error("{path} is locked by another process ({holder}): wait for it, or end it")]
    Held {
        /// The file.
        path: PathBuf,
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

impl Lock {
    /// Takes the lock that is this file, or says who has it. Makes the file, and its folder.
    pub fn take(path: &Path, now: Timestamp) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
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
            let (path, holder) = (path.to_owned(), holder.trim().to_owned());
            return Err(LockError::Held { path, holder });
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "process {} since {now:.0}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }

    /// Whether somebody holds the lock that is this file. Needs no right but to read it, and changes nothing.
    pub fn is_held(path: &Path) -> Result<bool, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(io)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Ok(true),
            looked => looked.map(|()| false).map_err(|error| io(error.into())),
        }
    }

    /// What the holder wrote about itself, if somebody holds the lock that is this file.
    pub fn holder(path: &Path) -> Result<Option<String>, LockError> {
        if !Self::is_held(path)? {
            return Ok(None);
        }
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let mut holder = String::new();
        let _ = File::open(path).map_err(io)?.take(4096).read_to_string(&mut holder).map_err(io)?;
        Ok(Some(holder.trim().to_owned()))
    }
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
