//! What is in a cache, remembered between collections.
//!
//! A file of SQLite that can be thrown away at will: it is made again from the cache. A refresh lists the cache and
//! reads only those narinfos that are new or have changed; what a name tells is not kept, since it is listed each time.
//! An index that was broken, or is another cache's, is made anew by itself.

mod contents;
mod known;
mod refresh;
mod row;
mod table;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use larder_formats::store_path::StoreDir;
use rusqlite::Connection;
use tokio::task::spawn_blocking;

pub use self::row::KnownPath;
use self::{refresh::Refresh, table::Table};
use super::snapshot::Snapshot;
use crate::storage::{KeyError, Storage, StorageError};

/// The index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite failed.
    #[error("the index {path}: {source}; it may be removed at any time")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// Another process uses it.
    #[error("the index {0} is in use by another collection: wait until that has ended")]
    InUse(PathBuf),
    /// Its folder cannot be made, or a broken one not be removed.
    #[error("cannot make the index {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The cache cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A name that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Our own fault.
    #[error("the index's work ended early: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// What a refresh did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Objects that were listed.
    pub listed: u64,
    /// Small objects that were read because they were new or had changed.
    pub read: u64,
    /// Small objects that are no more.
    pub gone: u64,
}

/// The index of one cache.
#[derive(Clone, Debug)]
pub struct Index {
    path: Arc<Path>,
    store_dir: StoreDir,
    table: Arc<Mutex<Table>>,
}

impl Index {
    /// Opens the index at a path; makes it if there is none that can be used. `cache` tells which cache it
    /// is of.
    ///
    /// # Errors
    /// When another process uses it, or it cannot be made.
    pub fn open(path: &Path, cache: &str, store_dir: &StoreDir) -> Result<Self, IndexError> {
        if let Some(folder) = path.parent() {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|source| IndexError::Io { path: path.to_owned(), source })?;
        }
        let opened = table::open(path, cache, store_dir);
        let table = match opened {
            Ok(Some(table)) => table,
            Err(error) if table::is_busy(&error) => return Err(IndexError::InUse(path.to_owned())),
            Err(source) if !table::is_damage(&source) => {
                return Err(IndexError::Sqlite { path: path.to_owned(), source });
            }
            Ok(None) | Err(_) => {
                table::remove(path)
                    .map_err(|source| IndexError::Io { path: path.to_owned(), source })?;
                let made = table::make(Connection::open(path), cache, store_dir);
                made.map_err(|source| IndexError::Sqlite { path: path.to_owned(), source })?
            }
        };
        Ok(Self {
            path: path.into(),
            store_dir: store_dir.clone(),
            table: Arc::new(Mutex::new(table)),
        })
    }

    /// An index that is gone with the process.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn in_memory(store_dir: &StoreDir) -> Result<Self, IndexError> {
        let path = PathBuf::from("in memory");
        let made = table::make(Connection::open_in_memory(), "", store_dir);
        let table = made.map_err(|source| IndexError::Sqlite { path: path.clone(), source })?;
        Ok(Self {
            path: path.into(),
            store_dir: store_dir.clone(),
            table: Arc::new(Mutex::new(table)),
        })
    }

    /// Makes it say what is in the cache, and what that is. `parallel` small objects are read at once.
    ///
    /// # Errors
    /// When the cache cannot be listed, or one of its narinfos not be read: what that needs would be unknown.
    pub async fn refresh(
        &self,
        storage: &dyn Storage,
        now: Timestamp,
        parallel: usize,
    ) -> Result<(Refreshed, Snapshot), IndexError> {
        Refresh::begin(self, storage, now, parallel).await?.run().await
    }

    /// Every path with what its narinfo said at the last refresh, in portions of some thousand, for a check. `after` is
    /// the place of the last one of the portion before.
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn known_paths(&self, after: Option<i64>) -> Result<Vec<KnownPath>, IndexError> {
        self.with(move |table| table.known_paths(after)).await
    }

    /// Does something with the file, on a thread that may wait.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Table) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, IndexError> {
        let table = Arc::clone(&self.table);
        let done =
            spawn_blocking(move || work(&mut table.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await?.map_err(|source| IndexError::Sqlite { path: self.path.to_path_buf(), source })
    }
}
