//! What a client remembers between upgrades: what it accepted last, and what it ran before.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use larder_formats::store_path::StorePath;
use serde::{Deserialize, Serialize};

use crate::durable;

/// What a client remembers, in one small file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientState {
    /// The revision acted on last.
    pub accepted: Option<Accepted>,
    /// The system that ran before the last switch: where a rollback leads.
    pub previous: Option<StorePath>,
}

/// A revision that was acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Its number.
    pub number: u64,
    /// When it was accepted.
    pub time: Timestamp,
}

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system's reason.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Its contents are not what Larder writes.
    #[error(
        "{path} is damaged ({source}): it guards against going back to older revisions. \
         If that does not worry you, remove it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl ClientState {
    /// Reads what is remembered; nothing, if nothing ever was.
    pub fn load(state_dir: &Path) -> Result<Self, StateError> {
        let path = file(state_dir);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| StateError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// Writes it down, durably.
    pub fn save(&self, state_dir: &Path) -> Result<(), StateError> {
        let path = file(state_dir);
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|source| StateError::Damaged { path: path.clone(), source })?;
        durable::replace(&path, &bytes, 0o644).map_err(|source| StateError::Io { path, source })
    }
}

/// Where the roots and the scratch files of upgrades lie.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("upgrade")
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("client.json")
}
