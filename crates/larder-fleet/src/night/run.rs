//! One run, from the fetch to the publication.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use larder_formats::store_path::StorePath;
use larder_nix::{
    command::{CancellationToken, CommandError},
    database::{Database, DatabaseError},
    nix::{Nix, NixError},
};

use super::{
    build::{self, BuildError, Limits, Realised, Work},
    evaluate::{self, Evaluated, Hosts, HostsError, Wanted},
    lock::{RunLock, RunLockError},
    progress::{Notice, Observer},
    publish::{Common, Publisher},
    report::{HostReport, Job, Report},
    source::{FlakeSource, FlakeSourceError, WorkTree},
    update::{self, Update, UpdateError},
};
use crate::{
    host::HostName,
    ledger::{LedgerError, Outcome},
};

/// Everything a run needs to know beforehand.
#[derive(Debug)]
pub struct Night {
    /// Nix.
    pub nix: Nix,
    /// Nix's database.
    pub database: Database,
    /// Where Larder's own things lie.
    pub state_dir: PathBuf,
    /// The flake, as configured.
    pub flake: String,
    /// Where that is.
    pub source: FlakeSource,
    /// The hosts to build.
    pub hosts: Wanted,
    /// How much of the machine to take.
    pub limits: Limits,
    /// Publishes what built. Without, nothing is published and nothing noted in the ledger.
    pub publisher: Option<Publisher>,
    /// Reads the time.
    pub clock: fn() -> Timestamp,
}

/// How far to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Update the lock first.
    pub update: bool,
    /// Stop before building.
    pub dry_run: bool,
}

/// A run ended before it could say anything of single hosts, or could not publish.
#[derive(Debug, thiserror::Error)]
pub enum NightError {
    /// Another run is under way.
    #[error(transparent)]
    Lock(#[from] RunLockError),
    /// The flake cannot be had.
    #[error(transparent)]
    Fetch(#[from] FlakeSourceError),
    /// The lock cannot be made.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The hosts cannot be found.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// Nix cannot be run.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Nix's database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A folder could not be made.
    #[error("cannot prepare {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The run was told to stop.
    #[error("the run was cancelled; what was built so far is kept")]
    Cancelled,
}

impl NightError {
    /// Whatever was under way when the run was told to stop then failed, which says nothing.
    pub(super) fn or_cancelled(self, cancel: &CancellationToken) -> Self {
        if cancel.is_cancelled() {
            tracing::debug!(error = %self, "cancelled");
            return Self::Cancelled;
        }
        self
    }
}

/// How many runs' logs are kept, the newest included.
const KEPT_LOGS: usize = 30;

/// The lock that a run holds.
const LOCK: &str = "run.lock";

/// The folder of the roots that hold for the length of a run.
const ROOTS: &str = "run";

/// The roots of derivations among them, by host.
const DERIVATIONS: &str = "run/derivations";

/// The roots of built systems among them, by host.
const SYSTEMS: &str = "run/systems";

impl Night {
    /// Does the run.
    pub async fn run(
        &self,
        options: Options,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Report, NightError> {
        let report = self.run_to_end(options, observer, cancel).await;
        report.map_err(|error| error.or_cancelled(cancel))
    }

    async fn run_to_end(
        &self,
        options: Options,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Report, NightError> {
        let _lock = RunLock::take(&self.state_dir.join(LOCK), (self.clock)())?;
        if let Some(publisher) = &self.publisher
            && let Err(error) = publisher.repair()
        {
            observer.notice(Notice::Message(&error.to_string()));
        }
        let begin = |publisher: &Publisher| publisher.ledger.begin_run((self.clock)(), &self.flake);
        let run = self.publisher.as_ref().map(begin).transpose()?;
        run.into_iter().for_each(|run| observer.notice(Notice::Begun(run)));
        let (tree, update) = self.prepare(options, observer, cancel).await?;
        let Hosts { hosts, left_out } =
            evaluate::hosts(&self.nix, &tree, &self.hosts, cancel).await?;
        observer.notice(Notice::Hosts(&hosts));
        self.fresh_folder(ROOTS)?;
        let roots = self.fresh_folder(DERIVATIONS)?;
        let mut jobs = Vec::with_capacity(hosts.len());
        for host in hosts {
            jobs.push(self.evaluate(&tree, host, &roots, (observer, cancel)).await?);
        }
        let mut report = Report { left_out, ..Report::new(&tree, &update) };
        if options.dry_run {
            report.hosts = jobs.into_iter().map(HostReport::planned).collect();
            return Ok(report);
        }
        let realised = self.realise(&jobs, &mut report, (observer, cancel)).await?;
        for job in &jobs {
            let outcome = self.judge(job, &realised)?;
            observer.notice(Notice::Done(&job.host, &outcome));
            report.hosts.push(HostReport::done(job, outcome));
        }
        if let (Some(publisher), Some(run)) = (&self.publisher, run) {
            let sources = self.sources(&tree, observer, cancel).await;
            if let Err(error) = publisher.keep_sources(&self.nix, &sources, cancel).await {
                observer.notice(Notice::Message(&error.to_string()));
            }
            let now = (self.clock)();
            let (flake, lock) = (self.flake.as_str(), &update.lock);
            let common = Common { run, flake, tree: &tree, lock, sources: &sources, now };
            for (job, host) in jobs.iter().zip(&mut report.hosts) {
                self.publish(publisher, &common, job, (host, cancel)).await?;
                if let Some(Outcome::NotPublished { message }) = &host.outcome {
                    let text = format!("{} was built, but not published: {message}", job.host);
                    observer.notice(Notice::Message(&text));
                }
                if let Some(outcome) = &host.outcome {
                    publisher.ledger.record(run, &job.host, now, outcome)?;
                }
            }
            report.sources = sources;
        }
        Ok(report)
    }

    async fn prepare(
        &self,
        options: Options,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<(WorkTree, Update), NightError> {
        observer.notice(Notice::Fetching { flake: &self.flake });
        let tree = self.source.fetch(&self.state_dir.join("work"), cancel).await?;
        observer.notice(Notice::Fetched { commit: tree.commit.as_deref() });
        observer.notice(Notice::Locking { update: options.update });
        let update = update::lock(&self.nix, &tree, options.update, cancel).await?;
        observer.notice(Notice::Locked { changes: &update.changes });
        Ok((tree, update))
    }

    async fn evaluate(
        &self,
        tree: &WorkTree,
        host: HostName,
        roots: &Path,
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) -> Result<Job, NightError> {
        observer.notice(Notice::Evaluating(&host));
        let link = roots.join(host.as_str());
        let evaluated = match self.evaluate_and_root(tree, &host, &link, cancel).await {
            Ok(evaluated) => evaluated,
            Err(_) if cancel.is_cancelled() => return Err(NightError::Cancelled),
            Err(error) => {
                let message = evaluate::reason(&error);
                observer.notice(Notice::EvaluationFailed(&host, &message));
                let state = Err(Outcome::EvaluationFailed { message });
                return Ok(Job { host, plan: None, state });
            }
        };
        let plan = match build::plan(&self.nix, &evaluated.derivation, cancel).await {
            Ok(plan) => {
                observer.notice(Notice::Evaluated(&host, &plan));
                Some(plan)
            }
            Err(_) if cancel.is_cancelled() => return Err(NightError::Cancelled),
            Err(error) => {
                // Only people miss it: what is done does not depend on it.
                observer.notice(Notice::Message(&format!("{host}: no plan: {error}")));
                None
            }
        };
        Ok(Job { host, plan, state: Ok(evaluated) })
    }

    async fn evaluate_and_root(
        &self,
        tree: &WorkTree,
        host: &HostName,
        link: &Path,
        cancel: &CancellationToken,
    ) -> Result<Evaluated, NixError> {
        let evaluated = evaluate::host(&self.nix, tree, host, cancel).await?;
        evaluate::root(&self.nix, &evaluated.derivation, link, cancel).await?;
        Ok(evaluated)
    }

    async fn realise(
        &self,
        jobs: &[Job],
        report: &mut Report,
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) -> Result<Realised, NightError> {
        let evaluated: Vec<Evaluated> =
            jobs.iter().filter_map(|job| job.state.as_ref().ok().cloned()).collect();
        let log = self.new_log()?;
        let roots = self.state_dir.join(ROOTS);
        let work = Work { limits: self.limits, roots: &roots, log: &log, observer, cancel };
        match build::realise(&self.nix, &self.database, &evaluated, work).await {
            Ok(realised) => {
                self.hold(&evaluated, observer, cancel).await?;
                report.built = realised.built;
                report.fetched = realised.fetched;
                report.log = Some(log).filter(|log| log.exists());
                Ok(realised)
            }
            Err(BuildError::Command(CommandError::Cancelled { .. })) => Err(NightError::Cancelled),
            Err(error) => Err(error.into()),
        }
    }

    /// Roots what was built until it is published. (Nix makes the roots it is asked for only where
    /// everything builds.)
    async fn hold(
        &self,
        hosts: &[Evaluated],
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<(), NightError> {
        let systems = self.fresh_folder(SYSTEMS)?;
        for host in hosts {
            let link = systems.join(host.host.as_str());
            if self.database.is_valid(&host.output)?
                && let Err(error) = self.nix.add_root(&host.output, &link, cancel).await
            {
                // Its publication makes a root of its own, or fails and is told.
                observer.notice(Notice::Message(&error.to_string()));
            }
        }
        Ok(())
    }

    /// A host has built when its output is valid, and nothing else tells.
    fn judge(&self, job: &Job, realised: &Realised) -> Result<Outcome, NightError> {
        let evaluated = match &job.state {
            Err(outcome) => return Ok(outcome.clone()),
            Ok(evaluated) => evaluated,
        };
        if !self.database.is_valid(&evaluated.output)? {
            let failures = build::failures_of(&self.database, evaluated, realised)?;
            return Ok(Outcome::BuildFailed { failures, message: realised.errors.join("\n") });
        }
        let before = match &self.publisher {
            Some(publisher) => publisher.ledger.latest(&job.host)?,
            None => None,
        };
        let same = before.is_some_and(|before| before.store_path == evaluated.output);
        Ok(if same { Outcome::Unchanged } else { Outcome::Built })
    }

    /// Publishes a host if it built. One that cannot be published does not keep others from it.
    async fn publish(
        &self,
        publisher: &Publisher,
        common: &Common<'_>,
        job: &Job,
        (host, cancel): (&mut HostReport, &CancellationToken),
    ) -> Result<(), NightError> {
        let Ok(evaluated) = &job.state else { return Ok(()) };
        if !self.database.is_valid(&evaluated.output)? {
            return Ok(());
        }
        match publisher.publish((&self.nix, &self.database), common, evaluated, cancel).await {
            Ok(revision) => host.revision = Some(revision.number),
            Err(_) if cancel.is_cancelled() => return Err(NightError::Cancelled),
            Err(error) => {
                host.outcome = Some(Outcome::NotPublished { message: error.to_string() });
            }
        }
        Ok(())
    }

    /// The store paths of the locked inputs' sources. Without them the systems are published all the
    /// same; clients then need the forge to evaluate.
    async fn sources(
        &self,
        tree: &WorkTree,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Vec<StorePath> {
        match evaluate::input_sources(&self.nix, tree, cancel).await {
            Ok(sources) => sources,
            Err(error) => {
                let message = format!("the inputs' sources could not be kept: {error}");
                observer.notice(Notice::Message(&message));
                Vec::new()
            }
        }
    }

    /// A new file for the log of a build, beside those of the runs before.
    fn new_log(&self) -> Result<PathBuf, NightError> {
        let folder = self.state_dir.join("log");
        let io = |source| NightError::Io { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(io)?;
        let logs = std::fs::read_dir(&folder).map_err(io)?.filter_map(Result::ok);
        let mut logs: Vec<PathBuf> = logs.map(|entry| entry.path()).collect();
        logs.sort();
        for old in logs.iter().take((logs.len() + 1).saturating_sub(KEPT_LOGS)) {
            std::fs::remove_file(old).map_err(io)?;
        }
        Ok(folder.join(format!("{}.log", (self.clock)().strftime("%Y-%m-%dT%H%M%S%.3fZ"))))
    }

    /// An empty folder of the state folder, whatever an earlier run left in it.
    fn fresh_folder(&self, name: &str) -> Result<PathBuf, NightError> {
        let path = self.state_dir.join(name);
        let io = |source| NightError::Io { path: path.clone(), source };
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => std::fs::create_dir_all(&path).map_err(io)?,
        }
        Ok(path)
    }
}

/// The ledger's place in the state folder.
pub fn ledger_file(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.sqlite")
}
