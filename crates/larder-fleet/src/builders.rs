//! Remote builders: who they are, which of them answer, and what Nix is told of them.
//!
//! Nix asks a builder that is down again for every derivation, and waits without end for one that accepts
//! and is silent. So it is told of those that answer, by a file that is kept up to date while it builds.

mod builder;
mod check;
mod findings;
mod machines;
mod probe;
mod roster;
mod ssh;
mod words;

pub use builder::Builder;
pub use check::Checker;
pub use findings::{Answers, Built, Finding, Login, Said, Subject, Verdict, findings};
pub use machines::{extra_platforms, machines};
pub use probe::Silence;
pub use roster::{Builders, Roster, Shared};
pub use ssh::{Ssh, SshError};
pub use words::{BuilderName, HostKey, KeyFile, SshHost, SshUser, Word, WordError};
