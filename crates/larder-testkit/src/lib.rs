//! What tests stand on: throw-away Nix stores of three real versions, whole machines in namespaces, a
//! sample fleet, real nginx, Caddy, sshd, git, systemd and Garage, and an S3 server in this process.
//!
//! Everything here is real or absent: no program is imitated. What fails, fails by a panic that names
//! the command and shows what it printed, since the only caller is a test or the demo. Everything made
//! here is gone when its value is dropped, after a panic too.
//!
//! It deliberately knows nothing of larder: the crates under test depend on it, never the other way.

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "the callers are tests: a panic that says what happened is the error they want"
)]

pub mod bad_line;
pub mod black_hole;
pub mod caddy;
pub mod fleet;
pub mod garage;
pub mod git;
pub mod large;
pub mod machine;
pub mod network;
pub mod nginx;
pub mod nix;
pub mod process;
pub mod s3;
pub mod scratch;
pub mod software;
pub mod sshd;
pub mod store;
pub mod systemd;
pub mod tree;

pub use bad_line::{BadLine, Fault};
pub use black_hole::BlackHole;
pub use fleet::SampleFleet;
pub use garage::Garage;
pub use large::LargeStore;
pub use machine::Machine;
pub use network::Network;
pub use nix::{Nix, NixVersion};
pub use process::{Background, Finished, Program};
pub use s3::S3Server;
pub use store::TestStore;
pub use systemd::Systemd;
pub use tree::Tree;

/// Says that this machine lacks what a test needs, which then shows nothing.
///
/// # Panics
/// Where `LARDER_NOTHING_LACKS` is set: on a machine that was made for such tests.
#[expect(clippy::print_stderr, reason = "said to whoever runs the tests")]
pub fn lacking(what: impl std::fmt::Display) {
    assert!(!process::lacks_nothing(), "lacking: {what}");
    eprintln!("NOT TESTED HERE: {what}");
}
