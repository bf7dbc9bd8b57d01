//! `larder build`, on real Nix: what is built is published, and nothing else is.

mod failures;
mod holds;
mod home;
mod interruptions;
mod limits;
pub(crate) mod parts;
mod publication;
mod pushes;
mod sources;
