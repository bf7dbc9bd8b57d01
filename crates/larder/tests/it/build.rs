//! `larder build`, on real Nix: what is built is published, and nothing else is.

mod blame;
mod bounds;
mod failures;
mod holds;
mod home;
mod interruptions;
mod limits;
mod memory;
pub(crate) mod parts;
mod publication;
mod pushes;
mod sources;
mod through_daemon;
