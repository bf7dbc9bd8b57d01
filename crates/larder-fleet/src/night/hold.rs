//! What to do about hosts that an update broke: find the input, and go on without its update.
//!
//! Only the update of a host that fails with the new lock and builds with the old one is at fault; what failed for the
//! moment is blamed on nobody. Then the update is tried without some of its inputs. Most of those tries end with
//! evaluating: a host that still needs a derivation which failed tonight need not be built to know.

mod cause;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::{
    lock_file::{self, LockFile},
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
    ledger::{Failure, GONE, Held, Outcome},
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
    let to_blame = |(job, outcome): &&(Job, Outcome)| causes.is_to_blame(&job.host, outcome);
    let failing = first.hosts.iter().filter(required).filter(to_blame);
    let failing: Vec<HostName> = failing.map(|(job, _)| job.host.clone()).collect();
    if night.search_limit == 0 || failing.is_empty() {
        return Ok(as_it_is(first));
    }
    let found = match before(attempts, locks, &failing, &causes).await? {
        Before::Same => return Ok(as_it_is(first)),
        Before::Unknown(why) => Found::Undecided(why),
        Before::Good(old, broken) => {
            let wanted = first.good().into_iter().filter(|host| night.is_required(host));
            let wanted = wanted.chain(broken.iter().cloned()).collect();
            let inputs = lock_file::moved(&old, &locks.new);
            let search = Search::new(inputs, broken.clone(), night.search_limit);
            let bad = causes.bad(&first);
            let (new, first) = (&locks.new, &first);
            let mut searching = Searching { old, new, wanted, broken, bad, first, causes, search };
            searching.result(attempts, &locks.start).await?
        }
    };
    let (undecided, held) = match found {
        Found::Good(attempt, held) => return Ok(Settled { attempt, held, undecided: None }),
        Found::None(held) => (None, held),
        Found::Undecided(_) if attempts.guard.is_over() => {
            // What is done is published. Who fails is looked after in the next run, by what it was good with.
            attempts.stopped = Some(attempts.guard.too_late());
            return Ok(as_it_is(first));
        }
        Found::Undecided(why) => (Some(why), Vec::new()),
    };
    let (start, jobs) = attempts.evaluate_with(&locks.start, &first.names()).await?;
    let attempt = attempts.build(start, jobs).await?;
    let held = if undecided.is_some() { night.still_held(&attempt)? } else { held };
    Ok(Settled { attempt, held, undecided })
}

/// How hosts that fail now did with what they were good with last.
enum Before {
    /// They fail with that, too, or nothing has moved since.
    Same,
    /// These build with this lock; of several, it is the oldest.
    Good(LockFile, BTreeSet<HostName>),
    /// Something failed for the moment, so that nothing can be said.
    Unknown(String),
}

/// Builds each of these hosts with the lock it was good with last, which may be older than what was published last,
/// since others were good with that. A host that never was good is nobody's fault.
async fn before(
    attempts: &mut Attempts<'_>,
    locks: &Locks,
    failing: &[HostName],
    causes: &Causes,
) -> Result<Before, NightError> {
    let text = format!("{} fail with the new lock: trying the old one", list(failing));
    attempts.live.observer.notice(Notice::Message(&text));
    let mut olds: BTreeMap<u64, (LockFile, Vec<HostName>)> = BTreeMap::new();
    for host in failing {
        let (number, lock) = match attempts.night.ledger().map(|it| it.latest(host)).transpose()? {
            None => (0, locks.start.clone()),
            Some(None) => continue,
            Some(Some(it)) => (it.number, LockFile::parse(&it.lock).map_err(UpdateError::from)?),
        };
        match olds.values_mut().find(|(old, _)| old.text() == lock.text()) {
            Some((_, hosts)) => hosts.push(host.clone()),
            None => drop(olds.insert(number, (lock, vec![host.clone()]))),
        }
    }
    let (mut oldest, mut broken) = (None, BTreeSet::new());
    for (old, hosts) in olds.into_values() {
        if lock_file::moved(&old, &locks.new).is_empty() {
            continue;
        }
        let attempt = match attempts.try_with(&old, &hosts).await? {
            Ok((lock, jobs)) => attempts.build(lock, jobs).await?,
            Err(why) => return Ok(Before::Unknown(why)),
        };
        if let Some(why) = causes.passing(attempt.outcomes()) {
            return Ok(Before::Unknown(why));
        }
        let good = attempt.good();
        if !good.is_empty() {
            broken.extend(good);
            oldest.get_or_insert(attempt.lock);
        }
    }
    Ok(oldest.map_or(Before::Same, |old| Before::Good(old, broken)))
}

/// How a search ended.
enum Found {
    /// With these inputs held, all is well.
    Good(Attempt, Vec<Held>),
    /// No set of updates does, or none was found within the limit: these stay.
    None(Vec<Held>),
    /// Something failed for the moment, so that nothing can be said.
    Undecided(String),
}

/// How building every host ended, with some inputs held.
enum Tried {
    Good(Attempt),
    Bad,
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
    async fn result(
        &mut self,
        attempts: &mut Attempts<'_>,
        start: &LockFile,
    ) -> Result<Found, NightError> {
        while let Some(step) = self.search.step() {
            if attempts.guard.is_over() {
                return Ok(Found::Undecided(attempts.guard.too_late()));
            }
            match step {
                Step::Assess(hold) => match self.assess(attempts, &hold).await? {
                    Ok(assessment) => self.search.assessed(hold, assessment),
                    Err(why) => return Ok(Found::Undecided(why)),
                },
                Step::Try(hold) => match self.attempt(attempts, &hold).await? {
                    Tried::Good(attempt) => {
                        let held = self.held(attempts, &hold, &self.old)?;
                        return Ok(Found::Good(attempt, held));
                    }
                    Tried::Bad => self.search.tried(hold, false),
                    Tried::Undecided(why) => return Ok(Found::Undecided(why)),
                },
            }
        }
        let all = lock_file::moved(&self.old, self.new);
        // Without any of the update, all may still be better off than with what some hosts fail with.
        if !lock_file::moved(&self.old, start).is_empty() {
            match self.attempt(attempts, &all).await? {
                Tried::Good(attempt) => {
                    return Ok(Found::Good(attempt, self.held(attempts, &all, &self.old)?));
                }
                Tried::Bad => {}
                Tried::Undecided(why) => return Ok(Found::Undecided(why)),
            }
        }
        Ok(Found::None(self.held(attempts, &lock_file::moved(start, self.new), start)?))
    }

    /// Builds every host with these inputs held, and looks whether all are good that have to be.
    async fn attempt(
        &mut self,
        attempts: &mut Attempts<'_>,
        hold: &Hold,
    ) -> Result<Tried, NightError> {
        say(attempts, "building every host without", hold);
        let (lock, jobs) = match attempts.try_with(&self.lock(hold)?, &self.first.names()).await? {
            Ok(evaluated) => evaluated,
            Err(why) => return Ok(Tried::Undecided(why)),
        };
        let attempt = attempts.build(lock, jobs).await?;
        if self.wanted.is_subset(&attempt.good()) {
            return Ok(Tried::Good(attempt));
        }
        let wanted = attempt.outcomes().filter(|(host, _)| self.wanted.contains(host));
        if let Some(why) = self.causes.passing(wanted) {
            return Ok(Tried::Undecided(why));
        }
        self.bad.extend(self.causes.bad(&attempt));
        Ok(Tried::Bad)
    }

    fn lock(&self, hold: &Hold) -> Result<LockFile, NightError> {
        Ok(self.new.holding(&self.old, hold).map_err(UpdateError::from)?)
    }

    /// Evaluates what broke with these inputs held.
    async fn assess(
        &self,
        attempts: &mut Attempts<'_>,
        hold: &Hold,
    ) -> Result<Result<Assessment, String>, NightError> {
        let hosts: Vec<_> = self.broken.iter().cloned().collect();
        say(attempts, &format!("evaluating {} without", list(&hosts)), hold);
        let jobs = match attempts.try_with(&self.lock(hold)?, &hosts).await? {
            Ok((_, jobs)) => jobs,
            Err(why) => return Ok(Err(why)),
        };
        let failing = jobs.iter().filter_map(|job| Some((&job.host, job.state.as_ref().err()?)));
        if let Some(why) = self.causes.passing(failing) {
            return Ok(Err(why));
        }
        let (mut fixed, mut builds) = (BTreeSet::new(), BTreeSet::new());
        for job in &jobs {
            let Ok(evaluated) = &job.state else { continue };
            let needed = attempts.night.database.closure(&evaluated.derivation)?;
            if self.bad.iter().any(|bad| needed.contains(bad)) {
                continue;
            }
            fixed.insert(job.host.clone());
            builds.extend(evaluated.plan.iter().flat_map(|plan| &plan.build));
        }
        Ok(Ok(Assessment { fixed, builds: builds.len() }))
    }

    /// What is said of the inputs that are held.
    fn held(
        &self,
        attempts: &Attempts<'_>,
        hold: &Hold,
        at: &LockFile,
    ) -> Result<Vec<Held>, NightError> {
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
                at: locked(at),
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

impl Night {
    /// What an earlier run held back, and this one, which updates nothing, has not moved either.
    pub(super) fn still_held(&self, attempt: &Attempt) -> Result<Vec<Held>, NightError> {
        self.held_in(&attempt.lock)
    }

    /// What is held for a host that takes no part in this run, and has to build: nobody would notice what else an update
    /// breaks there, and at night it would be taken back. One that no run is for any more holds nothing.
    pub(super) fn held_for(
        &self,
        others: &[HostName],
        start: &LockFile,
    ) -> Result<Vec<Held>, NightError> {
        let mut counted = Vec::new();
        for host in others.iter().filter(|host| self.search_limit > 0 && self.is_required(host)) {
            let last = self.ledger().map(|ledger| ledger.last_run(host)).transpose()?.flatten();
            if last.is_some_and(|(last, _)| (self.clock)().duration_since(last) < GONE) {
                counted.push(host);
            }
        }
        let mut held = self.held_in(start)?;
        held.retain(|held| held.hosts.iter().any(|host| counted.contains(&host)));
        Ok(held)
    }

    /// What an earlier run held, and this lock has not moved.
    fn held_in(&self, lock: &LockFile) -> Result<Vec<Held>, NightError> {
        let mut held = self.published_lock()?.map(|lock| lock.held).unwrap_or_default();
        let inputs = lock.root_inputs();
        held.retain(|held| {
            inputs.get(&held.input).is_some_and(|input| input.description == held.at)
        });
        Ok(held)
    }
}

impl Attempt {
    /// The hosts that have their system.
    pub(super) fn good(&self) -> BTreeSet<HostName> {
        let good = self.hosts.iter().filter(|(_, outcome)| outcome.is_good());
        good.map(|(job, _)| job.host.clone()).collect()
    }

    fn outcomes(&self) -> impl Iterator<Item = (&HostName, &Outcome)> {
        self.hosts.iter().map(|(job, outcome)| (&job.host, outcome))
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
    fn passing<'a>(
        &self,
        outcomes: impl Iterator<Item = (&'a HostName, &'a Outcome)>,
    ) -> Option<String> {
        let mut passing =
            outcomes.filter(|(host, it)| !it.is_good() && !self.is_to_blame(host, it));
        passing.find_map(|(_, outcome)| match outcome {
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
