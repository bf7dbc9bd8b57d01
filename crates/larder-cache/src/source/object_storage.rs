//! A static cache: narinfos and NARs as objects, in Nix's own layout, wherever objects can be.
//!
//! Promises that a narinfo is written after its NAR is there to stay, verified, and after its references;
//! and that what other programs wrote is read as Nix would read it. Nothing is remembered: any number
//! of servers may stand before one bucket.

mod commit;
mod files;
pub mod layout;
mod pack;
mod recognise;
mod stage;
mod watcher;

use std::{ffi::OsString, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use larder_formats::{
    cache_info::CacheInfo,
    nar::Listing,
    nar_file::NarFile,
    narinfo::{Compression, NarInfo},
    realisation::{Realisation, RealisationKey},
    store_path::{StoreDir, StorePath, StorePathHash},
};
use tokio_util::io::StreamReader;

pub(crate) use self::commit::agree;
pub use self::{
    commit::{CommitError, Committed, Terms},
    layout::BuildId,
    pack::{PackError, Packed},
    recognise::{Identity, RecogniseError},
    stage::{Incoming, Limits, StageError, Staged},
};
use crate::{
    cache::{ByteStream, Cache, CacheError, NarIdentity, PathFile, StoredNar},
    compression,
    lease::{HeldSince, LeaseError, Leases},
    names::Names,
    storage::{Key, KeyError, ObjectStream, Opened, Storage, StorageErrorKind},
};

/// Bytes of a narinfo; some paths refer to thousands of others.
pub const NARINFO_LIMIT: usize = 4 * 1024 * 1024;

/// Bytes of a listing: a million files.
const LISTING_LIMIT: usize = 256 * 1024 * 1024;

/// Bytes of a realisation.
const REALISATION_LIMIT: usize = 1024 * 1024;

/// A static cache in some place for objects.
#[derive(Clone, Debug)]
pub struct ObjectStorage {
    storage: Arc<dyn Storage>,
    info: CacheInfo,
    leases: Option<Arc<Leases>>,
}

impl ObjectStorage {
    /// The cache in that place, which need not be reachable now. `info` is what it will say of itself.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, info: CacheInfo) -> Self {
        Self { storage, info, leases: None }
    }

    /// The same for one who writes: what is being worked with is held, so that no collection takes it
    /// away meanwhile.
    #[must_use]
    pub fn holding(self, leases: Arc<Leases>) -> Self {
        Self { leases: Some(leases), ..self }
    }

    /// Sees to it that what is there of these, looked at after this, stays; see [`Leases::hold`]. A place whose
    /// server does so itself has no leases of ours.
    ///
    /// # Errors
    /// When the place cannot be written to.
    pub async fn hold(&self, names: &Names) -> Result<HeldSince, LeaseError> {
        match &self.leases {
            Some(leases) => leases.hold(names).await,
            None => Ok(HeldSince::EVER),
        }
    }

    /// The same without waiting for a collection: whether they are held. See [`Leases::try_hold`].
    ///
    /// # Errors
    /// As [`ObjectStorage::hold`].
    pub async fn try_hold(&self, names: &Names) -> Result<bool, LeaseError> {
        match &self.leases {
            Some(leases) => leases.try_hold(names).await,
            None => Ok(true),
        }
    }

    /// Keeps what is held, for as long as this is polled.
    pub async fn keep_holding(&self) -> ! {
        match &self.leases {
            Some(leases) => leases.keep().await,
            None => std::future::pending().await,
        }
    }

    /// The folder that its paths are called by.
    #[must_use]
    pub fn store_dir(&self) -> &StoreDir {
        &self.info.store_dir
    }

    /// Where anybody may fetch the file of a NAR for that long. Nothing where the place has no such addresses, or not
    /// that file.
    ///
    /// # Errors
    /// When the place does not tell.
    pub async fn signed_nar(
        &self,
        name: &NarFile,
        lifetime: Duration,
    ) -> Result<Option<String>, CacheError> {
        let key = named(layout::nar_file(name))?;
        let what = |error| CacheError::new(self.what("signing the address of", &key), error);
        let Some(address) = self.storage.signed_url(&key, lifetime).await.map_err(what)? else {
            return Ok(None);
        };
        // An address of what is not there would be answered by an error of the place's own.
        Ok(self.storage.stat(&key).await.map_err(what)?.map(|_| address))
    }

    /// Which NAR has the debug information of a build, as JSON.
    ///
    /// # Errors
    /// When the place does not tell.
    pub async fn debuginfo(&self, build_id: BuildId) -> Result<Option<Bytes>, CacheError> {
        let key = named(layout::debuginfo(build_id))?;
        self.get(&key, REALISATION_LIMIT).await
    }

    /// Where it is.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Lets go of what is held. What cannot be told to the place ends by itself.
    pub async fn release(&self) {
        if let Some(leases) = &self.leases
            && let Err(error) = leases.release().await
        {
            tracing::debug!(%error, "leases are left to expire");
        }
    }

    /// The listing that lies beside a narinfo, if one does.
    async fn written_listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        let key = named(layout::listing(hash))?;
        let Some(text) = self.get(&key, LISTING_LIMIT).await? else { return Ok(None) };
        let text = text_of(&key, &text)?;
        let malformed = |error| CacheError::new(self.what("reading", &key), error);
        Listing::parse(text).map(Some).map_err(malformed)
    }

    /// The file that a narinfo's URL leads to, from a byte on to its end.
    ///
    /// # Errors
    /// When the place does not tell.
    pub async fn file_of(
        &self,
        info: &NarInfo,
        from: u64,
    ) -> Result<Option<ByteStream>, CacheError> {
        let (link, url) = (info.url.clone(), self.storage.url().to_owned());
        let what = move || format!("reading {link} in {url}");
        let file = self.storage.follow(&info.url, from).await;
        let file = file.map_err(|error| CacheError::new(what(), error))?;
        Ok(file.map(|file| of_cache(file, what)))
    }

    /// The NAR that a narinfo of this cache speaks of, as [`Cache::nar`].
    ///
    /// # Errors
    /// When the place does not tell.
    pub async fn nar_of(
        &self,
        info: &NarInfo,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        let start = if info.compression == Compression::None { range.start } else { 0 };
        let Some(file) = self.file_of(info, start).await? else { return Ok(None) };
        let (reader, what) = self.unpacked(info, file)?;
        Ok(Some(files::part(reader, range.start - start, Some(range.end - start), what)))
    }

    /// The NAR in a file that comes from its beginning, without its first `skipped` bytes: to the end of the file,
    /// however many these are.
    ///
    /// # Errors
    /// When it is packed in a way that is not known here.
    pub fn rest_of(
        &self,
        info: &NarInfo,
        file: ByteStream,
        skipped: u64,
    ) -> Result<ByteStream, CacheError> {
        let (reader, what) = self.unpacked(info, file)?;
        Ok(files::part(reader, skipped, None, what))
    }

    fn unpacked(
        &self,
        info: &NarInfo,
        file: ByteStream,
    ) -> Result<(files::Reader, String), CacheError> {
        let what = format!("reading {} in {}", info.url, self.storage.url());
        let reader = StreamReader::new(file.map_err(std::io::Error::other));
        let nar = compression::unpacked(info.compression, reader)
            .map_err(|error| CacheError::new(what.clone(), error))?;
        Ok((nar, what))
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, CacheError> {
        let answer = self.storage.get(key, limit).await;
        answer.map_err(|error| CacheError::new(self.what("reading", key), error))
    }

    fn what(&self, doing: &str, key: &Key) -> String {
        format!("{doing} {key} in {}", self.storage.url())
    }
}

#[async_trait]
impl Cache for ObjectStorage {
    fn info(&self) -> CacheInfo {
        self.info.clone()
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        let key = named(layout::narinfo(hash))?;
        let Some(text) = self.get(&key, NARINFO_LIMIT).await? else { return Ok(None) };
        let malformed = |error| CacheError::new(self.what("reading", &key), error);
        let info = NarInfo::parse(text_of(&key, &text)?, &self.info.store_dir)
            .map_err(|error| malformed(error.to_string()))?;
        if info.store_path.hash() != hash {
            return Err(malformed(format!("it is about {}", info.store_path)));
        }
        Ok(Some(Arc::new(info)))
    }

    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        let Some(info) = self.narinfo(nar.path).await? else { return Ok(None) };
        if info.nar_hash != nar.nar_hash {
            return Ok(None);
        }
        self.nar_of(&info, range).await
    }

    async fn nar_file(&self, name: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        let key = named(layout::nar_file(name))?;
        // Put together only when something fails: that took some twentieth of the time of a small NAR's answer.
        let (this, at) = (self.clone(), key.clone());
        let what = move || this.what("reading", &at);
        match self.storage.open(&key).await {
            Err(error) if error.kind == StorageErrorKind::Unsupported => {}
            Err(error) => return Err(CacheError::new(what(), error)),
            Ok(opened) => {
                return Ok(opened.map(|Opened { size, read }| {
                    let contents = Box::new(move |range| of_cache(read(range), what));
                    StoredNar { size, contents }
                }));
            }
        }
        let object = self.storage.stat(&key).await;
        let object = object.map_err(|error| CacheError::new(what(), error))?;
        let Some(object) = object else { return Ok(None) };
        let storage = Arc::clone(&self.storage);
        let contents = Box::new(move |range| opened(storage, key, range, what()));
        Ok(Some(StoredNar { size: object.size, contents }))
    }

    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        let Some(info) = self.narinfo(hash).await? else { return Ok(None) };
        if let Some(listing) = self.written_listing(hash).await? {
            return Ok(Some(listing));
        }
        let identity = NarIdentity { path: hash, nar_hash: info.nar_hash };
        let Some(nar) = self.nar(identity, 0..info.nar_size).await? else { return Ok(None) };
        files::list(nar, format!("listing {}", info.store_path)).await
    }

    async fn derivations(&self, _hash: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        // Logs lie under their derivation's name, and nothing else is known of derivations here.
        Ok(Vec::new())
    }

    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        let key = named(layout::log(derivation))?;
        let what = self.what("reading", &key);
        let failed = |error| CacheError::new(what.clone(), error);
        let Some(object) = self.storage.stat(&key).await.map_err(failed)? else { return Ok(None) };
        let log = self.storage.read(&key, 0..object.size).await.map_err(failed)?;
        Ok(log.map(|log| of_cache(log, move || what.clone())))
    }

    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        let at = named(layout::realisation(key))?;
        let Some(text) = self.get(&at, REALISATION_LIMIT).await? else { return Ok(None) };
        let malformed = |error| CacheError::new(self.what("reading", &at), error);
        Realisation::parse(key, text_of(&at, &text)?).map(Some).map_err(malformed)
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        let Some(info) = self.narinfo(hash).await? else { return Ok(None) };
        let Some(listing) = self.listing(hash).await? else { return Ok(None) };
        let Some(found) = files::find(&listing, &names) else { return Ok(None) };
        let this = self.clone();
        let nar = NarIdentity { path: hash, nar_hash: info.nar_hash };
        let contents = move |range| {
            let answer = async move {
                let gone = || CacheError::new(format!("reading {}", info.store_path), "it is gone");
                this.nar(nar, range).await?.ok_or_else(gone)
            };
            Box::pin(stream::once(answer).try_flatten()) as ByteStream
        };
        Ok(Some(found.with_contents(contents)))
    }
}

/// A name made from parsed values, which cannot but be one.
fn named(key: Result<Key, KeyError>) -> Result<Key, CacheError> {
    key.map_err(|error| CacheError::new("naming an object", error))
}

fn text_of<'a>(key: &Key, bytes: &'a [u8]) -> Result<&'a str, CacheError> {
    std::str::from_utf8(bytes).map_err(|error| CacheError::new(format!("reading {key}"), error))
}

fn of_cache(stream: ObjectStream, what: impl Fn() -> String + Send + 'static) -> ByteStream {
    Box::pin(stream.map(move |chunk| chunk.map_err(|error| CacheError::new(what(), error))))
}

fn opened(storage: Arc<dyn Storage>, key: Key, range: Range<u64>, what: String) -> ByteStream {
    let opened = async move {
        match storage.read(&key, range).await {
            Ok(Some(contents)) => Ok(of_cache(contents, move || what.clone())),
            Ok(None) => Err(CacheError::new(what, "it is gone")),
            Err(error) => Err(CacheError::new(what, error)),
        }
    };
    Box::pin(stream::once(opened).try_flatten())
}
