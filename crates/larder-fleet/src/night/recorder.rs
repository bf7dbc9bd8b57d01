//! Hears what a run tells whoever watches it, passes it on, and makes the run's report whole by it.
//!
//! So also a run that fails before it comes to any host has a report, and what it was about is known.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use larder_formats::{package_name::PackageName, store_path::StorePath};
use larder_nix::database::{Database, DatabaseError};

use super::{
    progress::{Notice, Observer},
    report::{Change, Disk, Durations, End, HostReport, LastGood, Named, Names, Report, Versions},
    setup::{Night, NightError},
};
use crate::{
    ledger::{Ledger, LedgerError, Outcome},
    upgrade::plan::{Changes, Closure},
};

/// Names that a report has of what was built, and of what was downloaded.
const MOST_NAMES: usize = 200;

/// Packages of each host that a report compares.
const MOST_PACKAGES: usize = 300;

/// Listens to one run.
pub struct Recorder<'a> {
    observer: &'a mut dyn Observer,
    clock: fn() -> Timestamp,
    began: Timestamp,
    run: Option<i64>,
    update: bool,
    commit: Option<String>,
    changes: Vec<Change>,
    evaluating: Span,
    building: Span,
    tried: BTreeSet<StorePath>,
    fetched: BTreeSet<StorePath>,
    bytes: u64,
}

/// From the first to the last of something.
#[derive(Clone, Copy, Default)]
struct Span(Option<(Timestamp, Timestamp)>);

impl Span {
    fn reaches(&mut self, now: Timestamp) {
        self.0 = Some((self.0.map_or(now, |(first, _)| first), now));
    }

    fn milliseconds(self) -> u64 {
        self.0.map_or(0, |(first, last)| between(first, last))
    }
}

/// A clock that was set back in between makes it nothing.
fn between(first: Timestamp, last: Timestamp) -> u64 {
    u64::try_from(last.duration_since(first).as_millis()).unwrap_or(0)
}

impl Observer for Recorder<'_> {
    fn notice(&mut self, notice: Notice<'_>) {
        self.hear(notice);
        self.observer.notice(notice);
    }
}

impl<'a> Recorder<'a> {
    /// Begins to listen, and passes on what it hears.
    pub fn new(observer: &'a mut dyn Observer, clock: fn() -> Timestamp) -> Self {
        Self {
            observer,
            clock,
            began: clock(),
            run: None,
            update: false,
            commit: None,
            changes: Vec::new(),
            evaluating: Span::default(),
            building: Span::default(),
            tried: BTreeSet::new(),
            fetched: BTreeSet::new(),
            bytes: 0,
        }
    }

    fn hear(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Begun(run) => self.run = Some(run),
            Notice::Fetched { commit } => self.commit = commit.map(str::to_owned),
            Notice::Locking { update } => self.update = update,
            Notice::Locked { changes } => self.changes = changes.iter().map(Change::of).collect(),
            Notice::Evaluating(_) | Notice::Evaluated(..) | Notice::EvaluationFailed(..) => {
                self.evaluating.reaches((self.clock)());
            }
            Notice::BuildStarted { derivation, .. } => {
                self.building.reaches((self.clock)());
                self.tried.insert(derivation.clone());
            }
            Notice::FetchStarted { .. } | Notice::BuildEnded(_) => {
                self.building.reaches((self.clock)());
            }
            Notice::FetchEnded(path) => {
                self.building.reaches((self.clock)());
                self.fetched.insert(path.clone());
            }
            Notice::Transferred(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            _ => {}
        }
    }

    /// The report of the run that ended so. What cannot be found out for it is left out.
    pub fn report(self, night: &Night, ran: Result<Report, &NightError>) -> Report {
        let mut report = match ran {
            Ok(report) => report,
            Err(NightError::Cancelled) => self.of_no_host(End::Cancelled),
            Err(error) => self.of_no_host(End::Failed { message: error.to_string() }),
        };
        let now = (self.clock)();
        report.run = self.run;
        report.whole = night.hosts.is_everybody();
        report.flake.clone_from(&night.flake);
        report.began = Some(self.began);
        report.ended = Some(now);
        report.update = self.update;
        report.durations = Durations {
            whole: between(self.began, now),
            evaluation: self.evaluating.milliseconds(),
            building: self.building.milliseconds(),
        };
        report.downloaded_bytes = self.bytes;
        report.disk = disk(night);
        match self.names(&night.database) {
            Ok((builds, downloads)) => (report.builds, report.downloads) = (builds, downloads),
            Err(error) => tracing::debug!(%error, "what was built is not named"),
        }
        if let (Some(publisher), Some(_)) = (&night.publisher, self.run) {
            for host in &mut report.hosts {
                if let Err(error) = compare(host, &publisher.ledger, &night.database) {
                    tracing::debug!(%error, "{} is not compared", host.host);
                }
            }
        }
        report
    }

    fn of_no_host(&self, end: End) -> Report {
        let (commit, changes) = (self.commit.clone(), self.changes.clone());
        Report { commit, changes, ..Report::ended(end) }
    }

    /// What was built, and what was only downloaded.
    fn names(&self, database: &Database) -> Result<(Names, Names), DatabaseError> {
        let (mut built, mut outputs) = (Vec::new(), BTreeSet::new());
        for derivation in &self.tried {
            let made: BTreeSet<StorePath> = database.outputs(derivation)?.into_values().collect();
            let mut all_there = true;
            for output in &made {
                all_there &= database.is_valid(output)?;
            }
            if all_there {
                built.push(derivation);
                outputs.extend(made);
            }
        }
        let mut fetched = Vec::new();
        for path in self.fetched.difference(&outputs) {
            if database.is_valid(path)? {
                fetched.push(path);
            }
        }
        Ok((names(built), names(fetched)))
    }
}

fn names<'p>(paths: impl IntoIterator<Item = &'p StorePath>) -> Names {
    let mut counted = BTreeMap::<String, usize>::new();
    for path in paths {
        let PackageName { name, version } = PackageName::of(path);
        let dash = if version.is_empty() { "" } else { "-" };
        *counted.entry(format!("{name}{dash}{version}")).or_default() += 1;
    }
    let omitted = counted.len().saturating_sub(MOST_NAMES);
    let names = counted.into_iter().take(MOST_NAMES).map(|(name, count)| Named { name, count });
    Names { names: names.collect(), omitted }
}

fn disk(night: &Night) -> Option<Disk> {
    let told = rustix::fs::statvfs(&night.nix.layout().real_dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    Some(Disk {
        used: bytes(told.f_blocks.saturating_sub(told.f_bfree)),
        free: bytes(told.f_bavail),
    })
}

/// Why a host could not be compared with what it was.
#[derive(Debug, thiserror::Error)]
enum CompareError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a host was before this run.
fn compare(
    host: &mut HostReport,
    ledger: &Ledger,
    database: &Database,
) -> Result<(), CompareError> {
    let failed = host.outcome.as_ref().is_some_and(|outcome| !outcome.is_good());
    if failed {
        host.failing_since = ledger.failing_since(&host.host)?;
        let good = ledger.latest(&host.host)?;
        host.last_good = good.map(|it| LastGood { revision: it.number, time: it.time });
    }
    if let (Some(Outcome::Built), Some(number), Some(system)) =
        (&host.outcome, host.revision, &host.store_path)
        && let Some(before) = ledger.revision_before(&host.host, number)?
        // One that was collected meanwhile cannot be compared.
        && database.is_valid(&before.store_path)?
    {
        let before = closure(database, &before.store_path)?;
        let changes = Changes::between(Some(&before), &closure(database, system)?);
        host.versions = Some(bounded(changes));
    }
    Ok(())
}

fn closure(database: &Database, system: &StorePath) -> Result<Closure, DatabaseError> {
    let mut closure = Closure::new();
    for path in database.closure(system)? {
        let size = database.path_info(path.hash())?.map_or(0, |info| info.nar_size);
        closure.insert(path, size);
    }
    Ok(closure)
}

fn bounded(mut changes: Changes) -> Versions {
    let packages = &mut changes.packages;
    let all = packages.changed.len() + packages.added.len() + packages.removed.len();
    packages.changed.truncate(MOST_PACKAGES);
    let room = MOST_PACKAGES - packages.changed.len();
    packages.added.truncate(room);
    packages.removed.truncate(room - packages.added.len());
    let left = packages.changed.len() + packages.added.len() + packages.removed.len();
    Versions { changes, omitted: all - left }
}
