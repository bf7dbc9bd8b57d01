//! The only door to the local Nix.
//!
//! Reads Nix's database, dumps store paths as NARs, makes garbage-collector roots and runs Nix's
//! commands (and the few other programs Larder needs). It knows nothing of HTTP, fleets or caches.

pub mod build_log;
pub mod caches;
pub mod cgroup;
pub mod command;
pub mod contents;
pub mod daemon;
pub mod database;
pub mod derivations;
pub mod dump;
pub mod files;
pub mod kernel_log;
pub mod layout;
pub mod nix;
pub mod processes;
pub mod read_ahead;
pub mod remembered;
pub mod settings;
