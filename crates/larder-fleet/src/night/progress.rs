//! What a run tells whoever watches it.

use larder_formats::{lock_file::InputChange, store_path::StorePath};

use crate::{build_plan::BuildPlan, host::HostName, ledger::Outcome};

/// Something that just happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// A run has begun that is noted in the ledger, under this number.
    Begun(i64),
    /// The flake is being fetched.
    Fetching {
        /// From where.
        flake: &'a str,
    },
    /// The flake is there.
    Fetched {
        /// The git commit, if any.
        commit: Option<&'a str>,
    },
    /// The lock is being updated (or made whole).
    Locking {
        /// Whether to the newest revisions.
        update: bool,
    },
    /// The lock is what will be built with.
    Locked {
        /// What changed against the fetched lock.
        changes: &'a [InputChange],
    },
    /// These hosts take part.
    Hosts(&'a [HostName]),
    /// A host is being evaluated.
    Evaluating(&'a HostName),
    /// A host was evaluated, and this is what it needs.
    Evaluated(&'a HostName, &'a BuildPlan),
    /// A host was evaluated, which is all that was wanted.
    Checked(&'a HostName),
    /// A host could not be evaluated.
    EvaluationFailed(&'a HostName, &'a str),
    /// The build of a derivation begins.
    BuildStarted {
        /// The derivation.
        derivation: &'a StorePath,
        /// The machine that builds it; empty for this one.
        machine: &'a str,
    },
    /// A line of a build's log.
    BuildLine {
        /// The derivation.
        derivation: &'a StorePath,
        /// The line.
        line: &'a str,
    },
    /// The build of a derivation ended, well or not.
    BuildEnded(&'a StorePath),
    /// A path is being downloaded.
    FetchStarted {
        /// The path.
        path: &'a StorePath,
        /// The cache it comes from.
        from: &'a str,
    },
    /// A download ended, well or not.
    FetchEnded(&'a StorePath),
    /// So many bytes came from somewhere else, as they were packed there.
    Transferred(u64),
    /// Nix says something people should see.
    Message(&'a str),
    /// A host is done.
    Done(&'a HostName, &'a Outcome),
}

/// Whoever watches a run.
pub trait Observer: Send {
    /// Something just happened.
    fn notice(&mut self, notice: Notice<'_>);
}
