//! One line for each thing that happens, for logs and pipes.

use larder_fleet::night::{Notice, Observer};
use larder_formats::store_path::StorePath;

use super::{note, summary};

/// Writes lines.
pub(super) struct Lines;

impl Observer for Lines {
    fn notice(&mut self, notice: Notice<'_>) {
        if let Some(line) = line(notice) {
            note(&line);
        }
    }
}

/// What is worth a line; the lines of build logs are not, since Nix keeps them.
pub(super) fn line(notice: Notice<'_>) -> Option<String> {
    Some(match notice {
        Notice::Fetching { flake } => format!("fetching {flake}"),
        Notice::Fetched { commit: Some(commit) } => format!("fetched commit {commit}"),
        Notice::Locking { update: true } => "updating the lock file".to_owned(),
        Notice::Locked { changes } if !changes.is_empty() => {
            changes.iter().map(summary::change).collect::<Vec<_>>().join("\n")
        }
        Notice::Evaluating(host) => format!("{host}: evaluating"),
        Notice::Evaluated(host, plan) => format!("{host}: {}", summary::plan(plan)),
        Notice::Checked(host) => format!("{host}: evaluates"),
        Notice::EvaluationFailed(host, _) => format!("{host}: cannot be evaluated"),
        Notice::BuildStarted { derivation, machine } => {
            format!("building {}", placed(derivation, machine))
        }
        Notice::FetchStarted { path, from } => format!("downloading {} from {from}", short(path)),
        Notice::Message(text) => text.to_owned(),
        Notice::Done(host, outcome) => format!("{host}: {}", summary::outcome(outcome)),
        _ => return None,
    })
}

/// What is built, and where, if not here.
pub(super) fn placed(derivation: &StorePath, machine: &str) -> String {
    match machine {
        "" => short(derivation).to_owned(),
        machine => format!("{} on {machine}", short(derivation)),
    }
}

/// A path as people speak of it: without the hash, and a derivation without its ending.
pub(super) fn short(path: &StorePath) -> &str {
    path.name().strip_suffix(".drv").unwrap_or(path.name())
}
