//! What a collection shows.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_cache::gc::{
    apply::{Failure, Outcome, Progress},
    plan::Plan,
};

use super::text::{count, size};

/// Things that are named one by one; of more, only so many.
pub(super) const NAMED: usize = 20;

/// A bar over what is removed. Without a terminal nothing is shown: what is planned was told.
pub(crate) struct Counter(ProgressBar);

impl Counter {
    /// A bar for something that is about to begin.
    pub(crate) fn new(doing: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // As in the view of a push: a wrong template would show at once.
        if let Ok(style) = ProgressStyle::with_template("{prefix}: {pos} of {len}, {eta} left") {
            bar.set_style(style);
        }
        bar.set_prefix(doing.to_owned());
        Self(bar)
    }

    /// What moves it.
    pub(crate) fn observer(&self) -> impl Fn(Progress) + Sync + use<> {
        let bar = self.0.clone();
        move |progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What a collection would remove.
pub(crate) fn plan(cache: &str, plan: &Plan) -> String {
    format!("{cache}:\n{}", plan.to_string().trim_end())
}

/// What came of it.
pub(crate) fn outcome(cache: &str, outcome: &Outcome) -> String {
    let mut text = format!(
        "{cache}: removed {}, {} and {}, {}",
        count(outcome.paths, "path"),
        count(outcome.nars, "NAR file"),
        count(outcome.objects, "other object"),
        size(outcome.freed),
    );
    if outcome.spared > 0 {
        text.push_str(&format!("; {} stayed, being needed by now", outcome.spared));
    }
    if outcome.left > 0 {
        text.push_str(&format!("; told to stop before {} more", outcome.left));
    }
    text.push_str(&failures(&outcome.failures));
    text
}

/// What could not be removed.
pub(super) fn failures(failures: &[Failure]) -> String {
    if failures.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{} could not be removed:", failures.len());
    for failure in failures.iter().take(NAMED) {
        let reason = match &failure.error {
            Some(error) => error.to_string(),
            None => "something that refers to it stays, or time ran out".to_owned(),
        };
        text.push_str(&format!("\n  {}: {reason}", failure.what));
    }
    if failures.len() > NAMED {
        text.push_str(&format!("\n  and {} more", failures.len() - NAMED));
    }
    text.push_str("\nThe next one tries again.");
    text
}
