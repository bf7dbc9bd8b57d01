//! `larder serve` with real Nix as its client, and with clients that mean no good.
//!
//! The server is the program itself: `cargo build --bins` comes first where only this crate is tested.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod concurrent;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod files;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http;
#[cfg(test)]
mod listening;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod nars;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod realisations;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod substitution;
#[cfg(test)]
mod support;
