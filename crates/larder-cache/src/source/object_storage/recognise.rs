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
use crate::storage::{KeyError, StorageError, StorageErrorKind};

/// Bytes of a `nix-cache-info`.
const LIMIT: usize = 64 * 1024;

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
    /// A name that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
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
        let text = Bytes::from(self.info.to_text());
        Ok(self.storage.put(&layout::cache_info()?, text).await?)
    }

    /// Whether the place is a cache of this store; not yet, if nothing is there. Changes nothing.
    ///
    /// # Errors
    /// When it is something else, or cannot be reached.
    pub async fn recognise(&self) -> Result<bool, RecogniseError> {
        let key = layout::cache_info()?;
        let url = || self.storage.url().to_owned();
        if let Some(text) = self.storage.get(&key, LIMIT).await? {
            let theirs = CacheInfo::parse(&String::from_utf8_lossy(&text))
                .map_err(|source| RecogniseError::NotACache { url: url(), source })?
                .store_dir;
            let ours = self.info.store_dir.clone();
            return if theirs == ours {
                Ok(true)
            } else {
                Err(RecogniseError::OtherStore { url: url(), theirs, ours })
            };
        }
        match self.storage.list(None).next().await {
            Some(Ok(entry)) => Err(RecogniseError::Foreign {
                url: url(),
                example: entry.key.to_string(),
                store_dir: self.info.store_dir.clone(),
            }),
            // Another server, which knows itself what it holds.
            Some(Err(error)) if error.kind == StorageErrorKind::Unsupported => Ok(false),
            Some(Err(error)) => Err(error.into()),
            None => Ok(false),
        }
    }
}
