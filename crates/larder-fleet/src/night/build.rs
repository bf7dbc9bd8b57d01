//! Realising all hosts in one run of Nix.
//!
//! One run, because Nix counts jobs per client: several at once would each take the configured
//! number. A host has built when its output is valid, whatever the run's exit status says.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::Path,
};

use larder_formats::{
    internal_json::{self, ActivityKind, Event, Field, Line, ResultKind},
    store_path::{StoreDir, StorePath},
};
use larder_nix::{
    command::{CancellationToken, CommandError},
    database::{Database, DatabaseError},
    nix::Nix,
};

use super::{
    evaluate::Evaluated,
    plan::BuildPlan,
    progress::{Notice, Observer},
};
use crate::ledger::Failure;

/// Lines kept of each build's log, for the report; Nix itself keeps the whole.
const LAST_LINES: usize = 25;

/// How much of the machine a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Builds at once.
    pub max_jobs: u32,
    /// Cores for each build; 0 for all.
    pub cores: u32,
}

/// The hosts could not be realised for a reason that is no single build's.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Nix could not be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// What was built cannot be looked up.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a run of Nix left.
#[derive(Debug, Default)]
pub(crate) struct Realised {
    /// The last log lines of each derivation that was tried and is not there.
    pub failed: BTreeMap<StorePath, Vec<String>>,
    /// How many derivations were built.
    pub built: usize,
    /// How many paths were downloaded.
    pub fetched: usize,
    /// Paths whose download was tried and which are not there.
    pub unfetched: BTreeSet<StorePath>,
    /// What Nix said at error level.
    pub errors: Vec<String>,
}

/// What went wrong in a run, with the end of each failed build's log.
pub(crate) fn failures_as_text(realised: &Realised) -> String {
    let mut text = realised.errors.join("\n");
    for (derivation, lines) in &realised.failed {
        text.push_str(&format!("\n\n{derivation} failed; the end of its log:"));
        text.extend(lines.iter().map(|line| format!("\n  {line}")));
    }
    text
}

/// What Nix would do to realise a derivation or a store path.
pub(crate) async fn plan(
    nix: &Nix,
    derivation: &StorePath,
    cancel: &CancellationToken,
) -> Result<BuildPlan, CommandError> {
    let store_dir = &nix.layout().store_dir;
    let command =
        nix.command("nix-store").args(["--realise", "--dry-run", &store_dir.display(derivation)]);
    let mut text = String::new();
    let output = command
        .run(cancel, |line| {
            text.push_str(line);
            text.push('\n');
        })
        .await?;
    output.finished.check(&command)?;
    Ok(BuildPlan::parse(&text, store_dir))
}

/// Realises all these hosts, going on past failures.
pub(super) async fn realise(
    nix: &Nix,
    database: &Database,
    hosts: &[Evaluated],
    work: Work<'_>,
) -> Result<Realised, BuildError> {
    let Work { limits, roots, log, observer, cancel } = work;
    if hosts.is_empty() {
        return Ok(Realised::default());
    }
    let store_dir = &nix.layout().store_dir;
    let derivations: BTreeSet<String> =
        hosts.iter().map(|host| store_dir.display(&host.derivation)).collect();
    let command = nix
        .command("nix-store")
        .args(["--realise", "--keep-going", "--log-format", "internal-json"])
        .args(["--max-jobs", &limits.max_jobs.to_string()])
        .args(["--cores", &limits.cores.to_string()])
        // Where everything builds, these roots bridge the time to the publication.
        .arg("--add-root")
        .arg(roots.join("result"))
        .arg("--indirect")
        .args(derivations)
        .log(log);
    let mut tracker = Tracker::new(store_dir.clone(), observer);
    command.run(cancel, |line| tracker.line(line)).await?;
    tracker.finish(database).map_err(BuildError::from)
}

/// How to realise.
pub(super) struct Work<'a> {
    pub limits: Limits,
    pub roots: &'a Path,
    pub log: &'a Path,
    pub observer: &'a mut dyn Observer,
    pub cancel: &'a CancellationToken,
}

/// The failures among these that belong to a host: those its derivation reaches.
pub(super) fn failures_of(
    database: &Database,
    host: &Evaluated,
    realised: &Realised,
) -> Result<Vec<Failure>, DatabaseError> {
    let reached = database.closure(&host.derivation)?;
    Ok(realised
        .failed
        .iter()
        .filter(|(derivation, _)| reached.contains(*derivation))
        .map(|(derivation, lines)| Failure {
            derivation: derivation.to_string(),
            last_lines: lines.clone(),
        })
        .collect())
}

/// Follows Nix's own report of what it does, line by line.
pub(crate) struct Tracker<'a> {
    store_dir: StoreDir,
    observer: &'a mut dyn Observer,
    building: HashMap<u64, StorePath>,
    fetching: HashMap<u64, StorePath>,
    transfers: HashMap<u64, u64>,
    tried: BTreeMap<StorePath, VecDeque<String>>,
    fetched: BTreeSet<StorePath>,
    errors: Vec<String>,
}

impl<'a> Tracker<'a> {
    pub(crate) fn new(store_dir: StoreDir, observer: &'a mut dyn Observer) -> Self {
        Self {
            store_dir,
            observer,
            building: HashMap::new(),
            fetching: HashMap::new(),
            transfers: HashMap::new(),
            tried: BTreeMap::new(),
            fetched: BTreeSet::new(),
            errors: Vec::new(),
        }
    }

    pub(crate) fn line(&mut self, line: &str) {
        match internal_json::parse_line(line) {
            Line::Plain(text) if text.trim().is_empty() => {}
            Line::Plain(text) => self.observer.notice(Notice::Message(text)),
            Line::Event(Event::Start { id, kind, fields, .. }) => self.start(id, kind, &fields),
            Line::Event(Event::Stop { id }) => self.stop(id),
            Line::Event(Event::Result { id, kind: ResultKind::BuildLogLine, fields }) => {
                if let (Some(derivation), Some(text)) =
                    (self.building.get(&id), fields.first().and_then(Field::as_text))
                {
                    let lines = self.tried.entry(derivation.clone()).or_default();
                    if lines.len() == LAST_LINES {
                        lines.pop_front();
                    }
                    lines.push_back(text.to_owned());
                    self.observer.notice(Notice::BuildLine { derivation, line: text });
                }
            }
            Line::Event(Event::Result { id, kind: ResultKind::Progress, fields }) => {
                if let (Some(so_far), Some(done)) =
                    (self.transfers.get_mut(&id), fields.first().and_then(Field::as_int))
                {
                    *so_far = done;
                }
            }
            Line::Event(Event::Msg { level: 0, msg }) => {
                let text = internal_json::strip_ansi(&msg).into_owned();
                self.observer.notice(Notice::Message(&text));
                self.errors.push(text);
            }
            Line::Event(Event::Msg { level: 1, msg }) => {
                self.observer.notice(Notice::Message(&internal_json::strip_ansi(&msg)));
            }
            Line::Event(_) => {}
        }
    }

    fn start(&mut self, id: u64, kind: ActivityKind, fields: &[Field]) {
        if kind == ActivityKind::FileTransfer {
            self.transfers.insert(id, 0);
        }
        let text = |index: usize| fields.get(index).and_then(Field::as_text).unwrap_or_default();
        let Ok(path) = self.store_dir.parse(text(0)) else { return };
        match kind {
            ActivityKind::Build => {
                self.observer.notice(Notice::BuildStarted { derivation: &path, machine: text(1) });
                self.tried.entry(path.clone()).or_default();
                self.building.insert(id, path);
            }
            ActivityKind::Substitute => {
                self.observer.notice(Notice::FetchStarted { path: &path, from: text(1) });
                self.fetching.insert(id, path);
            }
            _ => {}
        }
    }

    fn stop(&mut self, id: u64) {
        if let Some(derivation) = self.building.remove(&id) {
            self.observer.notice(Notice::BuildEnded(&derivation));
        } else if let Some(path) = self.fetching.remove(&id) {
            self.observer.notice(Notice::FetchEnded(&path));
            self.fetched.insert(path);
        } else if let Some(bytes) = self.transfers.remove(&id) {
            self.observer.notice(Notice::Transferred(bytes));
        }
    }

    /// Nix's texts about failures differ from version to version; whether what was tried is there
    /// now does not.
    pub(crate) fn finish(self, database: &Database) -> Result<Realised, DatabaseError> {
        let mut realised = Realised { errors: self.errors, ..Realised::default() };
        for (derivation, lines) in self.tried {
            let mut all_valid = true;
            for output in database.outputs(&derivation)?.values() {
                all_valid &= database.is_valid(output)?;
            }
            if all_valid {
                realised.built += 1;
            } else {
                realised.failed.insert(derivation, lines.into());
            }
        }
        for path in self.fetched {
            match database.is_valid(&path)? {
                true => realised.fetched += 1,
                false => drop(realised.unfetched.insert(path)),
            }
        }
        Ok(realised)
    }
}
