//! `larder build`, on real Nix: what is built is published, and nothing else is.

mod failures;
mod interruptions;
mod limits;
mod publication;
mod pushes;
mod sources;
