//! What is to be said, given what was said before. Pure.
//!
//! The promise: the same state is never said twice, and each change is said once. A host that fails night after
//! night is news on the first of them, and again when it fails at something else. By the names of packages,
//! that is, since with each update their hashes and versions are others.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use larder_cache::words::few;
use larder_formats::{package_name::PackageName, store_path::StorePath};
use serde::{Deserialize, Serialize};

use super::event::{Event, EventKind, Failed};
use crate::{
    ledger::{Failure, Outcome},
    night::{End, HostReport, LeftOut, Report},
};

/// How long after its day a digest may go without a run that brings it.
const DIGEST_WITHOUT_RUN: SignedDuration = SignedDuration::from_hours(2);

/// Packages that are named of those that a host fails at.
const SHOWN: usize = 5;

/// What was said to a receiver, by which the next thing to say is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Said {
    /// The hosts that fail, and why.
    pub hosts: BTreeMap<String, Reason>,
    /// The inputs that are held, and since when.
    pub holds: BTreeMap<String, Timestamp>,
    /// The schedules whose runs themselves fail. Runs by hand are together those of a schedule without a name.
    pub failing_runs: BTreeSet<String>,
    /// When a run last came to its end, as far as is known.
    pub last_end: Option<Timestamp>,
    /// Whether no run has ended for long.
    pub overdue: bool,
    /// When the last digest was given.
    pub digest: Option<Timestamp>,
}

/// Why a host fails, without what is another in every run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// In which way.
    pub kind: String,
    /// At which packages, or with which words.
    pub at: BTreeSet<String>,
}

/// What a receiver wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// The kinds of news.
    pub events: BTreeSet<EventKind>,
    /// Whether it wants to hear how all is even when there is no news.
    pub digest: Digest,
    /// For how long no run may end before that is news.
    pub overdue_after: SignedDuration,
}

/// How often a receiver wants to hear how all is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// Never.
    #[default]
    Never,
    /// Once a day.
    Daily,
    /// Once a week.
    Weekly,
}

/// What is known when it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The run that has just ended, if one has.
    pub report: Option<&'a Report>,
    /// When a run last came to its end; where none did, when the first one began.
    pub last_end: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// What is to be said, and what will have been said then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What will have been said.
    pub after: Said,
    /// The news that the receiver wants.
    pub events: Vec<Event>,
    /// Whether it is to be told how all is.
    pub digest: bool,
}

impl Step {
    /// Whether there is nothing to say, and nothing to remember but the time.
    pub(super) fn is_of_time_alone(&self, before: &Said) -> bool {
        let same = Said { last_end: self.after.last_end, ..before.clone() };
        self.events.is_empty() && !self.digest && self.after == same
    }
}

/// Decides what is to be said; nothing, where nothing has changed.
pub fn decide(before: &Said, standing: Standing<'_>, wants: &Wants) -> Option<Step> {
    let mut after = before.clone();
    let mut events = Vec::new();
    if let Some(report) = standing.report {
        of_the_run(&mut after, report, &mut events);
        for host in &report.hosts {
            of_a_host(&mut after, host, &mut events);
        }
        for left_out in &report.left_out {
            of_one_left_out(&mut after, left_out, &mut events);
        }
        of_holds(&mut after, report, &mut events);
    }
    of_time(&mut after, standing, wants, &mut events);
    let digest = is_due(before.digest, standing, wants.digest);
    if digest {
        after.digest = Some(standing.now);
    }
    events.retain(|event| wants.events.contains(&event.kind()));
    (after != *before).then_some(Step { after, events, digest })
}

fn of_the_run(said: &mut Said, report: &Report, events: &mut Vec<Event>) {
    let schedule = report.schedule.clone();
    let whose = schedule.clone().unwrap_or_default();
    match &report.end {
        End::Finished => {
            if said.failing_runs.remove(&whose) {
                events.push(Event::RunRecovered { schedule });
            }
            if std::mem::take(&mut said.overdue) {
                events.push(Event::Resumed);
            }
        }
        End::Failed { message } | End::Stopped { reason: message } => {
            if said.failing_runs.insert(whose) {
                events.push(Event::RunFailed { schedule, message: message.clone() });
            }
        }
        // Somebody knows, who told it to.
        End::Cancelled => {}
    }
}

fn of_a_host(said: &mut Said, report: &HostReport, events: &mut Vec<Event>) {
    let Some(outcome) = &report.outcome else { return };
    let host = report.host.as_str();
    let Some((reason, mut failed)) = reason(outcome) else {
        if said.hosts.remove(host).is_some() {
            let (host, revision) = (host.to_owned(), report.revision);
            events.push(Event::HostRecovered { host, revision });
        }
        return;
    };
    host.clone_into(&mut failed.host);
    failed.since = report.failing_since;
    failed.last_good = report.last_good;
    fails(said, reason, failed, events);
}

fn of_one_left_out(said: &mut Said, left_out: &LeftOut, events: &mut Vec<Event>) {
    let what = format!("was left out: it {}", left_out.reason);
    let reason = Reason { kind: "left-out".to_owned(), at: BTreeSet::new() };
    let failed = Failed { host: left_out.name.clone(), ..nothing(what) };
    fails(said, reason, failed, events);
}

fn fails(said: &mut Said, reason: Reason, mut failed: Failed, events: &mut Vec<Event>) {
    let before = said.hosts.get(&failed.host);
    failed.failed_before = before.is_some();
    // Fewer packages than before are no news: some of them are mended.
    let known = before.is_some_and(|it| it.kind == reason.kind && it.at.is_superset(&reason.at));
    // What says nothing takes back nothing.
    if !known || !reason.at.is_empty() {
        said.hosts.insert(failed.host.clone(), reason);
    }
    if !known {
        events.push(Event::HostFailed(failed));
    }
}

fn of_holds(said: &mut Said, report: &Report, events: &mut Vec<Event>) {
    for held in &report.held {
        if said.holds.insert(held.input.clone(), held.since) != Some(held.since) {
            events.push(Event::InputHeld {
                input: held.input.clone(),
                at: held.at.clone(),
                bad: held.bad.clone(),
                hosts: held.hosts.clone(),
                failures: held.failures.clone(),
                message: held.message.clone(),
            });
        }
    }
    // A run that tried no update, or did not come to its end, cannot tell that a hold is over.
    if report.end == End::Finished && report.update {
        let is_held = |input: &String| report.held.iter().any(|held| held.input == *input);
        let ended: Vec<String> = said.holds.keys().filter(|it| !is_held(it)).cloned().collect();
        for input in ended {
            said.holds.remove(&input);
            events.push(Event::HoldEnded { input });
        }
    }
}

fn of_time(said: &mut Said, standing: Standing<'_>, wants: &Wants, events: &mut Vec<Event>) {
    let ended = standing.report.filter(|report| report.end == End::Finished);
    // A ledger that could not be written to does not know the newest; a clock that was wrong knew one that never was.
    let known = said.last_end.filter(|known| *known <= standing.now);
    let told = standing.last_end.filter(|told| *told <= standing.now);
    said.last_end = known.max(told).max(ended.map(|_| standing.now));
    if let Some(since) = said.last_end
        && standing.now.duration_since(since) > wants.overdue_after
        && !std::mem::replace(&mut said.overdue, true)
    {
        events.push(Event::Overdue { since });
    }
}

/// A digest is due with the first run of another day, or of another week; and without a run a while after that.
fn is_due(last: Option<Timestamp>, standing: Standing<'_>, digest: Digest) -> bool {
    let days = match digest {
        Digest::Never => return false,
        Digest::Daily => 1,
        Digest::Weekly => 7,
    };
    let Some(last) = last else { return standing.report.is_some() };
    if standing.report.is_none() {
        let due = SignedDuration::from_hours(24 * days) + DIGEST_WITHOUT_RUN;
        return standing.now.duration_since(last) > due;
    }
    let date = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
    date(standing.now).duration_since(date(last)) >= SignedDuration::from_hours(24 * days)
}

/// Why a host fails, for comparing and for telling; none if it does not.
fn reason(outcome: &Outcome) -> Option<(Reason, Failed)> {
    let (kind, at, failed) = match outcome {
        Outcome::Built | Outcome::Unchanged => return None,
        Outcome::EvaluationFailed { message } => {
            let failed = nothing("cannot be evaluated".to_owned());
            ("evaluation", gist(message), Failed { message: message.clone(), ..failed })
        }
        Outcome::BuildFailed { failures, message, .. } => {
            let packages = packages(failures);
            let (at, what) = match packages.is_empty() {
                true => (gist(message), "does not build".to_owned()),
                false => (
                    packages.clone(),
                    format!("does not build: {}", few(packages.iter().map(String::as_str), SHOWN)),
                ),
            };
            let (failures, message) = (failures.clone(), message.clone());
            ("build", at, Failed { failures, message, ..nothing(what) })
        }
        Outcome::Unfinished { message } => {
            let failed = nothing("was not finished".to_owned());
            ("unfinished", BTreeSet::new(), Failed { message: message.clone(), ..failed })
        }
        Outcome::NotPublished { message } => {
            let failed = nothing("was built, but could not be published in full".to_owned());
            ("publication", BTreeSet::new(), Failed { message: message.clone(), ..failed })
        }
    };
    Some((Reason { kind: kind.to_owned(), at }, failed))
}

fn nothing(what: String) -> Failed {
    Failed {
        host: String::new(),
        what,
        failed_before: false,
        since: None,
        last_good: None,
        failures: Vec::new(),
        message: String::new(),
    }
}

/// The packages whose derivations failed, without their versions.
fn packages(failures: &[Failure]) -> BTreeSet<String> {
    let name = |failure: &Failure| match failure.derivation.parse::<StorePath>() {
        Ok(path) => PackageName::of(&path).name.to_owned(),
        Err(_) => failure.derivation.clone(),
    };
    failures.iter().map(name).collect()
}

/// The last error in what Nix said, or its last line, without hashes and numbers, which are others in every run. Behind the
/// error there may be an excerpt of the code, or a hint.
fn gist(message: &str) -> BTreeSet<String> {
    let lines = || message.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let is_error =
        |line: &&str| line.strip_prefix("error:").is_some_and(|it| !it.trim().is_empty());
    let line = lines().find(is_error).or_else(|| lines().next()).unwrap_or_default();
    let is_word = |word: &str| word.chars().all(char::is_alphabetic) && word.len() < 32;
    let words = line.split(|c: char| !c.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty() && is_word(word)).collect();
    Some(words.join(" ")).filter(|words| !words.is_empty()).into_iter().collect()
}
