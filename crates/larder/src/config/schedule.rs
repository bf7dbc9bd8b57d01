//! `[[schedule]]`: when the fleet is built.
//!
//! Promises that each schedule has a name of its own, and times that come.

use std::time::Duration;

use jiff::SignedDuration;
use larder_cache::record::Name;
use larder_fleet::{
    host::HostName,
    schedule::{Calendar, Schedule},
};

use super::keys::Section;
use super::problem::{ValueError, quoted};
use super::reader::{Document, SectionReader};
use super::value;

const JITTER: Duration = Duration::from_secs(15 * 60);
const PIN_BUILT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// `[[schedule]]`: one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// When.
    pub schedule: Schedule,
    /// The hosts to build; none means every host that no other schedule names. Never empty.
    pub hosts: Option<Vec<HostName>>,
    /// Hosts that are left out.
    pub except: Vec<HostName>,
    /// Whether the lock is updated first.
    pub update: bool,
}

/// Every schedule, in the order of the file.
pub(super) fn read(document: &mut Document<'_, '_>) -> Vec<ScheduleConfig> {
    let mut names: Vec<Name> = Vec::new();
    let schedules = document.each(Section::Schedule, |section| {
        let name = section.required("name", |text| name(text, &names));
        names.extend(name.clone());
        schedule(section, name)
    });
    schedules.into_iter().flatten().collect()
}

/// How long what was built is kept; nothing for not at all.
pub(super) fn pin_built(build: &mut SectionReader<'_, '_, '_>) -> Option<Duration> {
    build.text("pin-built", duration_or_off).unwrap_or(Some(PIN_BUILT))
}

fn schedule(section: &mut SectionReader<'_, '_, '_>, name: Option<Name>) -> Option<ScheduleConfig> {
    // All keys are read before the two that are needed are missed, for their problems.
    let at = section.required("at", calendar);
    let without = "every host that no other schedule names";
    let hosts = section.filled_list("hosts", value::host_name, without);
    let except = section.list("except", value::host_name).unwrap_or_default();
    let jitter = section.text("jitter", duration_or_off).unwrap_or(Some(JITTER));
    let catch_up = section.truth("catch-up").unwrap_or(true);
    let update = section.truth("update").unwrap_or(true);
    let jitter = jitter.unwrap_or_default();
    let jitter = SignedDuration::try_from(jitter).unwrap_or(SignedDuration::MAX);
    let schedule = Schedule { name: name?, at: at?, jitter, catch_up };
    Some(ScheduleConfig { schedule, hosts, except, update })
}

fn name(text: &str, before: &[Name]) -> Result<Name, ValueError> {
    let name: Name = text.parse().map_err(|_| {
        let what = format!("{} cannot be a schedule's name", quoted(text));
        ValueError::new(what, "write a word of letters, digits and `. _ -`, for example `nightly`")
    })?;
    if before.contains(&name) {
        return Err(ValueError::new(
            format!("{} is the name of a schedule above already", quoted(text)),
            "give each schedule a name of its own",
        ));
    }
    Ok(name)
}

fn calendar(text: &str) -> Result<Calendar, ValueError> {
    text.parse().map_err(|error| {
        ValueError::new(
            format!("{} is no time of a schedule: {error}", quoted(text)),
            "write a time of day (`02:00`), or cron's five fields: minute, hour, day of the month, month, day of the \
             week (`30 1 * * 1-5`)",
        )
    })
}

/// A duration; nothing for `0` and `off`.
fn duration_or_off(text: &str) -> Result<Option<Duration>, ValueError> {
    match text {
        "0" | "off" => Ok(None),
        text => value::duration(text).map(Some),
    }
}
