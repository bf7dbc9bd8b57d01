//! The texts that stay: what a run came to.

use std::{collections::BTreeSet, time::Duration};

use larder_fleet::{
    ledger::{FailureKind, Outcome},
    night::{BuildPlan, Durations, End, Headline, HostReport, Report, Retry, Versions},
};
use larder_formats::lock_file::InputChange;

use super::{
    lock,
    text::{count, day, failures, few, indented, name, size},
};

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

/// The whole report, for people: what is not as it should be comes first behind the hosts.
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
    lines.extend(report.hosts.iter().flat_map(details));
    lines.extend(retries(report));
    lines.extend(lock::held(report));
    for left_out in &report.left_out {
        lines.push(format!("\n{:?} was left out: it {}", left_out.name, left_out.reason));
    }
    let versions: Vec<String> = report.hosts.iter().filter_map(versions).collect();
    if !versions.is_empty() {
        lines.push(String::new());
        lines.extend(versions);
    }
    lines.push(String::new());
    lines.extend(ending(report));
    lines.push(figures(report));
    lines.extend(lock::home(report));
    lines.extend(resources(report));
    if let (Some(log), true) = (&report.log, report.failed().next().is_some()) {
        lines.push(format!("the whole log: {}", log.display()));
    }
    lines.join("\n")
}

/// A kept report, with what a report that is shown at once need not say.
pub fn kept(report: &Report) -> String {
    let number = report.run.map(|run| format!("run {run}")).unwrap_or_default();
    let began = report.began.map(|began| format!(", begun {began:.0}")).unwrap_or_default();
    format!("{number} of {}{began}\n{}", report.flake, summary(report))
}

/// A run in a line.
pub fn headline(run: &Headline) -> String {
    let Headline { end, hosts, failed, held, .. } = run;
    let hosts = match end {
        End::Finished => format!("{} of {} good", hosts - failed.len(), count(*hosts, "host")),
        End::Cancelled => "cancelled".to_owned(),
        End::Stopped { reason } => format!("stopped: {}", first_line(reason)),
        End::Failed { message } => format!("FAILED: {}", first_line(message)),
    };
    let mut parts = vec![hosts];
    if !failed.is_empty() {
        parts.push(format!("failed: {}", few(failed.iter().map(String::as_str))));
    }
    if !held.is_empty() {
        parts.push(format!("held: {}", few(held.iter().map(String::as_str))));
    }
    parts.join("; ")
}

/// How a run ended that did not come to its end.
fn ending(report: &Report) -> Option<String> {
    match &report.end {
        End::Finished => None,
        End::Cancelled => Some("the run was cancelled".to_owned()),
        End::Stopped { reason } => Some(format!("the run stopped before its end: {reason}")),
        End::Failed { message } => Some(format!("the run FAILED: {message}")),
    }
}

fn figures(report: &Report) -> String {
    let good = report.hosts.len() - report.failed().count();
    format!(
        "{good} of {} good; {} built, {} downloaded",
        count(report.hosts.len(), "host"),
        count(report.built, "derivation"),
        count(report.fetched, "path")
    )
}

/// What it took; nothing for a report that was not measured.
fn resources(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.began.is_some() {
        let seconds =
            |milliseconds: u64| indicatif::HumanDuration(Duration::from_millis(milliseconds));
        let Durations { whole, evaluation, building } = report.durations;
        let mut parts = vec![format!(
            "took {:#} (evaluation {:#}, building {:#})",
            seconds(whole),
            seconds(evaluation),
            seconds(building)
        )];
        if report.downloaded_bytes > 0 {
            parts.push(format!("{} downloaded", size(report.downloaded_bytes)));
        }
        if let Some(disk) = &report.disk {
            parts.push(format!("disk: {} used, {} free", size(disk.used), size(disk.free)));
        }
        lines.push(parts.join("; "));
    }
    if !report.peaks.is_empty() {
        let peaks: Vec<String> =
            report.peaks.iter().map(|peak| format!("{} {}", peak.name, size(peak.bytes))).collect();
        lines.push(format!("most memory: {}", few(peaks.iter().map(String::as_str))));
    }
    lines
}

/// What is another in a host's new system, in a line.
fn versions(host: &HostReport) -> Option<String> {
    let Versions { changes, omitted } = host.versions.as_ref()?;
    let packages = &changes.packages;
    let joined = |versions: &BTreeSet<String>| {
        let all: Vec<&str> = versions.iter().map(String::as_str).collect();
        all.join(", ")
    };
    let changed: Vec<String> = packages
        .changed
        .iter()
        .map(|it| format!("{} {} → {}", it.name, joined(&it.before), joined(&it.after)))
        .collect();
    let mut parts = Vec::new();
    if !changed.is_empty() {
        parts.push(few(changed.iter().map(String::as_str)));
    }
    for (packages, what) in [(&packages.added, "new"), (&packages.removed, "gone")] {
        if !packages.is_empty() {
            parts.push(format!("{what}: {}", few(packages.iter().map(|it| it.name.as_str()))));
        }
    }
    if *omitted > 0 {
        parts.push(format!("{} more", count(*omitted, "package")));
    }
    if packages.rebuilt > 0 {
        parts.push(format!("{} rebuilt", count(packages.rebuilt, "package")));
    }
    let before = changes.closure_before.unwrap_or(0);
    let (sign, by) = match changes.closure_after.checked_sub(before) {
        Some(more) => ("+", more),
        None => ("-", before - changes.closure_after),
    };
    parts.push(format!("{} ({sign}{})", size(changes.closure_after), size(by)));
    Some(format!("{}: {}", host.host, parts.join("; ")))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
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
        let jobs = count(usize::try_from(retry.jobs).unwrap_or(usize::MAX), "job");
        format!("\n{what} {why}, and was built with {jobs}, cores: {cores}")
    };
    cured.map(line).collect()
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
        Some(Outcome::BuildFailed { failures: failed, message, .. }) => {
            if failed.is_empty() {
                lines.push(format!("\n{} did not build:", host.host));
            }
            lines.extend(failures(&format!("{}: ", host.host), failed, message));
        }
        Some(Outcome::NotPublished { message }) => {
            lines.push(format!("\n{} was built, but could not be published in full:", host.host));
            lines.extend(message.lines().map(indented));
        }
        Some(Outcome::Built | Outcome::Unchanged) | None => {}
    }
    lines.extend(meanwhile(host));
    lines
}

/// Since when a host fails, and what its machines have meanwhile.
fn meanwhile(host: &HostReport) -> Option<String> {
    let since = host.failing_since?;
    let text = match host.last_good {
        Some(good) => format!("its last good revision is {} of {}", good.revision, day(good.time)),
        None => "it never had a good revision".to_owned(),
    };
    Some(format!("  ({} fails since {}; {text})", host.host, day(since)))
}
