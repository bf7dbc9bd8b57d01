//! The HTTP face of Larder: the binary cache that Nix reads, and the fleet's pages.
//!
//! Turns requests into questions to a `Cache` or to the ledger, and answers into responses. It
//! decides nothing about store paths itself. [`router::router`] names every route.

mod error;
mod files;
mod fleet;
mod landing;
mod logs;
mod nar;
mod narinfo;
mod paced;
mod range;
mod realisation;
pub mod router;
pub mod server;
pub mod site;
