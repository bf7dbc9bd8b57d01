//! `larder build`, on real Nix: what is built is published, and nothing else is.

mod failures;
mod holds;
mod home;
mod interruptions;
mod limits;
mod parts;
mod publication;
mod pushes;
mod sources;
