//! Everything that answers for store paths is a [`Cache`](cache::Cache); every feature is a wrapper around one.
//!
//! Knows nothing of HTTP: the web crate turns a cache into a binary cache server.

pub mod cache;
pub mod collection;
pub mod compression;
pub mod gc;
mod hashing;
pub mod http;
pub mod last_use;
pub mod layer;
pub mod lease;
pub mod names;
pub mod on_a_thread;
pub mod packed;
pub mod pin;
pub mod proxy;
pub mod push;
pub mod queue;
pub mod record;
pub mod root_folder;
pub mod secrets;
pub mod source;
pub mod storage;
pub mod time;
pub mod token;
pub mod upstream;
pub mod words;
