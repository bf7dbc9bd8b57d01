//! What a summary says of the lock: where the run started from, what was held back, and whether it went home.

use larder_fleet::{
    ledger::Held,
    night::{LockReport, Origin, Report, WentHome},
};

use super::text::{count, day, failures, few, indented};

/// Before all else: what everything was built with.
pub(super) fn start(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(LockReport { start: Origin::Published { run }, .. }) = &report.lock {
        lines.push(format!("started from the lock that run {run} published"));
    }
    for older in report.lock.iter().flat_map(|lock| &lock.older) {
        let place = |place: &Option<String>| place.clone().unwrap_or_default();
        let (from, to) = (place(&older.from), place(&older.to));
        lines.push(format!("OLDER than what was published before: {}: {from} → {to}", older.input));
    }
    lines
}

/// What was held back, and why.
pub(super) fn held(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.held.iter().flat_map(one_held).collect();
    if let Some(why) = report.lock.as_ref().and_then(|lock| lock.undecided.as_ref()) {
        lines.push("\nnothing was updated: some hosts fail with the new lock, and it could not be found out by which \
                    input".to_owned());
        lines.extend(why.lines().map(indented));
    }
    lines
}

fn one_held(held: &Held) -> Vec<String> {
    let hosts = few(held.hosts.iter().map(|host| host.as_str()));
    let mut lines = vec![
        format!("\n{} is held since {}: its update breaks {hosts}", held.input, day(held.since)),
        indented(&format!("it stays at  {}", held.at)),
        indented(&format!("and not      {}", held.bad)),
    ];
    lines.extend(failures("", &held.failures, &held.message));
    lines
}

/// Where the lock is now.
pub(super) fn home(report: &Report) -> Option<String> {
    Some(match report.lock.as_ref()?.home.as_ref()? {
        WentHome::Pushed { branch, commit } => {
            let commit = commit.get(..12).unwrap_or(commit);
            let held = match report.held.len() {
                0 => String::new(),
                held => format!(" ({} held)", count(held, "input")),
            };
            format!("flake.lock was pushed to {branch} as {commit}{held}")
        }
        WentHome::AlreadyThere { branch } => format!("{branch} has this flake.lock already"),
        WentHome::NotPushed { branch, reason } => {
            format!("flake.lock was NOT pushed to {branch}: {reason}")
        }
    })
}
