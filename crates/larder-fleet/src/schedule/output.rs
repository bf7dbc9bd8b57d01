//! What a run of a schedule says: `<state-dir>/schedule/<name>.log`, and that of the run before beside it.
//!
//! The file is locked for as long as the run has it open (`flock`), so whether a run goes on is known to whoever looks,
//! after whatever became of the server that started it; no process number can be mistaken for another's.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use larder_cache::record::Name;
use rustix::fs::{FlockOperation, flock, fstat};

use crate::lock::{Lock, LockError, lock_exclusively};

/// The file.
#[must_use]
pub fn file(state_dir: &Path, name: &Name) -> PathBuf {
    state_dir.join("schedule").join(format!("{name}.log"))
}

/// Whether a run writes to it.
pub fn is_written(state_dir: &Path, name: &Name) -> Result<bool, LockError> {
    Lock::is_held(&file(state_dir, name))
}

/// Lets go of its lock by the run that has it as its standard output: one that is over, and has something to do that is no
/// part of it.
pub fn let_go(state_dir: &Path, name: &Name) -> io::Result<()> {
    let log = match fs::metadata(file(state_dir, name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        log => log?,
    };
    let ours = fstat(io::stdout())?;
    // Whoever started it without such a log has a lock of another kind, if any.
    if (ours.st_dev, ours.st_ino) != (log.dev(), log.ino()) {
        return Ok(());
    }
    Ok(flock(io::stdout(), FlockOperation::Unlock)?)
}

/// Opens it for a run, and locks it. One that goes on writes on; a new one leaves the file of the run before as it is, with
/// `.previous.log` at the end of its name.
pub fn open(state_dir: &Path, name: &Name, goes_on: bool) -> Result<File, LockError> {
    let path = file(state_dir, name);
    let io = |source| LockError::Io { path: path.clone(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    if !goes_on {
        match fs::rename(&path, path.with_extension("previous.log")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
    lock_exclusively(&log).map_err(|error| io(error.into()))?;
    Ok(log)
}
