//! How much of the machine, and of the time, a run of builds may take.

use std::time::Duration;

use larder_fleet::host::HostName;

use super::reader::SectionReader;
use super::size::ByteSize;
use super::value::{self, duration};

/// The part of `[build]` that bounds a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For everything that is evaluated and built at a time.
    pub memory: Option<ByteSize>,
    /// What is to stay free where the store is.
    pub min_free_disk: ByteSize,
    /// For a whole run. More than nothing.
    pub time_limit: Option<Duration>,
    /// For what only one host needs. More than nothing.
    pub host_time_limit: Option<Duration>,
    /// The hosts to build before the others.
    pub first: Vec<HostName>,
}

pub(super) fn read(section: &mut SectionReader<'_, '_, '_>) -> Bounds {
    Bounds {
        memory: section.text("memory", str::parse),
        min_free_disk: section.text("min-free-disk", str::parse).unwrap_or(ByteSize::MIN_FREE_DISK),
        time_limit: section.text("time-limit", duration),
        host_time_limit: section.text("host-time-limit", duration),
        first: section.list("first", value::host_name).unwrap_or_default(),
    }
}
