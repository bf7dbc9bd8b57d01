//! `larder upgrade`, on whole machines: with each version of Nix as client, against a server that has
//! really built the fleet.

mod actions;
mod fleet_loop;
mod local_flake;
mod packages;
mod plan;
mod refusals;
mod room;
mod servers;
mod ssh;
mod ways;
