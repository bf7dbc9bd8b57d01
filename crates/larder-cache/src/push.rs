//! Brings paths of one cache to another: plan, then send.
//!
//! Promises that nothing is sent that is there, that a path appears after all it refers to, and that what was
//! planned is there in the end or is named with the reason why not. An interrupted push is simply
//! begun again. It deliberately does not know what the places are.

mod closure;
mod deliver;
mod inspect;
mod plan;
mod send;

use std::sync::Arc;

use larder_formats::{narinfo::NarInfo, signature::SecretKey, store_path::StorePath};

pub use self::{
    closure::ClosureError,
    deliver::{DeliverError, Delivery},
    inspect::{InspectError, Inspected, inspect},
    plan::{Plan, PlanError, not_upstream},
    send::{Failure, SendError, Sent},
};
use crate::{
    cache::Cache, compression::Packing, source::object_storage::ObjectStorage, upstream::Upstream,
};

/// From where to where, and how.
pub struct Push {
    /// Where the paths are.
    pub from: Arc<dyn Cache>,
    /// Where they shall be.
    pub to: ObjectStorage,
    /// What they have need not be sent.
    pub upstreams: Vec<Upstream>,
    /// How NARs are packed.
    pub packing: Packing,
    /// Who signs besides those who have.
    pub keys: Vec<SecretKey>,
    /// How many paths are under way at once.
    pub at_once: usize,
}

/// What happens while paths are sent.
#[derive(Clone, Debug)]
pub enum Event {
    /// So many bytes of NARs are to be read.
    Planned(u64),
    /// A path's turn has come.
    Started(Arc<NarInfo>),
    /// So many bytes of NARs were read.
    Passed(usize),
    /// A path is there; its file has so many bytes.
    Finished(StorePath, u64),
    /// A path failed for now, for this reason, and is tried again.
    TriedAgain(StorePath, String),
    /// A path failed.
    Failed(StorePath, String),
}

/// Is told what happens.
pub type Observer = Arc<dyn Fn(Event) + Send + Sync>;
