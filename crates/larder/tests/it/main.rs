//! Tests of the program from the outside.

#[cfg(test)]
mod build;
#[cfg(test)]
mod build_server;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod config;
#[cfg(test)]
mod walls;
