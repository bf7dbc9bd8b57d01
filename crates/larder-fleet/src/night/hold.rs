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

pub use search::{Assessment, Hold, Search, Step};

use super::{
    attempt::{Attempt, Attempts},
    progress::Notice,
    report::Job,
    setup::NightError,
    update::{Locks, UpdateError},
};
use crate::{
    host::HostName,
    ledger::{Failure, Held, Outcome},
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
    let inputs = lock_file::moved(&locks.start, &locks.new);
    let required = |host: &&(Job, Outcome)| night.is_required(&host.0.host);
    let failing = first.hosts.iter().filter(required).filter(|(_, it)| cause::is_to_blame(it));
    let failing: Vec<HostName> = failing.map(|(job, _)| job.host.clone()).collect();
    if night.search_limit == 0 || inputs.is_empty() || failing.is_empty() {
        return Ok(as_it_is(first));
    }
    let text = format!("{} fail with the new lock: trying the old one", list(&failing));
    attempts.live.observer.notice(Notice::Message(&text));
    let (old, jobs) = attempts.evaluate_with(&locks.start, &failing).await?;
    let broken = attempts.build(old, jobs).await?.good();
    if broken.is_empty() {
        return Ok(as_it_is(first));
    }
    let wanted = first.good().into_iter().filter(|host| night.is_required(host));
    let wanted = wanted.chain(broken.iter().cloned()).collect();
    let search = Search::new(inputs, broken.clone(), night.search_limit);
    let mut searching =
        Searching { locks, wanted, broken, bad: bad(&first), first: &first, search };
    let found = searching.go(attempts).await?;
    let held = match &found {
        Found::Good(hold, _) => searching.held(attempts, hold)?,
        Found::None => searching.held(attempts, &searching.all())?,
        Found::Undecided(_) => Vec::new(),
    };
    if let Found::Good(_, attempt) = found {
        return Ok(Settled { attempt, held, undecided: None });
    }
    let hosts = first.names();
    let (old, jobs) = attempts.evaluate_with(&locks.start, &hosts).await?;
    let attempt = attempts.build(old, jobs).await?;
    let undecided = match found {
        Found::Undecided(why) => Some(why),
        _ => None,
    };
    Ok(Settled { attempt, held, undecided })
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
    locks: &'a Locks,
    /// The hosts that have to build.
    wanted: BTreeSet<HostName>,
    /// Those among them that do not with the new lock.
    broken: BTreeSet<HostName>,
    /// Derivations that are known to fail.
    bad: BTreeSet<StorePath>,
    first: &'a Attempt,
    search: Search,
}

impl Searching<'_> {
    async fn go(&mut self, attempts: &mut Attempts<'_>) -> Result<Found, NightError> {
        while let Some(step) = self.search.step() {
            match step {
                Step::Assess(hold) => {
                    let broken: Vec<_> = self.broken.iter().cloned().collect();
                    say(attempts, &format!("evaluating {} without", list(&broken)), &hold);
                    let (_, jobs) = attempts.evaluate_with(&self.lock(&hold)?, &broken).await?;
                    if let Some(why) =
                        passing(jobs.iter().filter_map(|job| job.state.as_ref().err()))
                    {
                        return Ok(Found::Undecided(why));
                    }
                    let assessment = self.assess(attempts, &jobs)?;
                    self.search.assessed(hold, assessment);
                }
                Step::Try(hold) => {
                    say(attempts, "building every host without", &hold);
                    let hosts = self.first.names();
                    let (lock, jobs) = attempts.evaluate_with(&self.lock(&hold)?, &hosts).await?;
                    let attempt = attempts.build(lock, jobs).await?;
                    let wanted = |host: &&(Job, Outcome)| self.wanted.contains(&host.0.host);
                    if self.wanted.is_subset(&attempt.good()) {
                        return Ok(Found::Good(hold, attempt));
                    }
                    let failing = attempt.hosts.iter().filter(wanted).map(|(_, outcome)| outcome);
                    if let Some(why) = passing(failing) {
                        return Ok(Found::Undecided(why));
                    }
                    self.bad.extend(bad(&attempt));
                    self.search.tried(hold, false);
                }
            }
        }
        Ok(Found::None)
    }

    fn lock(&self, hold: &Hold) -> Result<LockFile, NightError> {
        let locked = self.locks.new.holding(&self.locks.start, hold);
        Ok(locked.map_err(|error: LockFileError| UpdateError::from(error))?)
    }

    fn all(&self) -> Hold {
        lock_file::moved(&self.locks.start, &self.locks.new)
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
                at: locked(&self.locks.start),
                bad: locked(&self.locks.new),
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
                    let lasting = failures.iter().filter(|failure| cause::is_lasting(failure));
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

/// The derivations that failed for what they are.
fn bad(attempt: &Attempt) -> BTreeSet<StorePath> {
    let mut bad = BTreeSet::new();
    for (_, outcome) in &attempt.hosts {
        if let Outcome::BuildFailed { failures, .. } = outcome {
            let lasting = failures.iter().filter(|failure| cause::is_lasting(failure));
            bad.extend(lasting.filter_map(|failure| failure.derivation.parse::<StorePath>().ok()));
        }
    }
    bad
}

/// What failed for the moment, if that is all that is known of one of these.
fn passing<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Option<String> {
    outcomes.filter(|outcome| !outcome.is_good() && !cause::is_to_blame(outcome)).find_map(
        |outcome| match outcome {
            Outcome::EvaluationFailed { message }
            | Outcome::BuildFailed { message, .. }
            | Outcome::Unfinished { message } => Some(message.clone()),
            _ => None,
        },
    )
}

fn say(attempts: &mut Attempts<'_>, what: &str, hold: &Hold) {
    let inputs: Vec<&str> = hold.iter().map(String::as_str).collect();
    let text = format!("{what} the update of {}", inputs.join(", "));
    attempts.live.observer.notice(Notice::Message(&text));
}

fn list(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}
