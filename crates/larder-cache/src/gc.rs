//! Collection of a static cache: what nobody needs any more is removed.
//!
//! Three steps that can be read apart: an [`index`] tells what is there, a [`plan`] what of it should go, and
//! [`apply`] removes it while readers, writers and other collectors are at work.

pub mod apply;
pub mod index;
mod orphans;
pub mod plan;
pub mod snapshot;
