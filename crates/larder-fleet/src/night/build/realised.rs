//! What realising came to.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::store_path::StorePath;
use larder_nix::database::{Database, DatabaseError};
use serde::{Deserialize, Serialize};

use crate::{
    host::HostName,
    ledger::{Failure, FailureKind},
    night::evaluate::Evaluated,
};

/// What the runs of Nix left.
#[derive(Debug, Default)]
pub(crate) struct Realised {
    /// Each derivation that was tried and is not there.
    pub failed: BTreeMap<StorePath, Failed>,
    /// How many derivations were built.
    pub built: usize,
    /// How many paths were downloaded.
    pub fetched: usize,
    /// Paths whose download was tried and which are not there.
    pub unfetched: BTreeSet<StorePath>,
    /// What Nix said at error level.
    pub errors: Vec<String>,
    /// What was tried again.
    pub retries: Vec<Retry>,
    /// Hosts that were not finished, each with the reason.
    pub unfinished: BTreeMap<HostName, String>,
    /// Why Nix was stopped before its end, if it was.
    pub stopped: Option<String>,
}

/// A derivation that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The end of its log.
    pub lines: Vec<String>,
    /// What it failed of.
    pub kind: FailureKind,
    /// The most memory it was seen to take.
    pub peak: Option<u64>,
}

/// Something that was tried again, for the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Base name of the derivation; none where it is for the whole run.
    pub derivation: Option<String>,
    /// What it failed of before.
    pub why: FailureKind,
    /// Builds at once, the second time.
    pub jobs: u32,
    /// Cores for each, the second time; 0 for all.
    pub cores: u32,
    /// Whether it is there now.
    pub succeeded: bool,
}

impl Realised {
    /// What this and what came later came to.
    pub(crate) fn and(mut self, later: Self, database: &Database) -> Result<Self, DatabaseError> {
        self.failed.extend(later.failed);
        self.built += later.built;
        self.fetched += later.fetched;
        self.unfetched.extend(later.unfetched);
        self.retries.extend(later.retries);
        self.unfinished.extend(later.unfinished);
        self.stopped = later.stopped.or(self.stopped);
        later.errors.into_iter().for_each(|error| self.add_error(error));
        self.take_out_the_cured(database)?;
        Ok(self)
    }

    /// One that was said already is the same one.
    pub(super) fn add_error(&mut self, error: String) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Takes out what came to be in a later try.
    pub(super) fn take_out_the_cured(&mut self, database: &Database) -> Result<(), DatabaseError> {
        let mut cured = Vec::new();
        for path in self.failed.keys() {
            if database.is_built(path)? == Some(true) {
                cured.push(path.clone());
            }
        }
        for path in &cured {
            self.failed.remove(path);
        }
        // Also what could not even begin then.
        for error in std::mem::take(&mut self.errors) {
            let named = derivations_in(&error);
            let mut built = 0;
            for path in &named {
                built += usize::from(database.is_built(path)? == Some(true));
            }
            if named.is_empty() || built < named.len() {
                self.errors.push(error);
            }
        }
        for path in std::mem::take(&mut self.unfetched) {
            if !database.is_valid(&path)? {
                self.unfetched.insert(path);
            }
        }
        Ok(())
    }

    /// The run ended before these hosts were done.
    pub(crate) fn end_for(&mut self, hosts: &[Evaluated], why: &str) {
        self.stopped = Some(why.to_owned());
        for host in hosts {
            self.unfinished.entry(host.host.clone()).or_insert_with(|| why.to_owned());
        }
    }

    /// What a host failed of, that is not there: by the worst of what failed for it. Where nothing did, what it needs
    /// could not be downloaded, nobody was there to build it, or Nix itself came to no end.
    pub(crate) fn kind_for(&self, failures: &[Failure]) -> FailureKind {
        let weight = |kind: &FailureKind| match kind {
            FailureKind::Itself => 3,
            FailureKind::TimedOut => 2,
            FailureKind::Memory { .. } => 1,
            FailureKind::Transient => 0,
        };
        let worst = failures.iter().map(|failure| failure.kind).max_by_key(weight);
        worst.unwrap_or(FailureKind::Transient)
    }
}

/// The derivations that a text of Nix names.
fn derivations_in(text: &str) -> Vec<StorePath> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
    let words = text.split(|c| !is_of_a_name(c)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.ends_with(".drv")).filter_map(|word| word.parse().ok()).collect()
}

/// What went wrong in a run, with the end of each failed build's log.
pub(crate) fn failures_as_text(realised: &Realised) -> String {
    let mut text = realised.errors.join("\n");
    for (derivation, failed) in &realised.failed {
        text.push_str(&format!("\n\n{derivation} failed; the end of its log:"));
        text.extend(failed.lines.iter().map(|line| format!("\n  {line}")));
    }
    text
}

/// The failures among these that belong to a host: those its derivation reaches.
pub(crate) fn failures_of(
    database: &Database,
    host: &Evaluated,
    realised: &Realised,
) -> Result<Vec<Failure>, DatabaseError> {
    let reached = database.closure(&host.derivation)?;
    Ok(realised
        .failed
        .iter()
        .filter(|(derivation, _)| reached.contains(*derivation))
        .map(|(derivation, failed)| Failure {
            derivation: derivation.to_string(),
            last_lines: failed.lines.clone(),
            kind: failed.kind,
            peak: failed.peak,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivations_are_told_that_a_text_names() {
        let (one, other) = ("0".repeat(32) + "-gcc-13.2+x.drv", "1".repeat(32) + "-a.drv");
        let text = format!(
            "error: 1 dependencies of derivation '/nix/store/{one}' failed (nor '{other}'.), not of a.drv\n\
             /nix/store/{}-out",
            "2".repeat(32)
        );
        let found: Vec<String> = derivations_in(&text).iter().map(StorePath::to_string).collect();
        assert_eq!(found, [one, other]);
    }
}
