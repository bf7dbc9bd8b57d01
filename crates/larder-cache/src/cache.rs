//! The one trait to learn.

use std::{error::Error, ffi::OsString, ops::Range, pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use larder_formats::{
    cache_info::CacheInfo,
    hash::Sha256,
    nar::Listing,
    nar_file::NarFile,
    narinfo::NarInfo,
    realisation::{Realisation, RealisationKey},
    store_path::{StorePath, StorePathHash},
};

/// Bytes as they come. An error ends the stream: what came before it is not the whole.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, CacheError>> + Send>>;

/// One NAR, exactly: two caches may hold different builds of one path, so the path alone names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NarIdentity {
    /// The hash part of the store path.
    pub path: StorePathHash,
    /// SHA-256 of the NAR.
    pub nar_hash: Sha256,
}

/// A NAR's file, as it lies in a cache.
pub struct StoredNar {
    /// Bytes in it.
    pub size: u64,
    /// Reads the part of it that is asked for; what reaches beyond its end is an error of the stream.
    pub contents: Box<dyn FnOnce(Range<u64>) -> ByteStream + Send>,
}

/// What lies at a place inside a store path.
pub enum PathFile {
    /// A regular file.
    Regular {
        /// Bytes in it.
        size: u64,
        /// Reads the part of it that is asked for; what reaches beyond its end is an error of the stream.
        contents: Box<dyn FnOnce(Range<u64>) -> ByteStream + Send>,
    },
    /// A folder: what is in it, sorted by name.
    Directory(Vec<FolderEntry>),
}

/// What a folder inside a store path holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name in the folder.
    pub name: OsString,
    /// What it is.
    pub kind: FolderEntryKind,
}

/// What an entry of a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderEntryKind {
    /// A regular file, and the bytes in it.
    Regular(u64),
    /// A folder.
    Directory,
    /// A symlink, and what it says. It need not lead anywhere.
    Symlink(OsString),
}

/// A cache could not tell: it neither has the thing nor knows that it has not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct CacheError {
    what: String,
    source: Arc<dyn Error + Send + Sync>,
}

impl CacheError {
    /// A failure, and what was being done for which path.
    pub fn new(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: Arc::from(source.into()) }
    }

    /// The failure itself, where it is of that kind.
    #[must_use]
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.source.downcast_ref()
    }
}

/// Something that answers for store paths.
///
/// In every answer `Ok(None)` means *known to be absent*; not being able to tell is an error. What is
/// answered for a path belongs together only as far as its [`NarIdentity`] says: a path may be
/// collected and built again between two questions.
#[async_trait]
pub trait Cache: Send + Sync {
    /// What the cache says of itself.
    fn info(&self) -> CacheInfo;

    /// A number that is another one whenever any answer may have changed, quickly told: what was
    /// answered under the same number may be remembered. Nothing, if the cache cannot tell.
    fn generation(&self) -> Option<u64> {
        None
    }

    /// What is known about a path.
    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError>;

    /// What is known about exactly this NAR. A cache of several may have another one of the path besides.
    async fn narinfo_of(&self, nar: NarIdentity) -> Result<Option<Arc<NarInfo>>, CacheError> {
        Ok(self.narinfo(nar.path).await?.filter(|info| info.nar_hash == nar.nar_hash))
    }

    /// The bytes of a NAR, uncompressed, from `range.start` up to and without `range.end`. A range that
    /// reaches beyond the NAR's end is an error of the stream.
    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError>;

    /// The file of a NAR, compressed as it is, by the name that a narinfo of this cache gave it. Caches that
    /// make NARs while they are sent have none.
    async fn nar_file(&self, name: &NarFile) -> Result<Option<StoredNar>, CacheError>;

    /// The files inside a path, with the place of each one's contents in the NAR.
    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError>;

    /// The derivations whose build logs may be the one asked for by a derivation's, or its output's,
    /// hash part.
    async fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, CacheError>;

    /// The log of a derivation's build, as text.
    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError>;

    /// What an output of a content-addressed derivation turned out to be.
    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError>;

    /// The file inside a path that lies at these names, one below the other; the path itself for none.
    /// Symlinks inside the path are followed; what one outside of it would lead to is absent.
    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError>;
}
