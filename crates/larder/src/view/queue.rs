//! What waits to be pushed, in words.

use larder_cache::queue::Waiting;
use larder_formats::store_path::StorePath;

use super::text::size;
use crate::{
    pusher::{Pass, State},
    report::Error,
};

/// Paths that are named one by one; of more, only so many.
const NAMED: usize = 20;

/// One cache.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    /// Whether it is in `to`.
    pub(crate) is_target: bool,
    /// What waits for it, oldest first.
    pub(crate) waiting: &'a [Waiting],
    /// Bytes of the NARs of that, without what it refers to.
    pub(crate) bytes: u64,
    pub(crate) state: &'a State,
}

fn paths(count: usize) -> String {
    if count == 1 { "1 path".to_owned() } else { format!("{count} paths") }
}

/// What is to be said of a cache.
pub(crate) fn row(row: &Row<'_>) -> String {
    let Row { name, is_target, waiting, bytes, state } = row;
    let Some(oldest) = waiting.first() else { return format!("{name}: nothing waits") };
    let verb = if waiting.len() == 1 { "waits" } else { "wait" };
    let mut text = format!(
        "{name}: {} {verb} ({}), since {:.0}",
        paths(waiting.len()),
        size(*bytes),
        oldest.since
    );
    if !is_target {
        text.push_str(&format!(
            "\n  {name} is not in `to` under [push]: write it there, or `larder push --forget --to {name}`"
        ));
    }
    if let Some(trouble) = &state.trouble {
        text.push_str(&format!(
            "\n  since {:.0}: {}\n  tried again at {:.0}",
            trouble.since, trouble.error, trouble.next
        ));
    }
    for (path, reason) in state.refused.iter().take(NAMED) {
        text.push_str(&format!("\n  refused: {path}: {reason}"));
    }
    if state.refused.len() > NAMED {
        text.push_str(&format!("\n  and {} more refused", state.refused.len() - NAMED));
    }
    if !state.refused.is_empty() {
        text.push_str(&format!(
            "\n  Allow what is no secret with `allow-secrets` and reload, or drop it: larder push --forget \
             --to {name} PATH"
        ));
    }
    text
}

/// What nobody has looked at yet.
pub(crate) fn handed_in(count: usize) -> Option<String> {
    (count > 0).then(|| format!("{} handed in just now, for all caches of `to`", paths(count)))
}

/// Nobody sends.
pub(crate) fn nobody_at_work(nothing_waits: bool) -> String {
    let need = if nothing_waits { "what comes to wait stays here" } else { "nothing is sent" };
    format!("nobody is at work, so {need}: start `larder push --watch`, or `larder serve`")
}

/// What came of one attempt to send what waits.
pub(crate) fn passed(name: &str, pass: &Result<Pass, Error>) -> String {
    let later = format!("`larder push --status` shows what waits for {name}");
    match pass {
        Ok(Pass::Idle) => format!("{name}: nothing to push"),
        Ok(Pass::Did(delivery)) => {
            let mut text =
                format!("{name}: {} pushed, {}", paths(delivery.sent), size(delivery.bytes));
            if let Some(first) = delivery.failures.first() {
                text.push_str(&format!("; {} failed: {first}", paths(delivery.failures.len())));
            }
            for finding in delivery.refused.iter().flat_map(|it| &it.findings).take(NAMED) {
                text.push_str(&format!("\n  refused: {finding}"));
            }
            if !(delivery.failures.is_empty() && delivery.refused.is_empty()) {
                text.push_str(&format!("\n{later}"));
            }
            text
        }
        Err(error) => format!("{name}: {error}\n{later}; it is tried again"),
    }
}

/// What was dropped.
pub(crate) fn forgotten(cache: &str, dropped: &[StorePath]) -> String {
    match dropped {
        [] => format!("{cache}: nothing of that waited"),
        dropped => format!("{cache}: {} dropped", paths(dropped.len())),
    }
}
