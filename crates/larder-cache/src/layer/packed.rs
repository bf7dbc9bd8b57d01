//! Says in narinfos that NARs are had packed, and how large they are once that is known.
//!
//! A signature does not cover any of it. What a narinfo says stays true when the packed NAR is dropped: it is
//! packed again to the same bytes.

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

use crate::{
    cache::{ByteStream, Cache, CacheError, NarIdentity, PathFile, StoredNar},
    packed::PackedNars,
};

/// A cache whose narinfos lead to packed NARs.
pub struct Packed<C> {
    inner: C,
    nars: PackedNars,
}

impl<C: Cache> Packed<C> {
    /// Wraps a cache.
    pub fn new(inner: C, nars: PackedNars) -> Self {
        Self { inner, nars }
    }
}

#[async_trait]
impl<C: Cache> Cache for Packed<C> {
    fn info(&self) -> CacheInfo {
        self.inner.info()
    }

    fn generation(&self) -> Option<u64> {
        let both = (self.inner.generation()?, self.nars.generation());
        Some(BuildHasherDefault::<DefaultHasher>::default().hash_one(both))
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        let Some(mut info) = self.inner.narinfo(hash).await? else { return Ok(None) };
        self.nars.describe(Arc::make_mut(&mut info));
        Ok(Some(info))
    }

    async fn narinfo_of(&self, nar: NarIdentity) -> Result<Option<Arc<NarInfo>>, CacheError> {
        let Some(mut info) = self.inner.narinfo_of(nar).await? else { return Ok(None) };
        self.nars.describe(Arc::make_mut(&mut info));
        Ok(Some(info))
    }

    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        self.inner.nar(nar, range).await
    }

    async fn nar_file(&self, name: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        self.inner.nar_file(name).await
    }

    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        self.inner.listing(hash).await
    }

    async fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        self.inner.derivations(hash).await
    }

    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        self.inner.log(derivation).await
    }

    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        self.inner.realisation(key).await
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        self.inner.file(hash, names).await
    }
}
