//! `larder upgrade`, on whole machines: with each version of Nix as client, against a server that has
//! really built the fleet.

mod actions;
mod fleet_loop;
mod local_flake;
mod refusals;
mod servers;
mod ssh;
mod ways;
