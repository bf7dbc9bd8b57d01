//! Everything that answers for store paths is a [`Cache`](cache::Cache); every feature is a wrapper around one.
//!
//! Knows nothing of HTTP: the web crate turns a cache into a binary cache server.

pub mod cache;
pub mod layer;
pub mod secrets;
pub mod source;
pub mod storage;
