//! Pins in lists.

use jiff::Timestamp;
use larder_cache::pin::{Pin, local::Listed};

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
