//! The test kit itself: what other tests stand on must be real.

mod fleets;
mod large;
mod machines;
mod stores;
