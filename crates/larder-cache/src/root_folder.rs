//! A folder of empty files among Nix's roots, each called like the path that it keeps.
//!
//! Nix takes such a file for a root (`findRoots` in libstore's gc.cc). An empty file is there or it is not: it cannot be torn
//! and takes no block of a full disk.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use larder_formats::store_path::StorePath;

/// The folder, or a file in it, could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct RootFolderError {
    /// The file or folder.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The path it is called like.
    pub(crate) path: StorePath,
    /// When it was made.
    pub(crate) since: Timestamp,
}

/// Writes files, and flushes their folder to the disk. Those that are there stay as they are.
pub(crate) fn add_to<'a>(
    folder: &Path,
    paths: impl IntoIterator<Item = &'a StorePath>,
) -> Result<(), RootFolderError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    for path in paths {
        let file = folder.join(path.to_string());
        match File::create_new(&file) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(at(&file)(error)),
            _ => {}
        }
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

/// Removes a file. One that is gone is removed.
pub(crate) fn remove_from(folder: &Path, path: &StorePath) -> Result<(), RootFolderError> {
    let file = folder.join(path.to_string());
    match fs::remove_file(&file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(&file)(error)),
        _ => Ok(()),
    }
}

/// The paths of a folder, oldest first. Whatever else lies there is none of ours.
pub(crate) fn listed(folder: &Path) -> Result<Vec<Found>, RootFolderError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at(folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at(folder))?;
        let Some(path) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that is gone meanwhile was done with.
        let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        let since = Timestamp::try_from(written).unwrap_or(Timestamp::UNIX_EPOCH);
        found.push(Found { path, since });
    }
    found.sort_by(|one, other| (one.since, &one.path).cmp(&(other.since, &other.path)));
    Ok(found)
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> RootFolderError {
    let path = path.to_owned();
    move |source| RootFolderError { path, source }
}
