//! Caches that wrap another cache and add one thing.

mod metered;
mod packed;
mod signing;
mod tiered;

pub use metered::{LOOKUPS, Metered};
pub use packed::Packed;
pub use signing::Signing;
pub use tiered::Tiered;
