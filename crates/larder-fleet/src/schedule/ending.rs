//! How a run of a schedule ended: its own last word, in `<state-dir>/schedule/<name>.json`.
//!
//! Written by the run itself, so that a server that did not start it knows, too. A run that leaves none was killed.

use std::{
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use larder_cache::record::Name;
use serde::{Deserialize, Serialize};

use crate::durable;

/// Bytes of such a file, and more than that.
const LIMIT: u64 = 64 * 1024;

/// A run's last word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// When the run began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its exit status.
    pub status: u8,
}

/// A last word cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct EndingError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

impl Ending {
    /// What the last run of a schedule said that ended by itself.
    pub fn read(state_dir: &Path, name: &Name) -> Result<Option<Self>, EndingError> {
        let path = file(state_dir, name);
        match limited(&path, LIMIT) {
            Ok(bytes) => Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok())),
            Err(source) => Err(EndingError { path, source }),
        }
    }

    /// Says it.
    pub fn write(&self, state_dir: &Path, name: &Name) -> Result<(), EndingError> {
        let path = file(state_dir, name);
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        text.and_then(|text| durable::replace(&path, &text, 0o644))
            .map_err(|source| EndingError { path, source })
    }
}

/// Takes back a last word that says nothing of a run: that somebody else was building.
pub fn take_back(state_dir: &Path, name: &Name) -> Result<(), EndingError> {
    let path = file(state_dir, name);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(EndingError { path, source }),
        _ => Ok(()),
    }
}

fn file(state_dir: &Path, name: &Name) -> PathBuf {
    state_dir.join("schedule").join(format!("{name}.json"))
}

/// A file that should be small; nothing if it is not there. One that is larger is as good as broken.
pub(super) fn limited(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
