//! Larder, the program, as a library: so that its tests reach what its `main` only starts.

mod answering;
pub mod cli;
mod clock;
mod command;
pub mod config;
mod context;
mod environment;
mod heartbeat;
mod keeper;
mod keys;
mod lifecycle;
mod netrc;
mod network;
mod pusher;
mod report;
mod roots;
mod scheduler;
mod service_manager;
pub mod view;
mod wiring;
mod word;
