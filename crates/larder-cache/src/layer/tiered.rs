//! Several caches as one: what the first has not, the next may have.
//!
//! For caches that answer soon and surely (a store, folders, a proxy): they are asked one after the other. Those that
//! may be dead are asked by a proxy.

use std::{
    ffi::OsString,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    ops::Range,
    sync::Arc,
};

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

/// Several caches, the most wanted first.
pub struct Tiered {
    info: CacheInfo,
    tiers: Vec<Arc<dyn Cache>>,
}

impl Tiered {
    /// These, which together say this of themselves.
    #[must_use]
    pub fn new(info: CacheInfo, tiers: Vec<Arc<dyn Cache>>) -> Self {
        Self { info, tiers }
    }

    /// The first that has it. One that cannot tell is no reason not to ask the next, but then nothing is known to be
    /// absent.
    async fn first<'a, T, F>(
        &'a self,
        ask: impl Fn(&'a dyn Cache) -> F,
    ) -> Result<Option<T>, CacheError>
    where
        F: Future<Output = Result<Option<T>, CacheError>>,
    {
        let mut failure = None;
        for tier in &self.tiers {
            match ask(&**tier).await {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }
}

#[async_trait]
impl Cache for Tiered {
    fn info(&self) -> CacheInfo {
        self.info.clone()
    }

    fn generation(&self) -> Option<u64> {
        let each: Option<Vec<u64>> = self.tiers.iter().map(|tier| tier.generation()).collect();
        Some(BuildHasherDefault::<DefaultHasher>::default().hash_one(each?))
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        self.first(|tier| tier.narinfo(hash)).await
    }

    async fn narinfo_of(&self, nar: NarIdentity) -> Result<Option<Arc<NarInfo>>, CacheError> {
        self.first(|tier| tier.narinfo_of(nar)).await
    }

    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        self.first(|tier| tier.nar(nar, range.clone())).await
    }

    async fn nar_file(&self, name: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        self.first(|tier| tier.nar_file(name)).await
    }

    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        self.first(|tier| tier.listing(hash)).await
    }

    async fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        let found = self.first(|tier| async move {
            let derivations = tier.derivations(hash).await?;
            Ok(Some(derivations).filter(|found| !found.is_empty()))
        });
        Ok(found.await?.unwrap_or_default())
    }

    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        self.first(|tier| tier.log(derivation)).await
    }

    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        self.first(|tier| tier.realisation(key)).await
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        self.first(|tier| tier.file(hash, names.clone())).await
    }
}
