//! A store in memory to push from: paths with small NARs, and nothing that could go wrong.

use std::{collections::HashMap, ffi::OsString, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_cache::cache::{ByteStream, Cache, CacheError, NarIdentity, PathFile, StoredNar};
use larder_formats::{
    cache_info::CacheInfo,
    hash::Sha256,
    nar::{Encoder, Listing},
    nar_file::NarFile,
    narinfo::{Compression, NarInfo},
    realisation::{Realisation, RealisationKey},
    signature::SecretKey,
    store_path::{StoreDir, StorePath, StorePathHash},
};
use tokio::sync::Semaphore;

/// Some paths.
#[derive(Clone, Default)]
pub(crate) struct Source {
    paths: Arc<HashMap<StorePathHash, (Arc<NarInfo>, Bytes)>>,
    pace: Option<Pace>,
}

/// How the bytes of NARs come.
#[derive(Clone)]
pub(crate) struct Pace {
    /// Bytes at once.
    pub(crate) chunk: usize,
    /// Each chunk takes one, and waits until there is one.
    pub(crate) allowed: Arc<Semaphore>,
}

/// The NAR of a file with these contents.
pub(crate) fn nar_of(contents: &[u8]) -> Vec<u8> {
    let mut nar = Vec::new();
    let mut encoder = Encoder::new(&mut nar);
    encoder.magic();
    encoder.regular_start(false, contents.len() as u64);
    nar.extend_from_slice(contents);
    Encoder::new(&mut nar).regular_end(contents.len() as u64);
    nar
}

/// What a cache of the usual store says of itself.
pub(crate) fn cache_info() -> CacheInfo {
    CacheInfo { store_dir: StoreDir::default(), want_mass_query: true, priority: 30 }
}

impl Source {
    /// Paths with the contents of their files and what they refer to.
    pub(crate) fn new(
        paths: impl IntoIterator<Item = (StorePath, Vec<u8>, Vec<StorePath>)>,
    ) -> Self {
        let made = paths.into_iter().map(|(store_path, contents, references)| {
            let nar = Bytes::from(nar_of(&contents));
            let info = NarInfo {
                url: "nar/unused".to_owned(),
                compression: Compression::None,
                file_hash: None,
                file_size: None,
                nar_hash: Sha256::of(&nar),
                nar_size: nar.len() as u64,
                references: references.into_iter().collect(),
                deriver: None,
                signatures: [].into(),
                ca: None,
                store_path,
            };
            (info.store_path.hash(), (Arc::new(info), nar))
        });
        Self { paths: Arc::new(made.collect()), pace: None }
    }

    /// The same with a signature on each.
    pub(crate) fn signed_by(&self, key: &SecretKey) -> Self {
        let signed = self.paths.iter().map(|(hash, (info, nar))| {
            let mut info = (**info).clone();
            info.sign_with(&StoreDir::default(), key);
            (*hash, (Arc::new(info), nar.clone()))
        });
        Self { paths: Arc::new(signed.collect()), pace: None }
    }

    /// The same, whose NARs come at that pace.
    pub(crate) fn at(&self, pace: Pace) -> Self {
        Self { paths: Arc::clone(&self.paths), pace: Some(pace) }
    }

    /// The same with other bytes than are known of a path.
    pub(crate) fn with_nar(&self, path: StorePathHash, nar: Vec<u8>) -> Self {
        let mut paths = (*self.paths).clone();
        paths.get_mut(&path).unwrap().1 = nar.into();
        Self { paths: Arc::new(paths), pace: self.pace.clone() }
    }

    pub(crate) fn info(&self, path: StorePathHash) -> Arc<NarInfo> {
        Arc::clone(&self.paths[&path].0)
    }

    pub(crate) fn nar(&self, path: StorePathHash) -> Bytes {
        self.paths[&path].1.clone()
    }
}

#[async_trait]
impl Cache for Source {
    fn info(&self) -> CacheInfo {
        cache_info()
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        Ok(self.paths.get(&hash).map(|(info, _)| Arc::clone(info)))
    }

    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        let Some((_, bytes)) = self.paths.get(&nar.path) else { return Ok(None) };
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let size = self.pace.as_ref().map_or(64 * 1024, |pace| pace.chunk);
        let chunks: Vec<_> =
            bytes[range].chunks(size).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
        let pace = self.pace.clone();
        Ok(Some(Box::pin(stream::iter(chunks).then(move |chunk| {
            let pace = pace.clone();
            async move {
                if let Some(pace) = pace {
                    pace.allowed.acquire().await.unwrap().forget();
                    tokio::task::yield_now().await;
                }
                chunk
            }
        }))))
    }

    async fn nar_file(&self, _: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        Ok(None)
    }

    async fn listing(&self, _: StorePathHash) -> Result<Option<Listing>, CacheError> {
        Ok(None)
    }

    async fn derivations(&self, _: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        Ok(Vec::new())
    }

    async fn log(&self, _: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        Ok(None)
    }

    async fn realisation(&self, _: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        Ok(None)
    }

    async fn file(
        &self,
        _: StorePathHash,
        _: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        Ok(None)
    }
}
