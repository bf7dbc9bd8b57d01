//! `larder serve` with real Nix as its client, and with clients that mean no good.
//!
//! The server is the program itself: `cargo build --bins` comes first where only this crate is tested.

#[cfg(test)]
mod behind;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod concurrent;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod exposition;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod files;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod front;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod large_store;
#[cfg(test)]
mod listening;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod metrics_under_load;
#[cfg(test)]
mod nars;
#[cfg(test)]
mod origin;
#[cfg(test)]
mod packed;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod realisations;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod standstill;
#[cfg(test)]
mod substitution;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod under_load;
#[cfg(test)]
mod uploads;
#[cfg(test)]
mod upstreams;
