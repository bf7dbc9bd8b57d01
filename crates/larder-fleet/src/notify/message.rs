//! What is sent, as people read it.

use jiff::Timestamp;
use larder_cache::words::day;
use serde::{Deserialize, Serialize};

use super::event::{Event, Failed};
use crate::{
    ledger::Failure,
    night::{End, Report},
    plain::plain,
};

/// The version of the JSON of [`Message`].
const FORMAT: u32 = 1;

/// Lines of a log that a message shows, and of what Nix said; the report has more.
const SHOWN_LINES: usize = 10;

/// Failed derivations of which a message shows the log.
const SHOWN_FAILURES: usize = 3;

/// Bytes of a line.
const LONGEST_LINE: usize = 300;

/// Characters of a title.
const LONGEST_TITLE: usize = 120;

/// One message, to one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The version of this format.
    pub format: u32,
    /// Its own name. The same message may arrive twice: after a crash, or where an answer got lost.
    pub id: String,
    /// What it is.
    pub kind: MessageKind,
    /// When it was written.
    pub time: Timestamp,
    /// The run that it is about.
    pub run: Option<i64>,
    /// A line.
    pub title: String,
    /// The whole, for people.
    pub text: String,
    /// The whole, for programs.
    pub events: Vec<Event>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// Something has changed.
    Change,
    /// How all is.
    Digest,
    /// A test.
    Test,
}

impl Message {
    /// A message about these changes, which a run brought, and about how all is where a report is given.
    pub fn new(
        id: String,
        time: Timestamp,
        events: Vec<Event>,
        (run, digest): (Option<i64>, Option<&Report>),
    ) -> Self {
        let kind = if events.is_empty() { MessageKind::Digest } else { MessageKind::Change };
        let title = match kind {
            MessageKind::Change => title(&events),
            _ => "Larder: how it stands".to_owned(),
        };
        let mut text: Vec<String> = events.iter().map(paragraph).collect();
        text.extend(digest.map(standing));
        let text = text.join("\n\n");
        Self { format: FORMAT, id, kind, time, run, title, text, events }
    }

    /// A message that says only that messages arrive.
    pub fn test(id: String, time: Timestamp) -> Self {
        Self {
            format: FORMAT,
            id,
            kind: MessageKind::Test,
            time,
            run: None,
            title: "Larder: a test".to_owned(),
            text: "This is a test of `larder notify test`. Nothing has happened.".to_owned(),
            events: Vec::new(),
        }
    }

    /// Whether there is anything in it to be said.
    pub fn says_something(&self) -> bool {
        !self.text.is_empty()
    }
}

fn title(events: &[Event]) -> String {
    let parts: Vec<String> = events.iter().map(in_short).collect();
    let mut title = format!("Larder: {}", parts.join("; "));
    if title.chars().count() > LONGEST_TITLE {
        title = title.chars().take(LONGEST_TITLE - 1).chain(['…']).collect();
    }
    title
}

fn in_short(event: &Event) -> String {
    match event {
        Event::HostFailed(Failed { host, failed_before: false, .. }) => {
            format!("{} fails", line(host))
        }
        Event::HostFailed(Failed { host, .. }) => {
            format!("{} fails for another reason", line(host))
        }
        Event::HostRecovered { host, .. } => format!("{} is good again", line(host)),
        Event::RunFailed { schedule, .. } => format!("the {} fails", run(schedule.as_deref())),
        Event::RunRecovered { schedule } => {
            format!("the {} is good again", run(schedule.as_deref()))
        }
        Event::InputHeld { input, .. } => format!("{} is held", line(input)),
        Event::HoldEnded { input } => format!("{} is no longer held", line(input)),
        Event::Overdue { .. } => "no build run ends any more".to_owned(),
        Event::Resumed => "build runs end again".to_owned(),
    }
}

fn paragraph(event: &Event) -> String {
    match event {
        Event::HostFailed(failed) => host_failed(failed),
        Event::HostRecovered { host, revision } => {
            let revision = revision.map(|number| format!(", with revision {number}"));
            format!("{} is good again{}.", line(host), revision.unwrap_or_default())
        }
        Event::RunFailed { schedule, message } => {
            let (run, why) = (run(schedule.as_deref()), end_of(message));
            format!("The {run} did not come to its end:{why}")
        }
        Event::RunRecovered { schedule } => {
            format!("The {} has come to its end again.", run(schedule.as_deref()))
        }
        Event::InputHeld { input, at, bad, hosts, failures, message } => {
            let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
            let (hosts, why) = (hosts.join(", "), why(failures, message));
            format!(
                "{} is held at {}: with {}, {hosts} would fail.{why}",
                line(input),
                line(at),
                line(bad)
            )
        }
        Event::HoldEnded { input } => format!("{} is no longer held.", line(input)),
        Event::Overdue { since } => format!(
            "No build run has come to its end since {since:.0}. See on the server whether runs begin (`larder report --list`)."
        ),
        Event::Resumed => "A build run has come to its end, the first for long.".to_owned(),
    }
}

fn run(schedule: Option<&str>) -> String {
    schedule.map_or_else(|| "build run".to_owned(), |name| format!("run of {}", line(name)))
}

fn host_failed(failed: &Failed) -> String {
    let mut text = format!("{} {}", line(&failed.host), line(&failed.what));
    if failed.failed_before {
        text.push_str(" (before, it failed for another reason)");
    }
    if let Some(since) = failed.since {
        text.push_str(&format!(", since {}", day(since)));
    }
    if let Some(good) = failed.last_good {
        let stays = format!("; it stays at revision {} of {}", good.revision, day(good.time));
        text.push_str(&stays);
    }
    format!("{text}.{}", why(&failed.failures, &failed.message))
}

/// The ends of the logs; without any, the end of what Nix said.
fn why(failures: &[Failure], message: &str) -> String {
    if failures.is_empty() {
        return end_of(message);
    }
    let mut text = String::new();
    for failure in failures.iter().take(SHOWN_FAILURES) {
        text.push_str(&format!("\n{}:", line(&failure.derivation)));
        let from = failure.last_lines.len().saturating_sub(SHOWN_LINES);
        text.extend(failure.last_lines[from..].iter().map(|it| format!("\n  {}", line(it))));
    }
    let more = failures.len().saturating_sub(SHOWN_FAILURES);
    if more > 0 {
        text.push_str(&format!("\nand {more} more"));
    }
    text
}

fn end_of(message: &str) -> String {
    let lines: Vec<&str> = message.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    lines[from..].iter().map(|it| format!("\n  {}", line(it))).collect()
}

/// How all is, after a run.
fn standing(report: &Report) -> String {
    let failed: Vec<&str> = report.failed().map(|host| host.host.as_str()).collect();
    let mut lines = Vec::new();
    let number = report.run.map(|run| format!(" {run}")).unwrap_or_default();
    let ended = report.ended.map(|ended| format!(" of {ended:.0}")).unwrap_or_default();
    let how = match &report.end {
        End::Finished => {
            format!("{} of {} hosts good", report.hosts.len() - failed.len(), report.hosts.len())
        }
        End::Cancelled => "cancelled".to_owned(),
        End::Stopped { reason } => format!("stopped: {}", line(reason)),
        End::Failed { message } => format!("failed: {}", line(message)),
    };
    lines.push(format!("The last run{number}{ended}: {how}."));
    lines.extend(report.failed().map(|host| {
        let since = host.failing_since.map(day);
        format!("  {} fails since {}", host.host, since.unwrap_or_else(|| "then".to_owned()))
    }));
    lines.extend(report.held.iter().map(|held| {
        let since = day(held.since);
        format!("  {} is held at {} since {since}", line(&held.input), line(&held.at))
    }));
    let updated = report.hosts.iter().filter(|host| host.versions.is_some());
    lines.extend(updated.map(|host| {
        let packages = host.versions.as_ref().map(|it| &it.changes.packages);
        let count = packages.map_or(0, |it| it.changed.len() + it.added.len() + it.removed.len());
        format!("  {}: {count} packages are others", host.host)
    }));
    lines.join("\n")
}

/// The first line of a text, of which only so much.
fn line(text: &str) -> String {
    let text = plain(text.lines().next().unwrap_or_default());
    match text.char_indices().nth(LONGEST_LINE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
