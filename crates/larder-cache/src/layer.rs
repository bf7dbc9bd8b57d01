//! Caches that wrap another cache and add one thing.

mod metered;
mod signing;

pub use metered::{LOOKUPS, Metered};
pub use signing::Signing;
