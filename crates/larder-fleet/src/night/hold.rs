//! What to do about hosts that an update broke: find the input, and go on without its update.
//!
//! Only the update of a host that fails with the new lock and builds with the old one is at fault; what failed for the
//! moment is blamed on nobody. Then the update is tried without some of its inputs. Most of those tries end with
//! evaluating: a host that still needs a derivation which failed tonight need not be built to know.

mod cause;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::{
    lock_file::{self, LockFile, LockFileError},
    store_path::StorePath,
};

use cause::Causes;
pub use search::{Assessment, Hold, Search, Step};

use super::{
    attempt::{Attempt, Attempts},
    progress::Notice,
    report::Job,
    setup::{Night, NightError},
    update::{Locks, UpdateError},
};
use crate::{
    host::HostName,
    ledger::{Failure, Held, Outcome},
    revision::Revision,
};

/// What the run is done with in the end.
pub(super) struct Settled {
    pub attempt: Attempt,
    /// The inputs that do not move.
    pub held: Vec<Held>,
    /// Why nothing was updated, where no input is at fault.
    pub undecided: Option<String>,
}

/// Finds the updates with which every host builds that has to.
pub(super) async fn settle(
    attempts: &mut Attempts<'_>,
    locks: &Locks,
    first: Attempt,
) -> Result<Settled, NightError> {
    let as_it_is = |attempt| Settled { attempt, held: Vec::new(), undecided: None };
    let night = attempts.night;
    let required = |host: &&(Job, Outcome)| night.is_required(&host.0.host);
    let hosts = first.hosts.iter().filter(required).map(|(job, _)| &job.host);
    let causes = Causes::of(night.ledger(), hosts)?;
    let failing = first.hosts.iter().filter(required).filter(|(_, it)| causes.is_to_blame(it));
    let failing: Vec<HostName> = failing.map(|(job, _)| job.host.clone()).collect();
    let old = match failing.is_empty() {
        true => locks.start.clone(),
        false => last_good(night, &failing)?.unwrap_or_else(|| locks.start.clone()),
    };
    let inputs = lock_file::moved(&old, &locks.new);
    if night.search_limit == 0 || inputs.is_empty() || failing.is_empty() {
        return Ok(as_it_is(first));
    }
    let text = format!("{} fail with the new lock: trying the old one", list(&failing));
    attempts.live.observer.notice(Notice::Message(&text));
    let (old, jobs) = attempts.evaluate_with(&old, &failing).await?;
    let broken = attempts.build(old.clone(), jobs).await?.good();
    if broken.is_empty() {
        return Ok(as_it_is(first));
    }
    let wanted = first.good().into_iter().filter(|host| night.is_required(host));
    let wanted = wanted.chain(broken.iter().cloned()).collect();
    let search = Search::new(inputs, broken.clone(), night.search_limit);
    let bad = causes.bad(&first);
    let (new, first) = (&locks.new, &first);
    let mut searching = Searching { old, new, wanted, broken, bad, first, causes, search };
    let (undecided, held) = match searching.go(attempts, &locks.start).await? {
        Found::Good(hold, attempt) => {
            let held = searching.held(attempts, &hold)?;
            return Ok(Settled { attempt, held, undecided: None });
        }
        Found::None => (None, searching.held(attempts, &searching.all())?),
        Found::Undecided(why) => (Some(why), Vec::new()),
    };
    let (start, jobs) = attempts.evaluate_with(&locks.start, &first.names()).await?;
    let attempt = attempts.build(start, jobs).await?;
    Ok(Settled { attempt, held, undecided })
}

/// The lock with which these hosts were good last; of several, the oldest. It may be older than what was published
/// last, since others were good with that.
fn last_good(night: &Night, hosts: &[HostName]) -> Result<Option<LockFile>, NightError> {
    let Some(ledger) = night.ledger() else { return Ok(None) };
    let mut oldest: Option<Revision> = None;
    for host in hosts {
        let Some(revision) = ledger.latest(host)? else { return Ok(None) };
        if oldest.as_ref().is_none_or(|oldest| revision.number < oldest.number) {
            oldest = Some(revision);
        }
    }
    let lock = oldest.map(|revision| LockFile::parse(&revision.lock)).transpose();
    Ok(lock.map_err(UpdateError::from)?)
}

/// How a search ended.
enum Found {
    /// With these inputs held, all is well.
    Good(Hold, Attempt),
    /// No set of updates does, or none was found within the limit.
    None,
    /// Something failed for the moment, so that nothing can be said.
    Undecided(String),
}

struct Searching<'a> {
    /// The lock with which the broken hosts build.
    old: LockFile,
    /// The one with which they do not.
    new: &'a LockFile,
    /// The hosts that have to build.
    wanted: BTreeSet<HostName>,
    /// Those among them that do not with the new lock.
    broken: BTreeSet<HostName>,
    /// Derivations that are known to fail.
    bad: BTreeSet<StorePath>,
    first: &'a Attempt,
    causes: Causes,
    search: Search,
}

impl Searching<'_> {
    async fn go(
        &mut self,
        attempts: &mut Attempts<'_>,
        start: &LockFile,
    ) -> Result<Found, NightError> {
        while let Some(step) = self.search.step() {
            match step {
                Step::Assess(hold) => {
                    let broken: Vec<_> = self.broken.iter().cloned().collect();
                    say(attempts, &format!("evaluating {} without", list(&broken)), &hold);
                    let (_, jobs) = attempts.evaluate_with(&self.lock(&hold)?, &broken).await?;
                    let failed = jobs.iter().filter_map(|job| job.state.as_ref().err());
                    if let Some(why) = self.causes.passing(failed) {
                        return Ok(Found::Undecided(why));
                    }
                    let assessment = self.assess(attempts, &jobs)?;
                    self.search.assessed(hold, assessment);
                }
                Step::Try(hold) => {
                    let (attempt, end) = self.attempt(attempts, &hold).await?;
                    match end {
                        Ok(true) => return Ok(Found::Good(hold, attempt)),
                        Ok(false) => self.search.tried(hold, false),
                        Err(why) => return Ok(Found::Undecided(why)),
                    }
                }
            }
        }
        // Nothing of the update is better than what some hosts fail with.
        if lock_file::moved(&self.old, start).is_empty() {
            return Ok(Found::None);
        }
        let hold = self.all();
        Ok(match self.attempt(attempts, &hold).await? {
            (attempt, Ok(true)) => Found::Good(hold, attempt),
            _ => Found::None,
        })
    }

    /// Builds every host with these inputs held. Says whether all are good that have to be, or why that cannot be told.
    async fn attempt(
        &mut self,
        attempts: &mut Attempts<'_>,
        hold: &Hold,
    ) -> Result<(Attempt, Result<bool, String>), NightError> {
        say(attempts, "building every host without", hold);
        let hosts = self.first.names();
        let (lock, jobs) = attempts.evaluate_with(&self.lock(hold)?, &hosts).await?;
        let attempt = attempts.build(lock, jobs).await?;
        if self.wanted.is_subset(&attempt.good()) {
            return Ok((attempt, Ok(true)));
        }
        let wanted = |host: &&(Job, Outcome)| self.wanted.contains(&host.0.host);
        let failing = attempt.hosts.iter().filter(wanted).map(|(_, outcome)| outcome);
        let end = match self.causes.passing(failing) {
            Some(why) => Err(why),
            None => Ok(false),
        };
        self.bad.extend(self.causes.bad(&attempt));
        Ok((attempt, end))
    }

    fn lock(&self, hold: &Hold) -> Result<LockFile, NightError> {
        let locked = self.new.holding(&self.old, hold);
        Ok(locked.map_err(|error: LockFileError| UpdateError::from(error))?)
    }

    fn all(&self) -> Hold {
        lock_file::moved(&self.old, self.new)
    }

    fn assess(&self, attempts: &Attempts<'_>, jobs: &[Job]) -> Result<Assessment, NightError> {
        let mut fixed = BTreeSet::new();
        let mut builds = BTreeSet::new();
        for job in jobs {
            let Ok(evaluated) = &job.state else { continue };
            let needed = attempts.night.database.closure(&evaluated.derivation)?;
            if self.bad.iter().any(|bad| needed.contains(bad)) {
                continue;
            }
            fixed.insert(job.host.clone());
            builds.extend(job.plan.iter().flat_map(|plan| &plan.build));
        }
        Ok(Assessment { fixed, builds: builds.len() })
    }

    /// What is said of the inputs that are held.
    fn held(&self, attempts: &Attempts<'_>, hold: &Hold) -> Result<Vec<Held>, NightError> {
        let night = attempts.night;
        let before = night.published_lock()?.map(|lock| lock.held).unwrap_or_default();
        let now = (night.clock)();
        let held = hold.iter().map(|input| {
            let hosts = match hold.len() {
                1 => self.broken.clone(),
                _ => self.search.broken_by(input),
            };
            let (failures, message) = self.why(&hosts);
            let locked = |lock: &LockFile| {
                let input = lock.root_inputs().get(input);
                input.map(|input| input.description.clone()).unwrap_or_default()
            };
            let since = before.iter().find(|held| held.input == *input).map(|held| held.since);
            Held {
                input: input.clone(),
                at: locked(&self.old),
                bad: locked(self.new),
                since: since.unwrap_or(now),
                hosts: hosts.into_iter().collect(),
                failures,
                message,
            }
        });
        Ok(held.collect())
    }

    /// The derivations that these hosts failed for with the new lock, or what else was said.
    fn why(&self, hosts: &BTreeSet<HostName>) -> (Vec<Failure>, String) {
        let mut all = BTreeMap::new();
        let mut messages = Vec::new();
        for (_, outcome) in self.first.hosts.iter().filter(|(job, _)| hosts.contains(&job.host)) {
            match outcome {
                Outcome::BuildFailed { failures, message, .. } => {
                    let lasting = failures.iter().filter(|failure| self.causes.is_lasting(failure));
                    all.extend(lasting.map(|one| (one.derivation.clone(), one.clone())));
                    if failures.is_empty() {
                        messages.push(message.as_str());
                    }
                }
                Outcome::EvaluationFailed { message } => messages.push(message),
                _ => {}
            }
        }
        (all.into_values().collect(), messages.join("\n"))
    }
}

impl Attempt {
    /// The hosts that have their system.
    pub(super) fn good(&self) -> BTreeSet<HostName> {
        let good = self.hosts.iter().filter(|(_, outcome)| outcome.is_good());
        good.map(|(job, _)| job.host.clone()).collect()
    }

    fn names(&self) -> Vec<HostName> {
        self.hosts.iter().map(|(job, _)| job.host.clone()).collect()
    }
}

impl Causes {
    /// The derivations that failed for what they are.
    fn bad(&self, attempt: &Attempt) -> BTreeSet<StorePath> {
        let mut bad = BTreeSet::new();
        for (_, outcome) in &attempt.hosts {
            if let Outcome::BuildFailed { failures, .. } = outcome {
                let lasting = failures.iter().filter(|failure| self.is_lasting(failure));
                bad.extend(lasting.filter_map(|it| it.derivation.parse::<StorePath>().ok()));
            }
        }
        bad
    }

    /// What failed for the moment, if that is all that is known of one of these.
    fn passing<'a>(&self, outcomes: impl Iterator<Item = &'a Outcome>) -> Option<String> {
        let mut passing = outcomes.filter(|it| !it.is_good() && !self.is_to_blame(it));
        passing.find_map(|outcome| match outcome {
            Outcome::EvaluationFailed { message }
            | Outcome::BuildFailed { message, .. }
            | Outcome::Unfinished { message } => Some(message.clone()),
            _ => None,
        })
    }
}

fn say(attempts: &mut Attempts<'_>, what: &str, hold: &Hold) {
    let inputs: Vec<&str> = hold.iter().map(String::as_str).collect();
    let text = format!("{what} the update of {}", inputs.join(", "));
    attempts.live.observer.notice(Notice::Message(&text));
}

fn list(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}
