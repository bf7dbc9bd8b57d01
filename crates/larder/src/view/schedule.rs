//! Schedules in lists.

use jiff::{Timestamp, tz::TimeZone};
use larder_fleet::schedule::{Ending, Fate, Run, Schedule};

/// A schedule, and what is known of it.
pub(crate) struct Listed<'a> {
    pub(crate) schedule: &'a Schedule,
    /// When it is begun next.
    pub(crate) next: Option<Timestamp>,
    /// How the last run ended that did.
    pub(crate) last: Option<Ending>,
    /// The run of which no end is known, or was not when it was looked.
    pub(crate) run: Option<(Run, Fate)>,
}

/// A schedule in a line.
pub(crate) fn line(listed: &Listed<'_>, zone: &TimeZone) -> String {
    let time =
        |time: Timestamp| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
    let Listed { schedule, next, last, run } = listed;
    let next = next.map_or("never".to_owned(), time);
    let last = match last {
        None => "no run has ended yet".to_owned(),
        Some(last) => format!("last run ended {}: {}", time(last.ended), meaning(last.status)),
    };
    let now = match run {
        Some((run, Fate::Alive)) => format!("; under way since {}", time(run.begun)),
        Some((run, Fate::Dead)) => {
            format!("; the run begun {} was broken off", time(run.begun))
        }
        Some((_, Fate::Busy)) => "; waits for another run to end".to_owned(),
        Some((_, Fate::Ended(_))) | None => String::new(),
    };
    format!("{}: {}, next {next}; {last}{now}", schedule.name, schedule.at)
}

/// A schedule as JSON.
pub(crate) fn json(listed: &Listed<'_>) -> String {
    let Listed { schedule, next, last, run } = listed;
    let state = run.as_ref().map(|(_, fate)| match fate {
        Fate::Alive => "underWay",
        Fate::Dead => "brokenOff",
        Fate::Busy => "waiting",
        Fate::Ended(_) => "ended",
    });
    let object = serde_json::json!({
        "name": schedule.name,
        "at": schedule.at.to_string(),
        "next": next.map(|next| next.to_string()),
        "last": last,
        "run": run.as_ref().map(|(run, _)| run),
        "state": state,
    });
    object.to_string()
}

/// What an exit status says of a run.
pub(crate) fn meaning(status: u8) -> String {
    match status {
        0 => "all is well".to_owned(),
        3 => "some hosts failed".to_owned(),
        130 => "cancelled".to_owned(),
        other => format!("it failed (exit status {other})"),
    }
}
