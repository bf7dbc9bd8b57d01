//! Words and lines that several views are made of.

use larder_cache::words;
pub(super) use larder_cache::words::{day, size};
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

/// So many of them as fit on a line.
pub(super) fn few<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    words::few(all, 8)
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
