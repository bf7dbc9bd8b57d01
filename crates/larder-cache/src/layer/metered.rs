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
pub struct Metered<C>(C);

impl<C: Cache> Metered<C> {
    /// Wraps a cache. Counts with the process's recorder, and nothing where there is none.
    pub fn new(inner: C) -> Self {
        Self(inner)
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
        self.0.info()
    }

    fn generation(&self) -> Option<u64> {
        self.0.generation()
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        count("narinfo", self.0.narinfo(hash).await, Option::is_some)
    }

    async fn narinfo_of(&self, nar: NarIdentity) -> Result<Option<Arc<NarInfo>>, CacheError> {
        count("narinfo", self.0.narinfo_of(nar).await, Option::is_some)
    }

    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        count("nar", self.0.nar(nar, range).await, Option::is_some)
    }

    async fn nar_file(&self, name: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        count("nar_file", self.0.nar_file(name).await, Option::is_some)
    }

    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        count("listing", self.0.listing(hash).await, Option::is_some)
    }

    async fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        count("derivations", self.0.derivations(hash).await, |found| !found.is_empty())
    }

    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        count("log", self.0.log(derivation).await, Option::is_some)
    }

    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        count("realisation", self.0.realisation(key).await, Option::is_some)
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        count("file", self.0.file(hash, names).await, Option::is_some)
    }
}
