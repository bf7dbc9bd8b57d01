//! What is said of a run when it has ended.

use std::path::PathBuf;

use larder_formats::{lock_file::InputChange, store_path::StorePath};
use serde::Serialize;

use super::{
    build::Retry,
    evaluate::{Evaluated, LeftOut},
    home::WentHome,
    plan::BuildPlan,
    source::WorkTree,
    update::Origin,
};
use crate::{
    host::HostName,
    ledger::{Held, Outcome, Peak},
};

/// How a run ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
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
    /// What was tried again.
    pub retries: Vec<Retry>,
    /// What took how much memory.
    pub peaks: Vec<Peak>,
    /// The whole log of the build.
    pub log: Option<PathBuf>,
    /// The locked inputs' sources, where hosts were published.
    #[serde(skip)]
    pub sources: Vec<StorePath>,
}

/// The lock that a run was done with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockReport {
    /// What the run started from.
    pub start: Origin,
    /// Inputs that are older now than what was published before.
    pub older: Vec<Change>,
    /// Why nothing was updated, though no input is at fault.
    pub undecided: Option<String>,
    /// Whether it went home to its repository, where it was to.
    #[serde(flatten)]
    pub home: Option<WentHome>,
}

/// An input that is not where it was.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The input.
    pub input: String,
    /// Where it was locked.
    pub from: Option<String>,
    /// Where it is locked now.
    pub to: Option<String>,
}

/// How a run ended for a host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    /// The host.
    pub host: HostName,
    /// What it needed.
    pub plan: Option<BuildPlan>,
    /// Its system.
    pub store_path: Option<StorePath>,
    /// How it ended; nothing for a run that was to stop before.
    pub outcome: Option<Outcome>,
    /// The number it was published under.
    pub revision: Option<u64>,
}

/// A host on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) host: HostName,
    pub(super) plan: Option<BuildPlan>,
    pub(super) state: Result<Evaluated, Outcome>,
}

impl Report {
    /// Whether every host did as it should.
    pub fn is_good(&self) -> bool {
        let good = |host: &HostReport| host.outcome.as_ref().is_none_or(Outcome::is_good);
        self.left_out.is_empty() && self.hosts.iter().all(good)
    }

    /// What was published: systems, and the sources they were evaluated from.
    pub fn published(&self) -> Vec<StorePath> {
        let published = self.hosts.iter().filter(|host| host.revision.is_some());
        let systems = published.filter_map(|host| host.store_path.clone());
        systems.chain(self.sources.iter().cloned()).collect()
    }

    /// A report that says nothing of any host yet.
    pub(super) fn empty(tree: &WorkTree) -> Self {
        Self {
            commit: tree.commit.clone(),
            changes: Vec::new(),
            lock: None,
            held: Vec::new(),
            left_out: Vec::new(),
            hosts: Vec::new(),
            built: 0,
            fetched: 0,
            retries: Vec::new(),
            peaks: Vec::new(),
            log: None,
            sources: Vec::new(),
        }
    }
}

impl From<&InputChange> for Change {
    fn from(change: &InputChange) -> Self {
        Self {
            input: change.name.clone(),
            from: change.from.as_ref().map(|input| input.description.clone()),
            to: change.to.as_ref().map(|input| input.description.clone()),
        }
    }
}

impl HostReport {
    pub(super) fn planned(job: Job) -> Self {
        let (store_path, outcome) = match job.state {
            Ok(evaluated) => (Some(evaluated.output), None),
            Err(outcome) => (None, Some(outcome)),
        };
        Self { host: job.host, plan: job.plan, store_path, outcome, revision: None }
    }

    pub(super) fn done(job: &Job, outcome: Outcome) -> Self {
        let store_path = job.state.as_ref().ok().map(|evaluated| evaluated.output.clone());
        let (host, plan) = (job.host.clone(), job.plan.clone());
        Self { host, plan, store_path, outcome: Some(outcome), revision: None }
    }
}
