//! What is told of a cache's round to those who ask: `<state-dir>/push/<cache>.json`.
//!
//! Only told: no decision rests on it, so it is no harm if it is missing or old.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use larder_fleet::durable;
use serde::{Deserialize, Serialize};

use crate::config::{CacheName, Config};

/// How a cache's round is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct State {
    /// Why not all that waits gets there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<Trouble>,
    /// What must not go there, and why.
    pub(crate) refused: BTreeMap<String, String>,
}

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trouble {
    /// Since when.
    pub(crate) since: Timestamp,
    /// What it was the last time.
    pub(crate) error: String,
    /// When it is tried again.
    pub(crate) next: Timestamp,
}

/// Where these things lie.
pub(super) fn folder(config: &Config) -> PathBuf {
    config.state_dir.join("push")
}

fn file(config: &Config, cache: &CacheName) -> PathBuf {
    folder(config).join(format!("{cache}.json"))
}

impl State {
    /// What was told last.
    pub(crate) fn read(config: &Config, cache: &CacheName) -> Self {
        let read = |file: &Path| serde_json::from_slice(&std::fs::read(file).ok()?).ok();
        read(&file(config, cache)).unwrap_or_default()
    }

    /// Tells it.
    pub(super) fn write(&self, config: &Config, cache: &CacheName) {
        let file = file(config, cache);
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .and_then(|text| durable::replace(&file, &text, 0o644));
        if let Err(error) = written {
            tracing::warn!("cannot write {}: {error}", file.display());
        }
    }
}
