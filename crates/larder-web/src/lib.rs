//! The HTTP face of Larder: the binary cache that Nix reads, and the fleet's pages.
//!
//! Turns requests into questions to a `Cache` or to the ledger, and answers into responses. It
//! decides nothing about store paths itself. [`router::router`] names every route.

pub mod base_path;
mod builds;
pub mod cache_site;
mod endpoint;
mod error;
mod files;
mod fleet;
pub mod forwarded;
mod landing;
mod logs;
pub mod metrics;
mod nar;
mod narinfo;
mod paced;
mod packed_nar;
mod page;
pub mod proxy;
mod range;
mod realisation;
pub mod request;
pub mod router;
pub mod server;
pub mod site;
pub mod static_cache;
mod stored;
