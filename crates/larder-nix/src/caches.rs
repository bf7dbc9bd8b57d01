//! The caches that Nix here asks (its substituters), and what they know, as Nix itself finds out.
//!
//! Nix is asked, and not the caches, because it knows how to reach every kind of them, with whose password,
//! and because it remembers what they said: what was just looked up costs no second look.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use larder_formats::store_path::{StoreDir, StorePath};
use serde_json::Value;

use crate::{
    command::{CancellationToken, Invocation},
    nix::{Nix, NixError, Version},
};

/// How many paths one command is asked about: the system limits a command line's length.
const AT_ONCE: usize = 1000;

/// How long one command may look.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a store knows of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// Bytes to download, where a cache says so.
    pub download_size: Option<u64>,
    /// The names of the keys it is signed with.
    pub signers: BTreeSet<String>,
    /// Whether its content is proved by its own name, so that no signature is needed.
    pub content_addressed: bool,
}

/// Whom to ask, and how.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The cache's URL; without one, this machine's own store.
    pub store: Option<&'a str>,
    /// What the paths reach is asked for, too. Then it is an error if one is not there.
    pub closures: bool,
    /// What Nix remembers is looked up again.
    pub anew: bool,
}

impl Nix {
    /// What a store knows of these paths. Those that it does not have are left out; not being able to tell
    /// is an error.
    pub async fn known(
        &self,
        paths: &BTreeSet<StorePath>,
        question: Question<'_>,
        cancel: &CancellationToken,
    ) -> Result<BTreeMap<StorePath, Known>, NixError> {
        let all: Vec<&StorePath> = paths.iter().collect();
        let mut known = BTreeMap::new();
        for some in all.chunks(AT_ONCE) {
            let command = self.path_info(some, question);
            let output = tokio::time::timeout(PATIENCE, command.output(cancel));
            let silent = |_| NixError::Silent { command: command.program(), patience: PATIENCE };
            let answer = output.await.map_err(silent)??.text();
            let found = Known::parse(&answer, &self.layout().store_dir);
            known.extend(
                found.ok_or_else(|| NixError::Answer { command: command.to_string(), answer })?,
            );
        }
        Ok(known)
    }

    fn path_info(&self, paths: &[&StorePath], question: Question<'_>) -> Invocation {
        let mut command = self.command("nix").args(["path-info", "--json"]);
        if self.version() >= (Version { major: 2, minor: 33 }) {
            command = command.args(["--json-format", "1"]);
        }
        if let Some(store) = question.store {
            // One that does not answer is to be told so soon, and once.
            command = command.args(["--store", store]).args(["--option", "download-attempts", "1"]);
            command = command.args(["--option", "connect-timeout", "5"]);
        }
        if question.closures {
            command = command.arg("--recursive");
        }
        if question.anew {
            for remembered in ["narinfo-cache-negative-ttl", "narinfo-cache-positive-ttl"] {
                command = command.args(["--option", remembered, "0"]);
            }
        }
        let store_dir = &self.layout().store_dir;
        command.args(paths.iter().map(|path| store_dir.display(path)))
    }
}

impl Known {
    /// Reads the answer to `nix path-info --json`, without the paths that it says are not there: a list up to
    /// 2.18, in which those are not `valid`; an object since, with null for them. Nothing, if it is another.
    pub fn parse(answer: &str, store_dir: &StoreDir) -> Option<BTreeMap<StorePath, Self>> {
        let entries: Vec<(String, Value)> = match serde_json::from_str(answer).ok()? {
            Value::Array(list) => list
                .into_iter()
                .map(|entry| Some((entry.get("path")?.as_str()?.to_owned(), entry)))
                .collect::<Option<_>>()?,
            Value::Object(map) => map.into_iter().collect(),
            _ => return None,
        };
        let is_there =
            |entry: &Value| !entry.is_null() && entry.get("valid") != Some(&Value::Bool(false));
        let entries = entries.into_iter().filter(|(_, entry)| is_there(entry));
        let known = entries.map(|(path, entry)| {
            let path = store_dir.parse(&path).ok()?;
            Some((path, Self::of(&entry)?))
        });
        known.collect()
    }

    fn of(entry: &Value) -> Option<Self> {
        let size = |name: &str| entry.get(name).and_then(Value::as_u64);
        let signatures = entry.get("signatures").and_then(Value::as_array);
        let signer = |signature: &Value| Some(signature.as_str()?.split(':').next()?.to_owned());
        Some(Self {
            nar_size: size("narSize")?,
            download_size: size("downloadSize").filter(|size| *size > 0),
            signers: signatures.into_iter().flatten().filter_map(signer).collect(),
            content_addressed: entry.get("ca").is_some_and(|ca| !ca.is_null() && ca != ""),
        })
    }
}
