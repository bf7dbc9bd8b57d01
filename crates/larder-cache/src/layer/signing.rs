//! Signs narinfos and realisations on the fly.
//!
//! For a store whose paths were built here and never signed. The signatures that a path already has
//! are kept; each configured key adds one. A signature is made once per fingerprint and remembered,
//! so a path that was deleted and built again with other bytes gets its own.

use std::{ffi::OsString, ops::Range, sync::Arc};

use async_trait::async_trait;
use larder_formats::{
    cache_info::CacheInfo,
    hash::Sha256,
    nar::Listing,
    nar_file::NarFile,
    narinfo::NarInfo,
    realisation::{Realisation, RealisationKey},
    signature::{SecretKey, Signature},
    store_path::{StorePath, StorePathHash},
};
use moka::sync::Cache as Memory;

use crate::cache::{ByteStream, Cache, CacheError, NarIdentity, PathFile, StoredNar};

/// Signatures remembered: some 30 MB with one key.
const REMEMBERED: u64 = 100_000;

/// A cache whose narinfos and realisations are signed by these keys, too.
pub struct Signing<C> {
    inner: C,
    keys: Vec<SecretKey>,
    remembered: Memory<Sha256, Arc<[Signature]>>,
}

impl<C: Cache> Signing<C> {
    /// Wraps a cache. With no keys the narinfos pass as they are.
    pub fn new(inner: C, keys: Vec<SecretKey>) -> Self {
        Self { inner, keys, remembered: Memory::new(REMEMBERED) }
    }

    fn signed(&self, mut info: Arc<NarInfo>) -> Arc<NarInfo> {
        if !self.keys.is_empty() {
            let signatures = self.signatures(&info);
            Arc::make_mut(&mut info).signatures.extend(signatures.iter().cloned());
        }
        info
    }

    fn signatures(&self, info: &NarInfo) -> Arc<[Signature]> {
        let fingerprint = info.fingerprint(&self.inner.info().store_dir);
        self.remembered.get_with(Sha256::of(fingerprint.as_bytes()), || {
            self.keys.iter().map(|key| key.sign(fingerprint.as_bytes())).collect()
        })
    }
}

#[async_trait]
impl<C: Cache> Cache for Signing<C> {
    fn info(&self) -> CacheInfo {
        self.inner.info()
    }

    fn generation(&self) -> Option<u64> {
        self.inner.generation()
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        Ok(self.inner.narinfo(hash).await?.map(|info| self.signed(info)))
    }

    async fn narinfo_of(&self, nar: NarIdentity) -> Result<Option<Arc<NarInfo>>, CacheError> {
        Ok(self.inner.narinfo_of(nar).await?.map(|info| self.signed(info)))
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
        let mut realisation = self.inner.realisation(key).await?;
        // Asked for once per derivation that a client would build, so nothing is remembered.
        for key in &self.keys {
            realisation.iter_mut().for_each(|realisation| realisation.sign_with(key));
        }
        Ok(realisation)
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        self.inner.file(hash, names).await
    }
}
