//! Caches that stand on something that is not a cache.

mod local_store;

pub use local_store::LocalStore;
