//! What is said of a run when it has ended.
//!
//! The same value is shown, kept in the ledger and read again later, perhaps by another version: what reads
//! it takes fields that are missing as empty and passes over those it does not know.

use std::path::PathBuf;

use jiff::Timestamp;
use larder_formats::{lock_file::InputChange, store_path::StorePath};
use serde::{Deserialize, Serialize};

use super::{
    build::Retry,
    evaluate::{Evaluated, LeftOut},
    home::WentHome,
    source::WorkTree,
    update::Origin,
};
use crate::{
    build_plan::BuildPlan,
    host::HostName,
    ledger::{Failure, Held, Outcome, Peak},
    upgrade::plan::Changes,
};

/// The version of the JSON of [`Report`].
const FORMAT: u32 = 1;

/// Failed derivations of a host that a kept report tells of, and bytes of each of their lines.
const KEPT_FAILURES: usize = 10;
const KEPT_LINE: usize = 500;

/// Bytes of what Nix said that a kept report has: the end, where the reason stands.
const KEPT_MESSAGE: usize = 8 * 1024;

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The version of this format.
    pub format: u32,
    /// The run's number, where it is noted in the ledger.
    pub run: Option<i64>,
    /// The schedule it was done by; none for one by hand.
    pub schedule: Option<String>,
    /// Whether it was of all hosts that are ever built.
    pub whole: bool,
    /// The flake, as configured.
    pub flake: String,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended as a whole.
    pub end: End,
    /// Whether the lock was to be updated.
    pub update: bool,
    /// The commit that was built from.
    pub commit: Option<String>,
    /// What is built otherwise than the lock says that the run started from.
    pub changes: Vec<Change>,
    /// That lock, and what became of the new one; nothing where no lock was made.
    pub lock: Option<LockReport>,
    /// Inputs that the update was kept from moving.
    pub held: Vec<Held>,
    /// Hosts that nothing could be done about.
    pub left_out: Vec<LeftOut>,
    /// Each host, in order of name.
    pub hosts: Vec<HostReport>,
    /// Derivations built.
    pub built: usize,
    /// Paths downloaded.
    pub fetched: usize,
    /// What was built, by name.
    pub builds: Names,
    /// What was downloaded and not built, by name.
    pub downloads: Names,
    /// Bytes downloaded, as far as Nix says.
    pub downloaded_bytes: u64,
    /// What took how long.
    pub durations: Durations,
    /// What was tried again.
    pub retries: Vec<Retry>,
    /// What took the most memory, the most first.
    pub peaks: Vec<Peak>,
    /// The disk of the store, at the end.
    pub disk: Option<Disk>,
    /// The whole log of the build.
    pub log: Option<PathBuf>,
    /// The locked inputs' sources, where hosts were published.
    #[serde(skip)]
    pub sources: Vec<StorePath>,
}

/// How a run ended as a whole, whatever became of single hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum End {
    /// It came to its end.
    #[default]
    Finished,
    /// It was told to stop.
    Cancelled,
    /// It stopped by itself before its end, as for a limit of time or a full disk.
    Stopped {
        /// Why.
        reason: String,
    },
    /// It failed before it came to single hosts, or could not go on.
    Failed {
        /// Why.
        message: String,
    },
}

/// The lock that a run was done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockReport {
    /// What the run started from.
    pub start: Origin,
    /// Inputs that are older now than what was published before.
    #[serde(default)]
    pub older: Vec<Change>,
    /// Why nothing was updated, though no input is at fault.
    #[serde(default)]
    pub undecided: Option<String>,
    /// Whether it went home to its repository, where it was to.
    #[serde(flatten)]
    pub home: Option<WentHome>,
}

/// An input that is not where it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The input.
    pub input: String,
    /// Where it was locked.
    pub from: Option<String>,
    /// Where it is locked now.
    pub to: Option<String>,
}

/// Names of packages, with their versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Names {
    /// In order of name, so many of them.
    pub names: Vec<Named>,
    /// How many names there are beside these.
    pub omitted: usize,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name, with its version.
    pub name: String,
    /// How many derivations or paths are called so.
    pub count: usize,
}

/// What took how long, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Durations {
    /// The run, from its beginning to its end.
    pub whole: u64,
    /// Evaluating all hosts.
    pub evaluation: u64,
    /// From the first build or download to the end of the last.
    pub building: u64,
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes in use.
    pub used: u64,
    /// Bytes that can still be written.
    pub free: u64,
}

/// How a run ended for a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    /// The host.
    pub host: HostName,
    /// What it needed. Not kept.
    #[serde(default)]
    pub plan: Option<BuildPlan>,
    /// Its system.
    #[serde(default)]
    pub store_path: Option<StorePath>,
    /// How it ended; nothing for a run that was to stop before.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// The number it was published under.
    #[serde(default)]
    pub revision: Option<u64>,
    /// What is another than in the system that was published before.
    #[serde(default)]
    pub versions: Option<Versions>,
    /// Since when the runs fail for it, where this one did.
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    /// What its machines have meanwhile, where this run has nothing new for them.
    #[serde(default)]
    pub last_good: Option<LastGood>,
}

/// What is another in a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// Packages, versions and sizes; so many of them.
    #[serde(flatten)]
    pub changes: Changes,
    /// How many packages are others beside these.
    #[serde(default)]
    pub omitted: usize,
}

/// A revision that is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// Its number.
    pub revision: u64,
    /// When it was published.
    pub time: Timestamp,
}

/// A host on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) host: HostName,
    pub(super) state: Result<Evaluated, Outcome>,
}

impl Report {
    /// Reads a report that was kept. None for what is none, or one of a form that is not understood here.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text)
            .inspect_err(|error| tracing::debug!(%error, "a kept report cannot be read"))
            .ok()
    }

    /// The report as JSON.
    pub fn write(&self) -> String {
        // Every key is text and every number finite, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The report as it is kept and sent: without plans, which are long, and of long texts the end.
    pub fn shortened(&self) -> Self {
        let mut kept = self.clone();
        for host in &mut kept.hosts {
            host.plan = None;
            if let Some(outcome) = &mut host.outcome {
                shorten_outcome(outcome);
            }
        }
        for held in &mut kept.held {
            shorten_failures(&mut held.failures);
            shorten(&mut held.message, KEPT_MESSAGE);
        }
        if let End::Failed { message } = &mut kept.end {
            shorten(message, KEPT_MESSAGE);
        }
        kept
    }

    /// Whether every host did as it should.
    pub fn is_good(&self) -> bool {
        let good = |host: &HostReport| host.outcome.as_ref().is_none_or(Outcome::is_good);
        self.end == End::Finished && self.left_out.is_empty() && self.hosts.iter().all(good)
    }

    /// What was published: systems, and the sources they were evaluated from.
    pub fn published(&self) -> Vec<StorePath> {
        let published = self.hosts.iter().filter(|host| host.revision.is_some());
        let systems = published.filter_map(|host| host.store_path.clone());
        systems.chain(self.sources.iter().cloned()).collect()
    }

    /// The hosts that this run failed for.
    pub fn failed(&self) -> impl Iterator<Item = &HostReport> {
        self.hosts.iter().filter(|host| host.outcome.as_ref().is_some_and(|it| !it.is_good()))
    }

    /// The report of a run that failed before it began.
    pub fn failed_to_begin(message: String) -> Self {
        Self::ended(End::Failed { message })
    }

    /// The report of a run that came to no host.
    pub(super) fn ended(end: End) -> Self {
        Self { format: FORMAT, end, ..Self::default() }
    }

    /// A report that says nothing of any host yet.
    pub(super) fn empty(tree: &WorkTree) -> Self {
        Self { commit: tree.commit.clone(), ..Self::ended(End::Finished) }
    }
}

impl Change {
    pub(super) fn of(change: &InputChange) -> Self {
        Self {
            input: change.name.clone(),
            from: change.from.as_ref().map(|input| input.description.clone()),
            to: change.to.as_ref().map(|input| input.description.clone()),
        }
    }
}

impl HostReport {
    /// Of a host of which nothing is known yet.
    pub fn of(host: HostName) -> Self {
        Self {
            host,
            plan: None,
            store_path: None,
            outcome: None,
            revision: None,
            versions: None,
            failing_since: None,
            last_good: None,
        }
    }

    pub(super) fn planned(job: Job) -> Self {
        let (plan, store_path, outcome) = match job.state {
            Ok(evaluated) => (evaluated.plan, Some(evaluated.output), None),
            Err(outcome) => (None, None, Some(outcome)),
        };
        Self { plan, store_path, outcome, ..Self::of(job.host) }
    }

    pub(super) fn done(job: &Job, outcome: Outcome) -> Self {
        let evaluated = job.state.as_ref().ok();
        let store_path = evaluated.map(|evaluated| evaluated.output.clone());
        let plan = evaluated.and_then(|evaluated| evaluated.plan.clone());
        Self { plan, store_path, outcome: Some(outcome), ..Self::of(job.host.clone()) }
    }
}

fn shorten_outcome(outcome: &mut Outcome) {
    match outcome {
        Outcome::BuildFailed { failures, message, .. } => {
            shorten_failures(failures);
            shorten(message, KEPT_MESSAGE);
        }
        Outcome::EvaluationFailed { message }
        | Outcome::Unfinished { message }
        | Outcome::NotPublished { message } => {
            shorten(message, KEPT_MESSAGE);
        }
        Outcome::Built | Outcome::Unchanged => {}
    }
}

fn shorten_failures(failures: &mut Vec<Failure>) {
    failures.truncate(KEPT_FAILURES);
    let lines = failures.iter_mut().flat_map(|failure| &mut failure.last_lines);
    lines.for_each(|line| shorten(line, KEPT_LINE));
}

/// Keeps the end of a text.
fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        let from = text.len() - most;
        let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        *text = format!("…{}", &text[from..]);
    }
}
