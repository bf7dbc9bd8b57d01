//! Collection of a static cache: what nobody needs any more is removed.
//!
//! Three steps that can be read apart: an [`index`] tells what is there, a [`plan`] what of it should go, and
//! [`apply`] removes it while readers, writers and other collectors are at work. A [`check`] finds what is wrong, and
//! a [`repair`] brings it again or removes it in the same way.

pub mod apply;
pub mod check;
pub mod index;
mod orphans;
pub mod plan;
pub mod repair;
pub mod snapshot;
