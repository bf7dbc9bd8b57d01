//! What goes wrong when caches and the store are looked after: pins, collection, check and repair.

use larder_cache::{
    gc::{apply::CollectError, check::CheckError, index::IndexError, repair::RepairError},
    pin::{built::BuiltPinError, local::LocalPinError},
    record::{Name, RecordError},
    source::object_storage::CommitError,
};
use larder_formats::store_path::StorePath;

/// Why something was not kept, removed, checked or mended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepingError {
    #[error("{0} is a cache of another server, which looks after it: do this there")]
    Elsewhere(String),
    #[error("{0} is no cache yet: nothing was pushed there")]
    NoCacheThere(String),
    #[error("{0} is not in {1}: push it first (`larder push --to {1}`)")]
    NotInCache(StorePath, String),
    #[error("there is no pin {0}; `larder pin list` shows which there are")]
    NoSuchPin(Name),
    #[error(transparent)]
    LocalPin(#[from] LocalPinError),
    #[error(transparent)]
    BuiltPin(#[from] BuiltPinError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Present(#[from] CommitError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Repair(#[from] RepairError),
}

impl KeepingError {
    /// Whether another run of this machine's has to end first.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Index(IndexError::InUse(_)))
    }
}
