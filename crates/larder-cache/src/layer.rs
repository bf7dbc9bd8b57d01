//! Caches that wrap another cache and add one thing.

mod signing;

pub use signing::Signing;
