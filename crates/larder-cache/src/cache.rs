//! The one trait to learn.

use std::{error::Error, ops::Range, pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use larder_formats::{
    cache_info::CacheInfo,
    hash::Sha256,
    nar::Listing,
    narinfo::NarInfo,
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

    /// The same for many paths, in their order. A source that can ask for many at once does.
    async fn narinfos(
        &self,
        hashes: &[StorePathHash],
    ) -> Result<Vec<Option<Arc<NarInfo>>>, CacheError> {
        let mut answers = Vec::with_capacity(hashes.len());
        for hash in hashes {
            answers.push(self.narinfo(*hash).await?);
        }
        Ok(answers)
    }

    /// The bytes of a NAR, uncompressed, from `range.start` up to and without `range.end`. A range that
    /// reaches beyond the NAR's end is an error of the stream.
    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError>;

    /// The files inside a path, with the place of each one's contents in the NAR.
    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError>;

    /// The derivations whose build logs may be the one asked for by a derivation's, or its output's,
    /// hash part.
    async fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, CacheError>;

    /// The log of a derivation's build, as text.
    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError>;
}
