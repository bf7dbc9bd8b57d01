//! The texts that stay: what a run came to.

use larder_fleet::{
    ledger::{Failure, FailureKind, Outcome},
    night::{BuildPlan, HostReport, Report, Retry},
};
use larder_formats::lock_file::InputChange;

use super::{
    lock,
    text::{count, indented, name, size},
};

/// Lines of a failed build's log that the summary shows; the whole log is named beside them.
const SHOWN_LINES: usize = 10;

/// A plan in one line.
pub fn plan(plan: &BuildPlan) -> String {
    if plan.is_empty() {
        return "everything is there".to_owned();
    }
    let mut parts = Vec::new();
    if !plan.build.is_empty() {
        parts.push(format!("{} to build", plan.build.len()));
    }
    if !plan.fetch.is_empty() {
        parts.push(format!(
            "{} to download ({}, {} unpacked)",
            plan.fetch.len(),
            size(plan.download_bytes),
            size(plan.unpacked_bytes)
        ));
    }
    if !plan.unknown.is_empty() {
        parts.push(format!("{} that no cache has", plan.unknown.len()));
    }
    parts.join(", ")
}

/// An outcome in a few words.
pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Built => "built".to_owned(),
        Outcome::Unchanged => "unchanged".to_owned(),
        Outcome::EvaluationFailed { .. } => "FAILED to evaluate".to_owned(),
        Outcome::BuildFailed { failures, .. } => {
            let names: Vec<&str> = failures.iter().map(|one| name(&one.derivation)).collect();
            match names.as_slice() {
                [] => "FAILED to build".to_owned(),
                names => format!("FAILED to build: {}", names.join(", ")),
            }
        }
        Outcome::Unfinished { .. } => "NOT FINISHED".to_owned(),
        Outcome::NotPublished { .. } => "built, but NOT PUBLISHED in full".to_owned(),
    }
}

/// A changed input in one line.
pub(super) fn change(change: &InputChange) -> String {
    let name = &change.name;
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => {
            format!("{name}: {} → {}", from.description, to.description)
        }
        (None, Some(to)) => format!("{name}: {} (new)", to.description),
        (Some(from), None) => format!("{name}: {} (removed)", from.description),
        (None, None) => name.clone(),
    }
}

/// The whole report, for people.
pub fn summary(report: &Report) -> String {
    let mut lines = lock::start(report);
    for change in &report.changes {
        let place = |place: &Option<String>| place.clone().unwrap_or_else(|| "nothing".to_owned());
        lines.push(format!("{}: {} → {}", change.input, place(&change.from), place(&change.to)));
    }
    let width = report.hosts.iter().map(|host| host.host.as_str().len()).max().unwrap_or(0);
    for host in &report.hosts {
        lines.push(format!("{:width$}  {}", host.host, of_host(host)));
    }
    for host in &report.hosts {
        lines.extend(details(host));
    }
    lines.extend(retries(report));
    lines.extend(lock::held(report));
    for left_out in &report.left_out {
        lines.push(format!("\n{:?} was left out: it {}", left_out.name, left_out.reason));
    }
    let failed =
        report.hosts.iter().filter(|host| host.outcome.as_ref().is_some_and(|o| !o.is_good()));
    let failed = failed.count();
    let good = report.hosts.len() - failed;
    lines.push(String::new());
    lines.push(format!(
        "{good} of {} good; {} built, {} downloaded",
        count(report.hosts.len(), "host"),
        count(report.built, "derivation"),
        count(report.fetched, "path")
    ));
    lines.extend(lock::home(report));
    if let (Some(log), true) = (&report.log, failed > 0) {
        lines.push(format!("the whole log: {}", log.display()));
    }
    lines.join("\n")
}

/// What was tried again, and came to be.
fn retries(report: &Report) -> Vec<String> {
    let cured = report.retries.iter().filter(|retry| retry.succeeded);
    let line = |retry: &Retry| {
        let what = retry.derivation.as_deref().map_or("Nix", name);
        let why = match retry.why {
            FailureKind::Memory { inferred: false } => "died of memory",
            FailureKind::Memory { inferred: true } => "died of memory, as is inferred",
            _ => "failed of the network or the disk",
        };
        let cores = if retry.cores == 0 { "all".to_owned() } else { retry.cores.to_string() };
        format!(
            "\n{what} {why}, and was built with {}, cores: {cores}",
            count_of(retry.jobs, "job")
        )
    };
    cured.map(line).collect()
}

fn count_of(number: u32, what: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), what)
}

/// The whole report, for programs.
pub fn json(report: &Report) -> String {
    // Every key is text and every number finite, so this cannot fail.
    serde_json::to_string_pretty(report).unwrap_or_default()
}

fn of_host(host: &HostReport) -> String {
    let text = match (&host.outcome, &host.plan) {
        (Some(outcome), _) => self::outcome(outcome),
        (None, Some(plan)) => self::plan(plan),
        (None, None) => "evaluates".to_owned(),
    };
    match (host.revision, &host.store_path) {
        (Some(number), Some(path)) => format!("{text}, revision {number}: {path}"),
        _ => text,
    }
}

/// What went wrong with a host, and the end of the log that says so.
fn details(host: &HostReport) -> Vec<String> {
    let mut lines = Vec::new();
    match &host.outcome {
        Some(Outcome::EvaluationFailed { message }) => {
            lines.push(format!("\n{} cannot be evaluated:", host.host));
            lines.extend(message.lines().map(indented));
        }
        Some(Outcome::Unfinished { message }) => {
            lines.push(format!("\n{} was not finished:", host.host));
            lines.extend(message.lines().map(indented));
        }
        Some(Outcome::BuildFailed { failures, message, .. }) => {
            for failure in failures {
                let of = kind(failure);
                lines.push(format!("\n{}: {} failed{of}:", host.host, failure.derivation));
                let shown = failure.last_lines.len().saturating_sub(SHOWN_LINES);
                lines.extend(failure.last_lines[shown..].iter().map(|line| indented(line)));
            }
            if failures.is_empty() {
                lines.push(format!("\n{} did not build:", host.host));
                lines.extend(message.lines().map(indented));
            }
        }
        Some(Outcome::NotPublished { message }) => {
            lines.push(format!("\n{} was built, but could not be published in full:", host.host));
            lines.extend(message.lines().map(indented));
        }
        Some(Outcome::Built | Outcome::Unchanged) | None => {}
    }
    lines
}

/// What it failed of, where that is not itself.
fn kind(failure: &Failure) -> String {
    let most = failure.peak.map(|bytes| format!(", having taken {}", size(bytes)));
    let most = most.unwrap_or_default();
    match failure.kind {
        FailureKind::Itself => String::new(),
        FailureKind::Memory { inferred: false } => format!(" for want of memory{most}"),
        FailureKind::Memory { inferred: true } => {
            format!(" for want of memory, as is inferred{most}")
        }
        FailureKind::Transient => ", of the network or the disk".to_owned(),
        FailureKind::TimedOut => ", since it took too long for Nix".to_owned(),
    }
}
