//! Whether a place is a cache that may be written to.
//!
//! What somebody else put there is respected: a folder with other files in it is not taken for a cache, and
//! a cache of another store is not written to.

use bytes::Bytes;
use futures::StreamExt;
use larder_formats::{
    cache_info::{CacheInfo, CacheInfoError},
    store_path::StoreDir,
};

use super::{ObjectStorage, layout};
use crate::storage::{StorageError, StorageErrorKind};

/// Bytes of a `nix-cache-info`.
const LIMIT: usize = 64 * 1024;

/// What a place says that it is.
#[derive(Debug)]
pub enum Identity {
    /// A cache of this store.
    Ours {
        /// Which cache is asked first: the lowest number.
        priority: u32,
    },
    /// A cache of another store.
    OfStore(StoreDir),
    /// Something that is not understood.
    Unreadable(CacheInfoError),
    /// Nothing.
    Unnamed,
}

impl Identity {
    /// Its priority, where it is a cache to read from.
    ///
    /// # Errors
    /// Why it is none.
    pub fn to_read_from(&self, ours: &StoreDir) -> Result<u32, String> {
        match self {
            Self::Ours { priority } => Ok(*priority),
            Self::OfStore(theirs) => {
                Err(format!("it is of a store in {theirs}, and this one is in {ours}"))
            }
            Self::Unreadable(error) => {
                Err(format!("what answers there is no binary cache: {error}"))
            }
            Self::Unnamed => Err("it has no nix-cache-info".to_owned()),
        }
    }
}

/// Why a place is not written to.
#[derive(Debug, thiserror::Error)]
pub enum RecogniseError {
    /// It is a cache of another store.
    #[error(
        "{url} is a cache of the store {theirs}, and this machine's is {ours}; name a place of its own \
         for this store's paths"
    )]
    OtherStore {
        /// The place.
        url: String,
        /// Its store.
        theirs: StoreDir,
        /// Ours.
        ours: StoreDir,
    },
    /// Its `nix-cache-info` cannot be read.
    #[error("{url}: {source}; nothing was written there")]
    NotACache {
        /// The place.
        url: String,
        /// What is wrong.
        source: CacheInfoError,
    },
    /// Somebody keeps other things there.
    #[error(
        "{url} has no nix-cache-info, but other files ({example}, say); nothing was written there. Name \
         an empty place, or put a nix-cache-info with the line `StoreDir: {store_dir}` there if it is a cache"
    )]
    Foreign {
        /// The place.
        url: String,
        /// One of the files.
        example: String,
        /// Our store.
        store_dir: StoreDir,
    },
    /// The place did not answer.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ObjectStorage {
    /// Makes sure that the place is a cache of this store, or an empty one, which becomes it. Before
    /// anything else is written.
    ///
    /// # Errors
    /// When it is neither, or cannot be reached.
    pub async fn prepare(&self) -> Result<(), RecogniseError> {
        if self.recognise().await? {
            return Ok(());
        }
        let info = Bytes::from(self.info.to_text());
        Ok(self.storage.put(&layout::cache_info().map_err(StorageError::from)?, info).await?)
    }

    /// Whether the place is a cache of this store, or an empty one, which is not.
    ///
    /// # Errors
    /// When it is neither, or cannot be reached.
    pub async fn recognise(&self) -> Result<bool, RecogniseError> {
        let (url, ours) = (self.storage.url().to_owned(), self.info.store_dir.clone());
        match self.identify().await? {
            Identity::Ours { .. } => return Ok(true),
            Identity::OfStore(theirs) => {
                return Err(RecogniseError::OtherStore { url, theirs, ours });
            }
            Identity::Unreadable(source) => return Err(RecogniseError::NotACache { url, source }),
            Identity::Unnamed => {}
        }
        match self.storage.list(None).next().await {
            Some(Ok(entry)) => {
                let example = entry.key.to_string();
                Err(RecogniseError::Foreign { url, example, store_dir: ours })
            }
            // Another server, which knows itself what it holds.
            Some(Err(error)) if error.kind == StorageErrorKind::Unsupported => Ok(false),
            Some(Err(error)) => Err(error.into()),
            None => Ok(false),
        }
    }

    /// What the place says that it is.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn identify(&self) -> Result<Identity, StorageError> {
        let Some(text) = self.storage.get(&layout::cache_info()?, LIMIT).await? else {
            return Ok(Identity::Unnamed);
        };
        Ok(match CacheInfo::parse(&String::from_utf8_lossy(&text)) {
            Ok(info) if info.store_dir == self.info.store_dir => {
                Identity::Ours { priority: info.priority }
            }
            Ok(info) => Identity::OfStore(info.store_dir),
            Err(error) => Identity::Unreadable(error),
        })
    }
}
