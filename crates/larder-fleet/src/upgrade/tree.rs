//! A copy of a local flake, as Nix would see it.
//!
//! The copy gets the server's lock file, so that the user's own checkout is never written to. From a
//! git repository the tracked files are taken as they are in the working tree, local edits included;
//! files git does not track are left out, as Nix leaves them out.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};

use larder_nix::command::{CancellationToken, CommandError, Invocation};

use crate::night::source::{git, repository_of};

/// The copy cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A program failed.
    #[error("cannot copy the flake: {0}")]
    Command(#[from] CommandError),
    /// A file cannot be copied.
    #[error("cannot copy {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no flake.
    #[error("there is no flake.nix in {0}")]
    NoFlake(PathBuf),
}

/// Copies the flake in `from` below `to`; returns the top of the copy, and flake.nix's folder in it.
pub(super) async fn copy(
    from: &Path,
    to: &Path,
    cancel: &CancellationToken,
) -> Result<(PathBuf, Option<String>), TreeError> {
    if !from.join("flake.nix").is_file() {
        return Err(TreeError::NoFlake(from.to_owned()));
    }
    let Some((top, folder)) = repository_of(from, cancel).await? else {
        let from = from.join(".");
        Invocation::new("cp").args(["-a", "--"]).arg(from).arg(to).output(cancel).await?;
        return Ok((to.to_owned(), None));
    };
    let tracked = git(&top).args(["ls-files", "-z"]).output(cancel).await?.stdout;
    for name in tracked.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
        if name.components().all(|part| matches!(part, Component::Normal(_))) {
            let (from, to) = (top.join(name), to.join(name));
            copy_file(&from, &to).map_err(|source| TreeError::Io { path: from, source })?;
        }
    }
    Ok((to.to_owned(), folder))
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(from) {
        // Deleted in the working tree, but not yet in the index.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if metadata.is_file() {
        fs::copy(from, to).map(|_| ())
    } else {
        // A submodule, which Nix leaves out as well.
        Ok(())
    }
}
