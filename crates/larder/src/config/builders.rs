//! `[[builder]]`: the machines that build for this one.
//!
//! Promises that what is read here can be taken for nothing else by ssh, by a shell, or in Nix's list of machines.

use std::str::FromStr;

use larder_fleet::builders::{Builder, BuilderName, SshHost, WordError};

use super::keys::Section;
use super::problem::{ValueError, quoted};
use super::reader::{Document, SectionReader};

/// Nix counts a builder's jobs by trying a lock for each.
const MOST_JOBS: u32 = 1024;

/// The builders, in the order of the file.
pub(super) fn read(document: &mut Document<'_, '_>) -> Vec<Builder> {
    // The names and hosts of broken ones count as well, so that one slip is one problem.
    let mut names: Vec<BuilderName> = Vec::new();
    let mut hosts: Vec<SshHost> = Vec::new();
    let builders = document.each(Section::Builder, |section| {
        let name = section.required("name", |text| unlike(text, &names, "name"));
        let own = name.as_ref().map(BuilderName::as_str);
        let host = match own {
            Some(name) if !section.has("host") => {
                // Said of the name, since that is what was written.
                section.text("name", |_| unlike(name, &hosts, "host"))
            }
            _ => section.text("host", |text| unlike(text, &hosts, "host")),
        };
        names.extend(name.clone());
        hosts.extend(host.clone());
        builder(section, name, host)
    });
    builders.into_iter().flatten().collect()
}

fn word<T: FromStr<Err = WordError>>(text: &str) -> Result<T, ValueError> {
    text.parse().map_err(|error: WordError| {
        let what = format!("{} cannot be {}", quoted(&error.text), error.what);
        ValueError::new(what, error.remedy)
    })
}

fn unlike<T: FromStr<Err = WordError> + PartialEq>(
    text: &str,
    before: &[T],
    what: &str,
) -> Result<T, ValueError> {
    let value = word(text)?;
    if before.contains(&value) {
        return Err(ValueError::new(
            format!("{} is the {what} of a builder above already", quoted(text)),
            format!("give each builder a {what} of its own"),
        ));
    }
    Ok(value)
}

fn builder(
    section: &mut SectionReader<'_, '_, '_>,
    name: Option<BuilderName>,
    host: Option<SshHost>,
) -> Option<Builder> {
    // All keys are read before those that are needed are missed, for their problems.
    let port = section.number("port", 1..=u32::from(u16::MAX));
    let user = section.text("user", word);
    let key = section.text("key", word);
    let host_key = section.text("host-key", word);
    let systems = section.required_list("systems", word);
    let known = systems.clone().unwrap_or_default();
    let emulated = section.list("emulated", |text| {
        let system = word(text)?;
        if systems.is_some() && !known.contains(&system) {
            let what = format!("{} is not among the builder's `systems`", quoted(text));
            return Err(ValueError::new(what, "name it there too, or take it out here"));
        }
        Ok(system)
    });
    let max_jobs = section.number("max-jobs", 1..=MOST_JOBS).unwrap_or(1);
    let reserved_jobs = section.number("reserved-jobs", 0..=MOST_JOBS).unwrap_or(0);
    let speed_factor = section.number("speed-factor", 1..=1_000_000).unwrap_or(1);
    let features = section.list("features", word).unwrap_or_default();
    let mandatory_features = section.list("mandatory-features", word).unwrap_or_default();
    Some(Builder {
        name: name?,
        host: host?,
        port: port.and_then(|port| u16::try_from(port).ok()),
        user,
        key,
        host_key,
        systems: systems?,
        emulated: emulated.unwrap_or_default(),
        max_jobs,
        reserved_jobs,
        speed_factor,
        features,
        mandatory_features,
    })
}
