//! The flake's lock file: updated, or merely made whole.

use larder_formats::lock_file::{InputChange, LockFile, LockFileError, changes};
use larder_nix::{
    command::{CancellationToken, CommandError, Invocation},
    nix::{Nix, Version},
};

use super::source::WorkTree;

/// From here on `nix flake update` takes inputs as arguments, and the flake as `--flake`.
const UPDATE_TAKES_INPUTS: Version = Version { major: 2, minor: 19 };

/// The lock could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nix failed.
    #[error("cannot update the lock file: {0}")]
    Command(#[from] CommandError),
    /// The lock file cannot be read.
    #[error("cannot read flake.lock: {0}")]
    Io(#[from] std::io::Error),
    /// The lock file is not one.
    #[error("cannot understand flake.lock: {0}")]
    Lock(#[from] LockFileError),
}

/// The lock of a run, and what it changed.
#[derive(Clone, Debug)]
pub struct Update {
    /// The lock that is built with.
    pub lock: LockFile,
    /// How it differs from what was fetched.
    pub changes: Vec<InputChange>,
}

/// Brings the work tree's lock to where it is built with: all inputs newest if `update`, otherwise
/// as it was fetched, with entries added for inputs it lacks.
pub(super) async fn lock(
    nix: &Nix,
    tree: &WorkTree,
    update: bool,
    cancel: &CancellationToken,
) -> Result<Update, UpdateError> {
    let file = tree.flake_folder.join("flake.lock");
    let before = read(&file)?;
    command(nix, tree, update).output(cancel).await?;
    let after = read(&file)?;
    Ok(Update { changes: changes(&before, &after), lock: after })
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

fn read(file: &std::path::Path) -> Result<LockFile, UpdateError> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => NO_INPUTS.to_owned(),
        text => text?,
    };
    Ok(LockFile::parse(&text)?)
}
