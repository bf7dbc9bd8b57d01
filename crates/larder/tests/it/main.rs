//! Tests of the program from the outside.

#[cfg(test)]
mod config;
#[cfg(test)]
mod walls;
