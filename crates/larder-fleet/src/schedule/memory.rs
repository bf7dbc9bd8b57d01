//! What is remembered of schedules between two looks: `<state-dir>/schedule.json`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use larder_cache::record::Name;
use serde::{Deserialize, Serialize};

use super::ending::limited;
use crate::durable;

const VERSION: u32 = 1;

/// Bytes of the file, and more than that.
const LIMIT: u64 = 4 * 1024 * 1024;

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    /// Of each schedule, those too that are configured no more.
    pub schedules: BTreeMap<Name, Remembered>,
}

/// What is remembered of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Its times, as they were written. Others begin anew.
    pub at: String,
    /// All due times up to this one are done with.
    pub settled: Timestamp,
    /// The run that was begun and of which nobody heard since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
}

/// A run that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The time it is for.
    pub due: Timestamp,
    /// When it was first started.
    pub begun: Timestamp,
    /// How often it was resumed.
    #[serde(default)]
    pub resumed: u32,
}

/// What is remembered cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file.
    #[error("what was done of the schedule cannot be read or written: {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is not what was written there.
    #[error(
        "what was done of the schedule, {path}, cannot be understood, and was set aside as {aside}: {reason}; \
         nothing that was missed is made up for"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Memory {
    /// Remembers nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { version: VERSION, schedules: BTreeMap::new() }
    }

    /// Where it lies in the state folder.
    #[must_use]
    pub fn file(state_dir: &Path) -> PathBuf {
        state_dir.join("schedule.json")
    }

    /// What is remembered, without touching the file: nothing where it is broken.
    pub fn look(state_dir: &Path) -> Result<Self, MemoryError> {
        let path = Self::file(state_dir);
        let read = limited(&path, LIMIT).map_err(|source| MemoryError::Io { path, source })?;
        Ok(read.and_then(|bytes| Self::parse(&bytes).ok()).unwrap_or_else(Self::empty))
    }

    /// What is remembered. A file that is broken is set aside, which is told once: the next time there is none.
    pub fn load(state_dir: &Path) -> Result<Self, MemoryError> {
        let path = Self::file(state_dir);
        let io = |source| MemoryError::Io { path: path.clone(), source };
        let Some(bytes) = limited(&path, LIMIT).map_err(io)? else { return Ok(Self::empty()) };
        let reason = match Self::parse(&bytes) {
            Ok(memory) => return Ok(memory),
            Err(reason) => reason,
        };
        let aside = path.with_extension("json.broken");
        std::fs::rename(&path, &aside).map_err(io)?;
        Err(MemoryError::Broken { path, aside, reason })
    }

    /// Writes it down. When this returns, it is remembered whatever happens.
    pub fn save(&self, state_dir: &Path) -> Result<(), MemoryError> {
        let path = Self::file(state_dir);
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        text.and_then(|text| durable::replace(&path, &text, 0o644))
            .map_err(|source| MemoryError::Io { path, source })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let memory: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if memory.version == VERSION {
            return Ok(memory);
        }
        Err(format!("it is of version {}, and this Larder knows {VERSION}", memory.version))
    }
}
