//! Realising all hosts: Nix is run, what became of it is judged, and what may come to be with less at once, or with
//! another try, is tried again.

mod realisation;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::Arc,
};

use larder_cache::words::size;
use larder_formats::{package_name::PackageName, store_path::StorePath};
use larder_nix::{
    command::{CancellationToken, CommandError, Output},
    database::{Database, DatabaseError},
    derivations,
    nix::Nix,
};

use realisation::{command, is_verdict};

use super::{
    BuildError, Limits,
    big::{self, Wanted},
    realised::{Realised, Retry},
    rounds::{Ended, First, Host, Round, Rounds, Step, Stop, What},
    tracker::Tracker,
    verdict::{self, Evidence},
    watch::{HostTimes, Listener, Seen, Watch},
};
use crate::{
    ledger::{FailureKind, Measured},
    night::{
        evaluate::Evaluated,
        guard::{Guard, for_people},
        progress::{Notice, Observer},
    },
};

/// Below this, what a build took says nothing that a plan could use.
const WORTH_NOTING: u64 = 64 << 20;

/// How to realise.
pub(crate) struct Work<'a> {
    pub limits: Limits,
    pub guard: &'a Guard,
    pub roots: &'a Path,
    pub log: &'a Path,
    /// Settings of Nix, by name, that hold for this alone.
    pub settings: &'a [(String, String)],
    pub observer: &'a mut dyn Observer,
    pub cancel: &'a CancellationToken,
}

/// Realises all these hosts, going on past failures.
pub(crate) async fn realise<'a>(
    nix: &'a Nix,
    database: &'a Database,
    hosts: &'a [Evaluated],
    work: Work<'a>,
) -> Result<Realised, BuildError> {
    if hosts.is_empty() {
        return Ok(Realised::default());
    }
    let closures = hosts.iter().map(|host| database.closure(&host.derivation));
    let spent = hosts.iter().enumerate().map(|(place, it)| (place, work.guard.spent(&it.host)));
    let mut drive = Drive {
        nix,
        database,
        hosts,
        closures: closures.collect::<Result<_, _>>()?,
        times: HostTimes {
            limit: work.guard.bounds().host_time_limit,
            own: BTreeMap::new(),
            spent: spent.collect(),
        },
        rounds: Rounds::new(work.limits, hosts.len(), VecDeque::new()),
        realised: Realised::default(),
        work,
    };
    let first = drive.first()?;
    drive.rounds = Rounds::new(drive.work.limits, hosts.len(), first);
    drive.leave_out_the_late()?;
    drive.run().await?;
    Ok(drive.realised)
}

struct Drive<'a> {
    nix: &'a Nix,
    database: &'a Database,
    hosts: &'a [Evaluated],
    /// What each host's derivation reaches.
    closures: Vec<BTreeSet<StorePath>>,
    times: HostTimes,
    rounds: Rounds,
    realised: Realised,
    work: Work<'a>,
}

/// What a run of Nix left, beside what it realised.
struct Left {
    realised: Realised,
    said: BTreeMap<StorePath, String>,
    /// What was built or downloaded, to be kept until the end.
    outputs: BTreeSet<StorePath>,
    seen: Seen,
    remote: BTreeSet<StorePath>,
    kills: Option<u64>,
    nix_was_killed: bool,
    /// Nix said that it tried all that it could.
    came_to_its_end: bool,
    stop: Option<Stop>,
}

impl Drive<'_> {
    /// What goes before everything: hosts that are to be built first, and what is too big to have company. Of that, what
    /// they need goes before these hosts, and the rest after them.
    fn first(&self) -> Result<VecDeque<First>, DatabaseError> {
        let guard = self.work.guard;
        let first = &guard.bounds().first;
        let is_first = |host: &Host| {
            self.hosts.get(*host).is_some_and(|evaluated| first.contains(&evaluated.host))
        };
        let hosts: BTreeSet<Host> = (0..self.hosts.len()).filter(is_first).collect();
        let (mut before, mut after) = (VecDeque::new(), VecDeque::new());
        let wanted = Wanted { nix: self.nix, database: self.database, hosts: self.hosts };
        for big in big::rounds(&wanted, guard, self.work.limits)? {
            let needed_by = self.needing(&big.of);
            let to = if needed_by.is_disjoint(&hosts) { &mut after } else { &mut before };
            let rounds = big.rounds.into_iter();
            to.extend(rounds.map(|round| First { round, hosts: needed_by.clone() }));
        }
        if !hosts.is_empty() && hosts.len() < self.hosts.len() {
            let (what, limits) = (What::Hosts(hosts.clone()), self.work.limits);
            before.push_back(First { round: Round { what, limits, ..Round::default() }, hosts });
        }
        before.extend(after);
        Ok(before)
    }

    /// The hosts that need a derivation.
    fn needing(&self, path: &StorePath) -> BTreeSet<Host> {
        let reaches = |host: &Host| self.closures.get(*host).is_some_and(|all| all.contains(path));
        (0..self.hosts.len()).filter(reaches).collect()
    }

    /// Leaves out the hosts whose time was used up earlier in the run.
    fn leave_out_the_late(&mut self) -> Result<(), DatabaseError> {
        for (place, host) in self.hosts.iter().enumerate() {
            if self.times.is_over(place) && !self.database.is_valid(&host.output)? {
                self.rounds.leave_out(place);
                self.note_stop(&Stop::Host(place));
            }
        }
        Ok(())
    }

    async fn run(&mut self) -> Result<(), BuildError> {
        loop {
            match self.rounds.next() {
                Step::Done => break,
                Step::Collect => self.collect().await?,
                Step::Realise(round) => {
                    self.tell(&round);
                    self.pause(&round).await?;
                    let left = self.once(&round).await?;
                    self.take(&round, left).await?;
                }
            }
        }
        self.finish()
    }

    /// Says what is tried again, and how.
    fn tell(&mut self, round: &Round) {
        if round.again.is_empty() {
            return;
        }
        let names: Vec<&str> = round.again.keys().map(|path| PackageName::of(path).name).collect();
        let why = match round.again.values().next() {
            Some(FailureKind::Memory { inferred: false }) => "died of memory",
            Some(FailureKind::Memory { inferred: true }) => "seems to have died of memory",
            _ => "failed of the network or the disk",
        };
        let Limits { max_jobs, cores } = round.limits;
        let cores = if cores == 0 { "all".to_owned() } else { cores.to_string() };
        let how = match &round.what {
            What::Only(these) if these.len() == 1 && max_jobs <= 1 => "alone".to_owned(),
            _ if max_jobs == 0 => "on other machines".to_owned(),
            _ => format!("with {max_jobs} job(s), {cores} core(s)"),
        };
        let text = format!("{}: {why}; trying again {how}", names.join(", "));
        self.work.observer.notice(Notice::Message(&text));
    }

    async fn pause(&self, round: &Round) -> Result<(), BuildError> {
        let cancel = self.work.cancel;
        let end = tokio::time::Instant::now() + round.pause;
        let end = self.work.guard.deadline().map_or(end, |deadline| deadline.min(end));
        tokio::select! {
            () = tokio::time::sleep_until(end) => Ok(()),
            () = cancel.cancelled() => {
                Err(CommandError::Cancelled { program: "nix-store".to_owned() }.into())
            }
        }
    }

    /// Runs Nix once, and watches over it.
    async fn once(&mut self, round: &Round) -> Result<Left, BuildError> {
        self.own_parts();
        let guard = self.work.guard;
        let kills = guard.kills();
        let real_dir = self.nix.layout().real_dir.clone();
        let mut watch = Watch::new(guard, real_dir, &mut self.times);
        let command = command(self.nix, self.hosts, &self.work, round);
        let command = guard.within(command).tell_start(Arc::clone(&watch.started));
        let mut listener = Listener {
            inner: &mut *self.work.observer,
            database: self.database,
            now: Arc::clone(&watch.now),
        };
        let mut tracker = Tracker::new(self.nix.layout().store_dir.clone(), &mut listener);
        let stopped = self.work.cancel.child_token();
        let (ended, stop) = {
            let running = command.run(&stopped, |line| tracker.line(line));
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => (ended, None),
                stop = watch.until_stop() => {
                    // Nix keeps what is finished.
                    stopped.cancel();
                    (running.await, Some(stop))
                }
            }
        };
        let was_told_to = stop.is_some() && !self.work.cancel.is_cancelled();
        let ended: Option<Output> = match ended {
            Err(CommandError::Cancelled { .. }) if was_told_to => None,
            ended => Some(ended?),
        };
        watch.read_log();
        for (host, spent) in &watch.times.spent {
            if let Some(evaluated) = self.hosts.get(*host) {
                guard.set_spent(&evaluated.host, *spent);
            }
        }
        let said = tracker.said();
        let outputs = outputs(self.database, &tracker)?;
        let realised = tracker.finish(self.database)?;
        let status = ended.map(|output| output.finished.status);
        let rose = kills.and_then(|before| Some(guard.kills()?.saturating_sub(before)));
        Ok(Left {
            realised,
            said,
            outputs,
            remote: watch.remote(),
            seen: watch.seen,
            kills: rose,
            nix_was_killed: status.is_some_and(|status| status.signal() == Some(9)),
            came_to_its_end: status.and_then(|status| status.code()).is_some_and(is_verdict),
            stop,
        })
    }

    /// What only one of the hosts needs that are still to be realised.
    fn own_parts(&mut self) {
        if self.times.limit.is_none() {
            return;
        }
        let mut needed_by: BTreeMap<&StorePath, usize> = BTreeMap::new();
        let open = || {
            self.rounds.open().iter().filter_map(|host| Some((*host, self.closures.get(*host)?)))
        };
        for (_, closure) in open() {
            closure.iter().for_each(|path| *needed_by.entry(path).or_default() += 1);
        }
        let is_own = |path: &&StorePath| needed_by.get(path) == Some(&1);
        let own = |closure: &BTreeSet<StorePath>| closure.iter().filter(is_own).cloned().collect();
        self.times.own = open().map(|(host, closure)| (host, own(closure))).collect();
    }

    /// Judges a run of Nix, and adds it to what there is.
    async fn take(&mut self, round: &Round, left: Left) -> Result<(), BuildError> {
        let mut ended = Ended {
            lacks_downloads: !left.realised.unfetched.is_empty(),
            nix_was_killed: left.nix_was_killed,
            stop: left.stop.clone(),
            remote: left.remote.clone(),
            ..Ended::default()
        };
        let kinds = self.kinds(&left);
        for (path, kind) in &kinds {
            // Whoever chooses the builders tries another one first; a download fails of what it is from, wherever.
            let elsewhere = !self.work.settings.is_empty() && left.remote.contains(path);
            let kind = match kind {
                FailureKind::Transient if elsewhere && !self.is_download(path) => {
                    &FailureKind::Itself
                }
                kind => kind,
            };
            ended.failed.insert(path.clone(), (*kind, self.needing(path)));
        }
        for (host, evaluated) in self.hosts.iter().enumerate() {
            if self.database.is_valid(&evaluated.output)? {
                ended.hosts.insert(host);
            }
        }
        let again = round.again.keys().cloned().collect();
        let of = if let What::Only(these) = &round.what { these } else { &again };
        for path in of {
            if self.database.is_built(path)?.unwrap_or_else(|| !kinds.contains_key(path)) {
                ended.derivations.insert(path.clone());
            }
        }
        self.note_peaks(&left, &kinds);
        self.note_retries(round, &ended);
        if let Some(stop) = &left.stop {
            self.note_stop(stop);
        }
        if left.nix_was_killed {
            let text = "Nix itself was killed, as when there is no memory left";
            self.work.observer.notice(Notice::Message(text));
        }
        let before = self.rounds.is_one_by_one();
        self.rounds.learn(round, &ended);
        if self.rounds.is_one_by_one() && !before {
            let text = "Nix came to no end for some hosts, of which nothing failed: realising them one by one";
            self.work.observer.notice(Notice::Message(text));
        }
        let outputs = left.outputs.clone();
        self.add(left, kinds);
        if ended.hosts.len() < self.hosts.len() {
            self.keep(&outputs).await?;
        }
        Ok(())
    }

    /// What each derivation failed of. One that was being built when Nix was stopped, or broke off by itself, has not
    /// failed: Nix says so of each that has.
    fn kinds(&self, left: &Left) -> BTreeMap<StorePath, FailureKind> {
        let was_stopped = left.stop.is_some() || left.nix_was_killed;
        let failed = left.realised.failed.iter();
        let is_told = |path: &StorePath| {
            let said = left.said.get(path).filter(|said| !said.is_empty());
            said.is_some_and(|said| !was_stopped || said.contains(&path.to_string()))
                || left.came_to_its_end
                || self.is_output_named(path, &left.realised.errors)
        };
        let failed: Vec<_> = failed.filter(|(path, _)| is_told(path)).collect();
        let logs: Vec<String> = failed.iter().map(|(_, failed)| failed.lines.join("\n")).collect();
        let evidence = failed.iter().zip(&logs).map(|((path, _), log)| Evidence {
            said: left.said.get(*path).map_or("", String::as_str),
            log,
            is_download: self.is_download(path),
            is_remote: left.remote.contains(*path),
            is_named_by_the_kernel: left.seen.killed.contains(*path),
        });
        let kinds = verdict::kinds(&evidence.collect::<Vec<_>>(), left.kills);
        failed.iter().map(|(path, _)| (*path).clone()).zip(kinds).collect()
    }

    /// Whether an error is about what it makes: what of it is not allowed, say.
    fn is_output_named(&self, path: &StorePath, errors: &[String]) -> bool {
        let outputs = self.database.outputs(path).unwrap_or_default();
        let mut names = outputs.values().map(StorePath::to_string);
        names.any(|name| errors.iter().any(|error| error.contains(&name)))
    }

    /// Whether what it makes is known beforehand.
    fn is_download(&self, path: &StorePath) -> bool {
        let read = derivations::read(self.nix.layout(), path);
        read.is_ok_and(|derivation| derivation.is_fixed_output())
    }

    fn note_peaks(&self, left: &Left, kinds: &BTreeMap<StorePath, FailureKind>) {
        for (build, bytes) in &left.seen.peaks {
            let died = matches!(kinds.get(build), Some(FailureKind::Memory { .. }));
            if *bytes < WORTH_NOTING && !died {
                continue;
            }
            let how = if died { Measured::Died } else { Measured::Sampled };
            self.work.guard.measured(PackageName::of(build).name, *bytes, how);
        }
    }

    fn note_retries(&mut self, round: &Round, ended: &Ended) {
        let Limits { max_jobs: jobs, cores } = round.limits;
        self.realised.retries.extend(round.again.iter().map(|(path, why)| Retry {
            derivation: Some(path.to_string()),
            why: *why,
            jobs,
            cores,
            succeeded: ended.derivations.contains(path),
        }));
    }

    /// Says why Nix was stopped, and notes it for the hosts that it ends.
    fn note_stop(&mut self, stop: &Stop) {
        let guard = self.work.guard;
        let text = match stop {
            Stop::Deadline => guard.too_late(),
            Stop::Disk(free) => format!(
                "the disk is nearly full: {} free, and {} are to stay so; Nix was stopped to collect \
                 garbage",
                size(*free),
                size(guard.bounds().min_free_disk)
            ),
            Stop::Host(host) => {
                let limit = for_people(guard.bounds().host_time_limit.unwrap_or_default());
                let Some(evaluated) = self.hosts.get(*host) else { return };
                let name = &evaluated.host;
                let text = format!(
                    "what only {name} needs was built for longer than {limit}; what is finished is \
                     kept. `host-time-limit` under [build] gives it more"
                );
                self.realised.unfinished.insert(name.clone(), text.clone());
                text
            }
        };
        if *stop == Stop::Deadline {
            self.leave_open(&text);
        }
        self.work.observer.notice(Notice::Message(&text));
    }

    /// Notes for every host that might still have come to be why it has not.
    fn leave_open(&mut self, text: &str) {
        self.realised.stopped = Some(text.to_owned());
        for host in self.rounds.open() {
            if let Some(evaluated) = self.hosts.get(*host) {
                let name = evaluated.host.clone();
                self.realised.unfinished.entry(name).or_insert_with(|| text.to_owned());
            }
        }
    }

    fn add(&mut self, left: Left, kinds: BTreeMap<StorePath, FailureKind>) {
        let Left { realised, seen, stop, .. } = left;
        self.realised.built += realised.built;
        self.realised.fetched += realised.fetched;
        self.realised.unfetched.extend(realised.unfetched);
        // That Nix was interrupted is no news where we did it.
        let is_about = |error: &str| kinds.keys().any(|path| error.contains(&path.to_string()));
        for error in realised.errors {
            if stop.is_none() || is_about(&error) {
                self.realised.add_error(error);
            }
        }
        for (path, mut failed) in realised.failed {
            if let Some(kind) = kinds.get(&path) {
                failed.kind = *kind;
                failed.peak = seen.peaks.get(&path).copied();
                self.realised.failed.insert(path, failed);
            }
        }
    }

    fn finish(&mut self) -> Result<(), BuildError> {
        self.realised.take_out_the_cured(self.database)?;
        let mut deaths = self.realised.failed.values().map(|failed| failed.kind);
        if deaths.any(|kind| matches!(kind, FailureKind::Memory { .. })) {
            let by = self.work.guard.knows_by();
            self.work
                .observer
                .notice(Notice::Message(&format!("deaths of memory are known by {by}")));
        }
        Ok(())
    }
}

/// What a run of Nix has made, as far as it came to be.
fn outputs(
    database: &Database,
    tracker: &Tracker<'_>,
) -> Result<BTreeSet<StorePath>, DatabaseError> {
    let (tried, mut touched) = tracker.touched();
    for derivation in tried {
        touched.extend(database.outputs(&derivation)?.into_values());
    }
    Ok(touched)
}
