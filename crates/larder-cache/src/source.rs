//! Caches that stand on something that is not a cache.

mod local_store;
pub mod object_storage;

pub use local_store::LocalStore;
pub use object_storage::ObjectStorage;
