//! The flake's lock: where a run starts from, and what it is brought to.

use std::path::PathBuf;

use larder_formats::lock_file::{LockFile, LockFileError};
use larder_nix::{
    command::{CancellationToken, CommandError, Invocation},
    nix::{Nix, Version},
};
use serde::{Deserialize, Serialize};

use super::source::{WorkTree, git};
use crate::{durable, ledger::PublishedLock};

/// From here on `nix flake update` takes inputs as arguments, and the flake as `--flake`.
const UPDATE_TAKES_INPUTS: Version = Version { major: 2, minor: 19 };

/// The lock could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nix or git failed.
    #[error("cannot update the lock file: {0}")]
    Command(#[from] CommandError),
    /// The lock file cannot be read or written.
    #[error("cannot read or write flake.lock: {0}")]
    Io(#[from] std::io::Error),
    /// The lock file is not one.
    #[error("cannot understand flake.lock: {0}")]
    Lock(#[from] LockFileError),
}

/// Where the lock came from that a run began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Origin {
    /// The repository.
    Repository,
    /// An earlier run, which made it from the one that the repository still has.
    Published {
        /// That run.
        run: i64,
    },
}

/// The locks of a run.
#[derive(Clone, Debug)]
pub(super) struct Locks {
    /// As it was fetched.
    pub repository: LockFile,
    /// What the run began with.
    pub start: LockFile,
    /// Whence that came.
    pub origin: Origin,
    /// What the run is to be done with.
    pub new: LockFile,
}

/// Brings the work tree's lock to what a run is done with: all inputs newest if `update`, otherwise as it started,
/// with entries added for inputs it lacks. A run starts from the lock that was published last, where that was made
/// from the very lock that the repository has: else what was published before would be taken back.
pub(super) async fn lock(
    (nix, tree): (&Nix, &WorkTree),
    published: Option<PublishedLock>,
    update: bool,
    cancel: &CancellationToken,
) -> Result<Locks, UpdateError> {
    let repository = read(tree)?;
    let published = published.filter(|published| {
        published.base == repository.text() && published.lock != repository.text()
    });
    let (start, origin) = match published {
        None => (repository.clone(), Origin::Repository),
        Some(published) => {
            let start = LockFile::parse(&published.lock)?;
            write(tree, &start, cancel).await?;
            (start, Origin::Published { run: published.run })
        }
    };
    command(nix, tree, update).output(cancel).await?;
    Ok(Locks { repository, start, origin, new: read(tree)? })
}

/// Has the work tree be locked so, and returns how Nix takes that.
pub(super) async fn set(
    (nix, tree): (&Nix, &WorkTree),
    lock: &LockFile,
    cancel: &CancellationToken,
) -> Result<LockFile, UpdateError> {
    write(tree, lock, cancel).await?;
    command(nix, tree, false).output(cancel).await?;
    read(tree)
}

fn command(nix: &Nix, tree: &WorkTree, update: bool) -> Invocation {
    let command = nix.command("nix").arg("flake");
    let folder = &tree.flake_folder;
    match (update, nix.version() >= UPDATE_TAKES_INPUTS) {
        (false, _) => command.arg("lock").arg(folder),
        (true, true) => command.args(["update", "--flake"]).arg(folder),
        (true, false) => command.arg("update").arg(folder),
    }
}

/// A flake without inputs has no lock file, which says the same as this one.
const NO_INPUTS: &str = r#"{"nodes":{"root":{}},"root":"root","version":7}"#;

fn file(tree: &WorkTree) -> PathBuf {
    tree.flake_folder.join("flake.lock")
}

fn read(tree: &WorkTree) -> Result<LockFile, UpdateError> {
    let text = match std::fs::read_to_string(file(tree)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => NO_INPUTS.to_owned(),
        text => text?,
    };
    Ok(LockFile::parse(&text)?)
}

/// Has the work tree be locked so, as it is.
pub(super) async fn write(
    tree: &WorkTree,
    lock: &LockFile,
    cancel: &CancellationToken,
) -> Result<(), UpdateError> {
    // Renamed over what is there, so that a link leads nowhere else.
    durable::replace(&file(tree), lock.text().as_bytes(), 0o644)?;
    if tree.commit.is_some() {
        // Of a repository, Nix sees only what git knows.
        let add = git(&tree.flake_folder).args(["add", "--intent-to-add", "--force", "flake.lock"]);
        add.output(cancel).await?;
    }
    Ok(())
}
