//! Counts what a cache is asked, and what came of it.

use std::{ffi::OsString, ops::Range, sync::Arc};

use async_trait::async_trait;
use larder_formats::{
    cache_info::CacheInfo,
    nar::Listing,
    nar_file::NarFile,
    narinfo::NarInfo,
    realisation::{Realisation, RealisationKey},
    store_path::{StorePath, StorePathHash},
};

use crate::cache::{ByteStream, Cache, CacheError, NarIdentity, PathFile, StoredNar};

/// The counter's name. Its labels are `question` (a method of [`Cache`]) and `outcome`: `found`,
/// `absent`, or `failed` where nobody could tell.
pub const LOOKUPS: &str = "larder_store_lookups_total";

/// A cache whose questions are counted.
pub struct Metered<C> {
    inner: C,
    found: Box<dyn Fn(StorePathHash) + Send + Sync>,
}

impl<C: Cache> Metered<C> {
    /// Wraps a cache. Counts with the process's recorder, and nothing where there is none.
    pub fn new(inner: C) -> Self {
        Self::telling(inner, |_| ())
    }

    /// The same; `found` is told of each path that was asked for and found.
    pub fn telling(inner: C, found: impl Fn(StorePathHash) + Send + Sync + 'static) -> Self {
        Self { inner, found: Box::new(found) }
    }
}

fn count<T>(
    question: &'static str,
    answer: Result<T, CacheError>,
    found: impl FnOnce(&T) -> bool,
) -> Result<T, CacheError> {
    let outcome = match &answer {
        Ok(answer) if found(answer) => "found",
        Ok(_) => "absent",
        Err(_) => "failed",
    };
    metrics::counter!(LOOKUPS, "question" => question, "outcome" => outcome).increment(1);
    answer
}

#[async_trait]
impl<C: Cache> Cache for Metered<C> {
    fn info(&self) -> CacheInfo {
        self.inner.info()
    }

    fn generation(&self) -> Option<u64> {
        self.inner.generation()
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        let answer = self.inner.narinfo(hash).await;
        if let Ok(Some(_)) = answer {
            (self.found)(hash);
        }
        count("narinfo", answer, Option::is_some)
    }

    async fn narinfo_of(&self, nar: NarIdentity) -> Result<Option<Arc<NarInfo>>, CacheError> {
        count("narinfo", self.inner.narinfo_of(nar).await, Option::is_some)
    }

    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        count("nar", self.inner.nar(nar, range).await, Option::is_some)
    }

    async fn nar_file(&self, name: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        count("nar_file", self.inner.nar_file(name).await, Option::is_some)
    }

    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        count("listing", self.inner.listing(hash).await, Option::is_some)
    }

    async fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        count("derivations", self.inner.derivations(hash).await, |found| !found.is_empty())
    }

    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        count("log", self.inner.log(derivation).await, Option::is_some)
    }

    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        count("realisation", self.inner.realisation(key).await, Option::is_some)
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        count("file", self.inner.file(hash, names).await, Option::is_some)
    }
}
