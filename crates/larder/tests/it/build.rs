//! `larder build`, on real Nix: what is built is published, and nothing else is.

mod bounds;
mod failures;
mod interruptions;
mod limits;
mod memory;
mod publication;
mod pushes;
mod sources;
mod through_daemon;
