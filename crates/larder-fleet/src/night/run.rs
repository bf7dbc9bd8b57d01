//! One run, from the fetch to the publication.

use std::{cmp::Reverse, collections::BTreeMap, path::PathBuf};

use larder_formats::{
    lock_file::{self, InputChange},
    store_path::StorePath,
};
use larder_nix::command::CancellationToken;

use super::{
    attempt::{Attempt, Attempts, Live},
    evaluate::{self, Hosts},
    guard::Guard,
    hold::{self, Settled},
    home::{self, Sent, WentHome},
    progress::{Notice, Observer},
    publish::{Common, Publisher},
    report::{Change, End, HostReport, Job, LockReport, Report},
    setup::{Night, NightError, Options, lock_file},
    source::WorkTree,
    update::{self, Locks, UpdateError},
};
use crate::{
    host::HostName,
    ledger::{Held, Outcome, PublishedLock},
    lock::Lock,
};

/// How many runs' logs are kept, the newest included.
const KEPT_LOGS: usize = 30;

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
        let _lock = Lock::take(&lock_file(&self.state_dir), (self.clock)())?;
        if let Some(publisher) = &self.publisher
            && let Err(error) = publisher.repair()
        {
            observer.notice(Notice::Message(&error.to_string()));
        }
        let begin = |publisher: &Publisher| publisher.ledger.begin_run((self.clock)(), &self.flake);
        let run = self.publisher.as_ref().map(begin).transpose()?;
        run.into_iter().for_each(|run| observer.notice(Notice::Begun(run)));
        let guard = self.guard(observer, cancel).await?;
        let (tree, mut locks) = self.prepare(options, observer, cancel).await?;
        let Hosts { hosts, left_out, others } =
            evaluate::hosts(&self.nix, &tree, &self.hosts, cancel).await?;
        observer.notice(Notice::Hosts(&hosts));
        let held = match options.update {
            true => self.hold_for(&others, (&tree, &mut locks), (observer, cancel)).await?,
            false => Vec::new(),
        };
        let mut report = Report { left_out, ..Report::empty(&tree) };
        let mut attempts = Attempts::new((self, &tree), &guard, Live { observer, cancel })?;
        let jobs = attempts.evaluate(&hosts).await?;
        if options.dry_run {
            let changes = lock_file::changes(&locks.start, &locks.new);
            report.changes = changes.iter().map(Change::of).collect();
            report.hosts = jobs.into_iter().map(HostReport::planned).collect();
            return Ok(report);
        }
        let first = attempts.build(locks.new.clone(), jobs).await?;
        let mut settled = match options.update {
            true => hold::settle(&mut attempts, &locks, first).await?,
            false => Settled { held: self.still_held(&first)?, attempt: first, undecided: None },
        };
        let is_new = |it: &Held| settled.held.iter().all(|other| other.input != it.input);
        let held: Vec<Held> = held.into_iter().filter(is_new).collect();
        settled.held.extend(held);
        report.built = attempts.built;
        report.fetched = attempts.fetched;
        report.retries = attempts.retries;
        report.peaks = guard.peaks();
        report.peaks.sort_by_key(|peak| Reverse(peak.bytes));
        if let Some(reason) = attempts.stopped {
            report.end = End::Stopped { reason };
        }
        report.log = Some(attempts.log).filter(|log| log.exists());
        let ended = Ended { tree: &tree, locks: &locks, settled: &settled };
        self.conclude(run, &ended, &mut report, (observer, cancel)).await?;
        report.held = settled.held;
        Ok(report)
    }

    async fn prepare(
        &self,
        options: Options,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<(WorkTree, Locks), NightError> {
        observer.notice(Notice::Fetching { flake: &self.flake });
        let tree = self.source.fetch(&self.state_dir.join("work"), cancel).await?;
        observer.notice(Notice::Fetched { commit: tree.commit.as_deref() });
        observer.notice(Notice::Locking { update: options.update });
        let published = self.published_lock()?;
        let lock = update::lock((&self.nix, &tree), published, options.update, cancel);
        let locks = lock.await?;
        if let update::Origin::Published { run } = locks.origin {
            let text = format!(
                "starting from the lock that run {run} published: the repository still has the one \
                 which that was made from"
            );
            observer.notice(Notice::Message(&text));
        }
        let changes = lock_file::changes(&locks.start, &locks.new);
        observer.notice(Notice::Locked { changes: &changes });
        Ok((tree, locks))
    }

    /// Leaves inputs where they are that are held for hosts which take no part.
    async fn hold_for(
        &self,
        others: &[HostName],
        (tree, locks): (&WorkTree, &mut Locks),
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) -> Result<Vec<Held>, NightError> {
        let held = self.held_for(others, &locks.start)?;
        if !held.is_empty() {
            let inputs = held.iter().map(|held| held.input.clone()).collect();
            let new = locks.new.holding(&locks.start, &inputs).map_err(UpdateError::from)?;
            locks.new = update::set((&self.nix, tree), &new, cancel).await?;
            for Held { input, .. } in &held {
                let text =
                    format!("{input} stays: it is held for a host that takes no part in this run");
                observer.notice(Notice::Message(&text));
            }
        }
        Ok(held)
    }

    /// Watches over the run, with what is remembered of those before.
    async fn guard(
        &self,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Guard, NightError> {
        let remembered = match &self.publisher {
            Some(publisher) => publisher.ledger.peaks()?,
            None => BTreeMap::new(),
        };
        Ok(Guard::begin(&self.nix, &self.bounds, remembered, (observer, cancel)).await)
    }

    /// Reports what the run came to, and publishes it.
    async fn conclude(
        &self,
        run: Option<i64>,
        ended: &Ended<'_>,
        report: &mut Report,
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) -> Result<(), NightError> {
        let Settled { attempt, undecided, .. } = ended.settled;
        for (job, outcome) in &attempt.hosts {
            observer.notice(Notice::Done(&job.host, outcome));
            report.hosts.push(HostReport::done(job, outcome.clone()));
        }
        let before = self.published_lock()?;
        let older = older(before.as_ref(), attempt, observer)?;
        let changes = lock_file::changes(&ended.locks.start, &attempt.lock);
        report.changes = changes.iter().map(Change::of).collect();
        let mut lock = LockReport {
            start: ended.locks.origin,
            older: older.iter().map(Change::of).collect(),
            undecided: undecided.clone(),
            home: None,
        };
        if let (Some(publisher), Some(run)) = (&self.publisher, run) {
            self.publish_all((publisher, run), ended, report, (observer, cancel)).await?;
            lock.home = self.send_home((publisher, run), ended, before.as_ref(), cancel).await?;
        }
        report.lock = Some(lock);
        Ok(())
    }

    async fn publish_all(
        &self,
        (publisher, run): (&Publisher, i64),
        ended: &Ended<'_>,
        report: &mut Report,
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) -> Result<(), NightError> {
        let Ended { tree, locks, settled } = ended;
        let Settled { attempt, held, .. } = settled;
        // The tree may have been left with another that was tried.
        update::write(tree, &attempt.lock, cancel).await?;
        publisher.ledger.record_peaks(run, &report.peaks)?;
        let sources = self.sources(tree, observer, cancel).await;
        if let Err(error) = publisher.keep_sources(&self.nix, &sources, cancel).await {
            observer.notice(Notice::Message(&error.to_string()));
        }
        let now = (self.clock)();
        let (flake, lock) = (self.flake.as_str(), &attempt.lock);
        if attempt.hosts.iter().any(|(_, outcome)| outcome.is_good()) {
            // Before any host is: after a crash in between, the next run must not take the lock back.
            let (lock, base) = (lock.text().to_owned(), locks.repository.text().to_owned());
            publisher.ledger.publish_lock(&PublishedLock {
                run,
                lock,
                base,
                held: held.clone(),
            })?;
        }
        let common = Common { run, flake, tree, lock, sources: &sources, now };
        for ((job, _), host) in attempt.hosts.iter().zip(&mut report.hosts) {
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
        self.renew_leases(attempt, observer);
        Ok(())
    }

    /// Sends the lock to its repository, where that is wanted and every host has built that must.
    async fn send_home(
        &self,
        (publisher, run): (&Publisher, i64),
        ended: &Ended<'_>,
        before: Option<&PublishedLock>,
        cancel: &CancellationToken,
    ) -> Result<Option<WentHome>, NightError> {
        let Ended { tree, locks, settled: Settled { attempt, held, .. } } = ended;
        let Some(home) = &self.home else { return Ok(None) };
        if attempt.lock.text() == locks.repository.text() {
            return Ok(None);
        }
        if let Some(reason) = self.keeps_from_home(attempt) {
            return Ok(Some(WentHome::NotPushed { branch: home.branch.clone(), reason }));
        }
        let changes = lock_file::changes(&locks.repository, &attempt.lock);
        let message = home::message(&changes, held);
        let (lock, repository) = (&attempt.lock, &locks.repository);
        let now = (self.clock)();
        let sent = Sent { tree, lock, repository, before, message: &message, run, now };
        // All is published by now: that somebody has no patience with the push ends nothing else.
        Ok(Some(home::send(home, &sent, &publisher.ledger, cancel).await))
    }

    /// Why a lock is not to go home, if it is not.
    fn keeps_from_home(&self, attempt: &Attempt) -> Option<String> {
        let good = attempt.good();
        let mut required = attempt.hosts.iter().map(|(job, _)| &job.host);
        if let Some(host) = required.find(|host| self.is_required(host) && !good.contains(host)) {
            return Some(format!("{host} has to build, and did not"));
        }
        let took_part = match &self.required {
            Some(required) => required.iter().all(|host| good.contains(host)),
            None => self.hosts.is_everybody(),
        };
        (!took_part).then(|| "not every host that has to build took part in this run".to_owned())
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

    /// What is not kept is built by clients; the systems are published all the same.
    fn renew_leases(&self, attempt: &Attempt, observer: &mut dyn Observer) {
        let jobs = attempt.hosts.iter().map(|(job, _)| job);
        let renewed = self.leases.as_ref().map(|it| it.renew(&self.database, jobs, (self.clock)()));
        if let Some(Err(error)) = renewed {
            let message = format!("what edits are built with is not kept: {error}");
            observer.notice(Notice::Message(&message));
        }
    }

    /// A new file for the log of a build, beside those of the runs before.
    pub(super) fn new_log(&self) -> Result<PathBuf, NightError> {
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
    pub(super) fn fresh_folder(&self, name: &str) -> Result<PathBuf, NightError> {
        let path = self.state_dir.join(name);
        let io = |source| NightError::Io { path: path.clone(), source };
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => std::fs::create_dir_all(&path).map_err(io)?,
        }
        Ok(path)
    }
}

/// What a run came to, before it is published.
struct Ended<'a> {
    tree: &'a WorkTree,
    locks: &'a Locks,
    settled: &'a Settled,
}

/// The inputs that are older than what was published before, which is told.
fn older(
    before: Option<&PublishedLock>,
    attempt: &Attempt,
    observer: &mut dyn Observer,
) -> Result<Vec<InputChange>, NightError> {
    let Some(before) = before else { return Ok(Vec::new()) };
    let before = lock_file::LockFile::parse(&before.lock).map_err(UpdateError::from)?;
    let mut older = lock_file::changes(&before, &attempt.lock);
    older.retain(|change| {
        let time = |input: &Option<lock_file::LockedInput>| input.as_ref()?.last_modified;
        time(&change.from).zip(time(&change.to)).is_some_and(|(from, to)| to < from)
    });
    for change in &older {
        let text = format!("{} is older than what was published before", change.name);
        observer.notice(Notice::Message(&text));
    }
    Ok(older)
}
