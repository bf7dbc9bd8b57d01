//! What waits to be pushed: a folder among Nix's roots.
//!
//! `<Nix's state>/gcroots/larder/queue/`, in it `new/` with what was handed in, and `to/<cache>/` with what waits for
//! each cache. A path is an empty file of its base name, which is a root (see [`root_folder`]): what waits is not
//! collected.
//!
//! Promises that what was handed in is not lost by a crash, and leaves only when it was done with. Handing in what
//! waits already changes nothing.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use larder_formats::store_path::StorePath;

use crate::root_folder::{self, Found, RootFolderError, add_to, remove_from};

const NEW: &str = "new";
const TO: &str = "to";

/// The queue could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the queue of pushes, {0}")]
pub struct QueueError(#[from] RootFolderError);

/// A path that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The path.
    pub path: StorePath,
    /// Since when.
    pub since: Timestamp,
}

/// What waits to be pushed.
#[derive(Clone, Debug)]
pub struct Queue {
    folder: PathBuf,
    spare: PathBuf,
}

impl Queue {
    /// The queue in this folder; what cannot be written there for want of space or rights is written to
    /// `spare`. Neither need be there yet.
    #[must_use]
    pub fn new(folder: PathBuf, spare: PathBuf) -> Self {
        Self { folder, spare }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Hands in paths. A derivation stands for its outputs, which whoever hands out looks up.
    ///
    /// # Errors
    /// When they can be written neither here nor to the spare folder; then the first reason is told.
    pub fn add<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath> + Clone,
    ) -> Result<(), QueueError> {
        let usual = add_to(&self.folder.join(NEW), paths.clone());
        Ok(usual.or_else(|error| add_to(&self.spare, paths).map_err(|_| error))?)
    }

    /// What was handed in and not handed out yet, oldest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn handed_in(&self) -> Result<Vec<Waiting>, QueueError> {
        let mut all = listed(&self.folder.join(NEW))?;
        all.extend(listed(&self.spare)?);
        all.sort_by(|one, other| (one.since, &one.path).cmp(&(other.since, &other.path)));
        all.dedup_by(|one, other| one.path == other.path);
        Ok(all)
    }

    /// Has one path that was handed in wait for these caches. `stands_for` is that path, or a derivation's outputs.
    ///
    /// # Errors
    /// When it cannot be written; then it is still handed in.
    pub fn hand_out(
        &self,
        path: &StorePath,
        stands_for: &[StorePath],
        caches: &[&str],
    ) -> Result<(), QueueError> {
        for cache in caches {
            add_to(&self.of(cache), stands_for)?;
        }
        let handed_in = [self.folder.join(NEW), self.spare.clone()];
        Ok(handed_in.iter().try_for_each(|folder| remove_from(folder, path))?)
    }

    /// What waits for a cache, oldest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn waiting(&self, cache: &str) -> Result<Vec<Waiting>, QueueError> {
        listed(&self.of(cache))
    }

    /// Forgets what a cache has, or is not to have.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remove(&self, cache: &str, paths: &[StorePath]) -> Result<(), QueueError> {
        let folder = self.of(cache);
        Ok(paths.iter().try_for_each(|path| remove_from(&folder, path))?)
    }

    /// The caches that something waits for, or did.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn caches(&self) -> Result<BTreeSet<String>, QueueError> {
        let folder = self.folder.join(TO);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(at(&folder))?,
        };
        let names = entries.map(|entry| Ok(entry.map_err(at(&folder))?.file_name().into_string()));
        names.filter_map(|name| name.map(Result::ok).transpose()).collect()
    }

    /// Whether this process may write to it. Makes the folder if it is missing.
    ///
    /// # Errors
    /// When it may not, and why.
    pub fn is_writable(&self) -> Result<(), QueueError> {
        let folder = self.folder.join(TO);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(&folder, access).map_err(|error| at(&folder)(error.into()))
    }

    fn of(&self, cache: &str) -> PathBuf {
        self.folder.join(TO).join(cache)
    }
}

/// The paths of a folder, oldest first.
fn listed(folder: &Path) -> Result<Vec<Waiting>, QueueError> {
    let found = root_folder::listed(folder)?.into_iter();
    Ok(found.map(|Found { path, since }| Waiting { path, since }).collect())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> QueueError {
    let at = root_folder::at(path);
    move |source| at(source).into()
}
