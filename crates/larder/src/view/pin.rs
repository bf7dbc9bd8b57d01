//! Pins in lists.

use jiff::Timestamp;
use larder_cache::pin::{Pin, built::Standing, local::Listed};

/// A pin in a line.
pub(crate) fn line(listed: &Listed, now: Timestamp) -> String {
    let Listed { name, pin, lacking } = listed;
    let Some(Pin { paths, added, until: ends, .. }) = pin else {
        return format!("{name}: adding it was interrupted; add it again, or remove it");
    };
    let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    let until = until(*ends, now);
    let broken = match lacking.len() {
        0 => String::new(),
        count => format!(
            "; {count} of {} are not kept, since their roots are gone: add it again, or remove it",
            paths.len()
        ),
    };
    format!("{name}: {}; set {added:.0}, {until}{broken}", paths.join(" "))
}

/// Until when it lasts.
pub(crate) fn until(until: Option<Timestamp>, now: Timestamp) -> String {
    match until {
        Some(until) if until <= now => format!("ended {until:.0}"),
        Some(until) => format!("until {until:.0}"),
        None => "until it is removed".to_owned(),
    }
}

/// What is kept of what was built, in a line.
pub(crate) fn built(Standing { paths, next }: Standing) -> String {
    let what = if paths == 1 { "path is kept" } else { "paths are kept" };
    let until = match next {
        Some(next) => format!("the first until {next:.0}"),
        None => "from the next `larder pin prune` on counted".to_owned(),
    };
    format!("built here: {paths} {what}, {until}")
}

/// The same as JSON.
pub(crate) fn built_json(Standing { paths, next }: Standing) -> String {
    let next = next.map(|next| next.to_string());
    serde_json::json!({ "built": { "paths": paths, "firstUntil": next } }).to_string()
}

/// A pin as JSON.
pub(crate) fn json(listed: &Listed) -> String {
    let pin = listed.pin.as_ref();
    let object = serde_json::json!({
        "name": listed.name,
        "paths": pin.map(|pin| &pin.paths),
        "added": pin.map(|pin| pin.added.to_string()),
        "until": pin.and_then(|pin| pin.until).map(|until| until.to_string()),
        "lacking": listed.lacking,
    });
    object.to_string()
}
