//! Words and lines that several views are made of.

use jiff::Timestamp;
use larder_fleet::ledger::{Failure, FailureKind};

/// Lines of a failed build's log that are shown; the whole log is named beside them.
const SHOWN_LINES: usize = 10;

pub(super) fn indented(line: &str) -> String {
    format!("  {line}").trim_end().to_owned()
}

pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The name in a derivation's base name.
pub(super) fn name(derivation: &str) -> &str {
    let name = derivation.split_once('-').map_or(derivation, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

/// A number of bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A time's day, which is what people ask for of what lasts.
pub(super) fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// So many of them as fit on a line.
pub(super) fn few<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let all: Vec<&str> = all.into_iter().collect();
    let shown = all[..all.len().min(SHOWN)].join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Derivations that failed, each with the end of its log; without any, what Nix said.
pub(super) fn failures(whose: &str, failures: &[Failure], message: &str) -> Vec<String> {
    if failures.is_empty() {
        return message.lines().map(indented).collect();
    }
    let mut lines = Vec::new();
    for failure in failures {
        lines.push(format!("\n{whose}{} failed{}:", failure.derivation, kind(failure)));
        let shown = failure.last_lines.len().saturating_sub(SHOWN_LINES);
        lines.extend(failure.last_lines[shown..].iter().map(|line| indented(line)));
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
