//! What an upgrade will do, as values.
//!
//! Promise: nothing here looks at the system. What was found out is put in, what people and programs are shown
//! comes out; the whole serializes, and that is the JSON that is documented for `larder upgrade --json`.

mod builds;
mod changes;
mod downloads;
mod reason;
mod room;

use larder_formats::store_path::StorePath;
use serde::Serialize;

pub use self::{
    builds::{Allowed, Builds, Class},
    changes::{Change, Changes, Closure, Package, PackageDiff, Reboot},
    downloads::{Downloads, FromCache},
    reason::{CacheAnswer, Reason, Refused, UnreachableCache},
    room::{Partition, Room},
};

/// What an upgrade will do, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The system that runs.
    pub running: Option<StorePath>,
    /// The system to come, once its path is known.
    pub system: Option<StorePath>,
    /// What is downloaded.
    pub downloads: Downloads,
    /// What is built here.
    pub builds: Builds,
    /// What would have to be built here and is not allowed to be. While there is any, nothing is done.
    pub refused: Vec<Refused>,
    /// Room on the partitions that are written to.
    pub room: Vec<Room>,
    /// What is another in the system to come. `None` until its closure is known.
    pub changes: Option<Changes>,
    /// What of it only a reboot brings. `None` until the system is there.
    pub reboot: Option<Reboot>,
}

impl Plan {
    /// The partitions that are too small.
    pub fn short(&self) -> impl Iterator<Item = &Room> {
        self.room.iter().filter(|room| room.is_short())
    }
}
