//! All hosts with one lock: evaluated, realised, judged. A run makes one attempt, and more where an update breaks a host.

use std::path::{Path, PathBuf};

use larder_formats::lock_file::LockFile;
use larder_nix::command::{CancellationToken, CommandError};

use super::{
    build::{self, BuildError, Realised, Retry, Work},
    evaluate::{self, Evaluated, EvaluationError},
    guard::{Exceeded, Guard},
    progress::{Notice, Observer},
    remote,
    report::Job,
    setup::{Night, NightError},
    source::WorkTree,
    update,
};
use crate::{build_plan::BuildPlan, builders::Roster, host::HostName, ledger::Outcome};

/// What came of all hosts with one lock.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The lock.
    pub lock: LockFile,
    /// Each host, and how it ended.
    pub hosts: Vec<(Job, Outcome)>,
}

/// Whoever watches a run, and says when it is to stop.
pub(super) struct Live<'a> {
    pub observer: &'a mut dyn Observer,
    pub cancel: &'a CancellationToken,
}

/// Makes attempts, and counts what they take.
pub(super) struct Attempts<'a> {
    pub night: &'a Night,
    pub tree: &'a WorkTree,
    pub live: Live<'a>,
    /// What holds all of them to the machine's bounds.
    pub guard: &'a Guard,
    /// Where the logs of all builds go.
    pub log: PathBuf,
    /// The folder of the roots that hold for the length of the run.
    pub roots: PathBuf,
    /// Locks evaluated so far.
    pub locks: u32,
    /// Derivations built so far.
    pub built: usize,
    /// Paths downloaded so far.
    pub fetched: usize,
    /// What was tried again so far.
    pub retries: Vec<Retry>,
    /// Why the run is not to go on, if it is not.
    pub stopped: Option<String>,
    /// Who builds besides, once something is to be built.
    pub roster: Option<Roster<'a>>,
}

/// The folder of the roots that hold for the length of a run.
const ROOTS: &str = "run";

impl<'a> Attempts<'a> {
    pub(super) fn new(
        (night, tree): (&'a Night, &'a WorkTree),
        guard: &'a Guard,
        live: Live<'a>,
    ) -> Result<Self, NightError> {
        Ok(Self {
            night,
            tree,
            live,
            guard,
            log: night.new_log()?,
            roots: night.fresh_folder(ROOTS)?,
            locks: 0,
            built: 0,
            fetched: 0,
            retries: Vec::new(),
            stopped: None,
            roster: None,
        })
    }

    /// Evaluates hosts with the lock that the work tree has, a host at a time. What was evaluated is rooted for the
    /// length of the run.
    pub(super) async fn evaluate(&mut self, hosts: &[HostName]) -> Result<Vec<Job>, NightError> {
        self.locks += 1;
        let roots = self.roots.join(format!("derivations-{}", self.locks));
        make(&roots)?;
        let mut jobs = Vec::with_capacity(hosts.len());
        for host in hosts {
            jobs.push(self.evaluate_one(host.clone(), &roots).await?);
        }
        Ok(jobs)
    }

    /// Evaluates hosts with this lock, which the work tree has from now on.
    pub(super) async fn evaluate_with(
        &mut self,
        lock: &LockFile,
        hosts: &[HostName],
    ) -> Result<(LockFile, Vec<Job>), NightError> {
        let lock = update::set((&self.night.nix, self.tree), lock, self.live.cancel).await?;
        Ok((lock, self.evaluate(hosts).await?))
    }

    /// The same, in a search: a lock that Nix cannot take, or not at the moment, ends no run, and this says why.
    pub(super) async fn try_with(
        &mut self,
        lock: &LockFile,
        hosts: &[HostName],
    ) -> Result<Result<(LockFile, Vec<Job>), String>, NightError> {
        match self.evaluate_with(lock, hosts).await {
            Err(NightError::Update(error)) if !self.live.cancel.is_cancelled() => {
                Ok(Err(error.to_string()))
            }
            evaluated => evaluated.map(Ok),
        }
    }

    async fn evaluate_one(&mut self, host: HostName, roots: &Path) -> Result<Job, NightError> {
        let Live { observer, cancel } = &mut self.live;
        observer.notice(Notice::Evaluating(&host));
        let nix = &self.night.nix;
        let evaluated = async {
            let within = (&host, Some(self.guard));
            let evaluated = evaluate::host(nix, self.tree, within, cancel).await?;
            let link = roots.join(host.as_str());
            evaluate::root(nix, &evaluated.derivation, &link, cancel).await?;
            Ok::<_, EvaluationError>(evaluated)
        };
        let mut evaluated = match evaluated.await {
            Ok(evaluated) => evaluated,
            Err(_) if cancel.is_cancelled() => return Err(NightError::Cancelled),
            Err(EvaluationError::Bounds(Exceeded::Time(message))) => {
                self.stopped = Some(message.clone());
                let state = Err(Outcome::Unfinished { message });
                return Ok(Job { host, state });
            }
            Err(error) => {
                let message = evaluate::reason(&error);
                observer.notice(Notice::EvaluationFailed(&host, &message));
                let state = Err(Outcome::EvaluationFailed { message });
                return Ok(Job { host, state });
            }
        };
        match BuildPlan::of(nix, &evaluated.derivation, cancel).await {
            Ok(plan) => {
                observer.notice(Notice::Evaluated(&host, &plan));
                evaluated.plan = Some(plan);
            }
            Err(_) if cancel.is_cancelled() => return Err(NightError::Cancelled),
            Err(error) => {
                // People miss it; of what is done, only the order of what is big depends on it.
                observer.notice(Notice::Message(&format!("{host}: no plan: {error}")));
            }
        }
        Ok(Job { host, state: Ok(evaluated) })
    }

    /// Realises what was evaluated with this lock, and judges it.
    pub(super) async fn build(
        &mut self,
        lock: LockFile,
        jobs: Vec<Job>,
    ) -> Result<Attempt, NightError> {
        let evaluated: Vec<Evaluated> =
            jobs.iter().filter_map(|job| job.state.as_ref().ok().cloned()).collect();
        let mut missing = Vec::new();
        for host in evaluated {
            // What is there is safe from a collection in the middle of the run before it is counted on.
            self.hold(&host).await?;
            if !self.night.database.is_valid(&host.output)? {
                missing.push(host);
            }
        }
        let realised = self.realise(&missing).await?;
        for host in &missing {
            self.hold(host).await?;
        }
        self.built += realised.built;
        self.fetched += realised.fetched;
        self.retries.extend(realised.retries.iter().cloned());
        self.stopped = realised.stopped.clone().or(self.stopped.take());
        let judged = |job| {
            let outcome = self.night.judge(&job, &realised)?;
            Ok((job, outcome))
        };
        let hosts = jobs.into_iter().map(judged).collect::<Result<_, NightError>>()?;
        Ok(Attempt { lock, hosts })
    }

    /// Realises what is not there. (Of what is, not even the derivations are looked through: they are tens of thousands.)
    async fn realise(&mut self, missing: &[Evaluated]) -> Result<Realised, NightError> {
        if missing.is_empty() {
            return Ok(Realised::default());
        }
        let results = self.roots.join(format!("results-{}", self.locks));
        make(&results)?;
        let Live { observer, cancel } = &mut self.live;
        let night = self.night;
        let (limits, roots, log) = (night.limits, &*results, &*self.log);
        let observer = &mut **observer;
        let guard = self.guard;
        if let (None, Some(builders)) = (&self.roster, &night.builders) {
            let begun = Roster::begin(builders, &night.nix, observer, cancel).await;
            self.roster = Some(begun.map_err(BuildError::Nix)?);
        }
        let work = Work { limits, guard, roots, log, settings: &[], observer, cancel };
        let nix = (&night.nix, &night.database);
        match remote::realise(nix, self.roster.as_mut(), missing, work).await {
            Err(BuildError::Command(CommandError::Cancelled { .. })) => Err(NightError::Cancelled),
            realised => Ok(realised?),
        }
    }

    /// Roots a system that is there until it is published. (Nix makes the roots it is asked for only where everything
    /// builds.)
    async fn hold(&mut self, host: &Evaluated) -> Result<(), NightError> {
        if !self.night.database.is_valid(&host.output)? {
            return Ok(());
        }
        let systems = self.roots.join(format!("systems-{}", self.locks));
        make(&systems)?;
        let Live { observer, cancel } = &mut self.live;
        let link = systems.join(host.host.as_str());
        if let Err(error) = self.night.nix.add_root(&host.output, &link, cancel).await {
            // Its publication makes a root of its own, or fails and is told.
            observer.notice(Notice::Message(&error.to_string()));
        }
        Ok(())
    }
}

impl Night {
    /// A host has built when its output is valid, and nothing else tells.
    fn judge(&self, job: &Job, realised: &Realised) -> Result<Outcome, NightError> {
        let evaluated = match &job.state {
            Err(outcome) => return Ok(outcome.clone()),
            Ok(evaluated) => evaluated,
        };
        if !self.database.is_valid(&evaluated.output)? {
            if let Some(message) = realised.unfinished.get(&job.host) {
                return Ok(Outcome::Unfinished { message: message.clone() });
            }
            let failures = build::failures_of(&self.database, evaluated, realised)?;
            let kind = realised.kind_for(&failures);
            let message = realised.errors.join("\n");
            return Ok(Outcome::BuildFailed { failures, message, kind });
        }
        let before = match &self.publisher {
            Some(publisher) => publisher.ledger.latest(&job.host)?,
            None => None,
        };
        let same = before.is_some_and(|before| before.store_path == evaluated.output);
        Ok(if same { Outcome::Unchanged } else { Outcome::Built })
    }
}

fn make(folder: &Path) -> Result<(), NightError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| NightError::Io { path: folder.to_owned(), source })
}
