//! The machine's own store as a cache.
//!
//! Every answer is read from Nix's database or the store's files at that moment, or was since the
//! database last changed, so nothing here is ever stale. NARs are made while they are sent. A path
//! collected in the middle of an answer ends that answer with an error; it never turns into wrong bytes
//! of the right length.

use std::{ffi::OsString, fs::File, ops::Range, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt;
use larder_formats::{
    cache_info::CacheInfo,
    nar::Listing,
    nar_file::NarFile,
    narinfo::NarInfo,
    realisation::{Realisation, RealisationKey},
    store_path::{StorePath, StorePathHash},
};
use larder_nix::{
    build_log::BuildLog,
    contents::Contents,
    database::{Database, DatabaseError, PathInfo},
    dump::{self, Dump},
    files,
    layout::StoreLayout,
    read_ahead,
};
use moka::sync::Cache as Memory;
use tokio::task::spawn_blocking;

use crate::cache::{
    ByteStream, Cache, CacheError, FolderEntry, FolderEntryKind, NarIdentity, PathFile, StoredNar,
};

/// Paths of which is remembered what is known. A client that asked for a narinfo comes back for the NAR,
/// and the next client for the same path; one takes some 2 kB.
const REMEMBERED: u64 = 2000;

/// A local Nix store, served as it is.
#[derive(Clone)]
pub struct LocalStore {
    layout: Arc<StoreLayout>,
    database: Arc<Database>,
    priority: u32,
    /// Each with the generation under which it was true; of no use under another.
    remembered: Memory<StorePathHash, (u64, Option<Arc<NarInfo>>)>,
}

impl LocalStore {
    /// Opens a store. `priority` is what Nix calls a substituter's priority: lower is asked first;
    /// cache.nixos.org has 40.
    pub fn open(layout: StoreLayout, priority: u32) -> Result<Self, DatabaseError> {
        let database = Database::open(&layout)?;
        Ok(Self {
            layout: Arc::new(layout),
            database: Arc::new(database),
            priority,
            remembered: Memory::new(REMEMBERED),
        })
    }
}

#[async_trait]
impl Cache for LocalStore {
    fn info(&self) -> CacheInfo {
        CacheInfo {
            store_dir: self.layout.store_dir.clone(),
            want_mass_query: true,
            priority: self.priority,
        }
    }

    fn generation(&self) -> Option<u64> {
        self.database.generation().ok().flatten()
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        // Asked before the answer is read: what changes in between makes the entry old, not wrong.
        let generation = self.generation();
        if let Some((remembered, info)) = self.remembered.get(&hash)
            && Some(remembered) == generation
        {
            return Ok(info);
        }
        let database = Arc::clone(&self.database);
        let found =
            blocking(format!("looking up {hash}"), move || database.path_info(hash)).await?;
        let info = found.map(|info| Arc::new(narinfo(info)));
        if let Some(generation) = generation {
            self.remembered.insert(hash, (generation, info.clone()));
        }
        Ok(info)
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
        let what = format!("reading {}", info.store_path);
        let dump = Dump::new(&self.layout.real_path(&info.store_path), range);
        let stream = read_ahead::stream(dump)
            .map(move |chunk| chunk.map_err(|error| CacheError::new(what.clone(), error)));
        Ok(Some(Box::pin(stream)))
    }

    async fn nar_file(&self, _name: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        Ok(None)
    }

    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        let Some(info) = self.narinfo(hash).await? else { return Ok(None) };
        let real = self.layout.real_path(&info.store_path);
        blocking(format!("listing {}", info.store_path), move || dump::list(&real)).await.map(Some)
    }

    async fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        let database = Arc::clone(&self.database);
        blocking(format!("looking up the deriver of {hash}"), move || database.derivations(hash))
            .await
    }

    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        let (layout, name) = (Arc::clone(&self.layout), derivation.clone());
        let what = format!("reading the log of {derivation}");
        let log = blocking(what.clone(), move || BuildLog::open(&layout, &name)).await?;
        Ok(log.map(|log| {
            let stream = read_ahead::stream(log)
                .map(move |chunk| chunk.map_err(|error| CacheError::new(what.clone(), error)));
            Box::pin(stream) as ByteStream
        }))
    }

    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        let (database, key) = (Arc::clone(&self.database), key.clone());
        blocking(format!("looking up the realisation {key}"), move || database.realisation(&key))
            .await
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        let Some(info) = self.narinfo(hash).await? else { return Ok(None) };
        let layout = Arc::clone(&self.layout);
        let what = format!("looking into {}", info.store_path);
        let found = blocking(what, {
            let path = info.store_path.clone();
            move || files::find(&layout.real_path(&path), &layout.store_dir, &path, &names)
        });
        Ok(match found.await? {
            None => None,
            Some(files::Found::Regular { size, file }) => {
                let what = format!("reading {}", info.store_path);
                let contents = Box::new(move |range| contents(what, file, range));
                Some(PathFile::Regular { size, contents })
            }
            Some(files::Found::Directory(entries)) => {
                Some(PathFile::Directory(entries.into_iter().map(entry).collect()))
            }
        })
    }
}

fn contents(what: String, file: File, range: Range<u64>) -> ByteStream {
    let contents = read_ahead::stream(Contents::new(file, range));
    Box::pin(contents.map(move |chunk| chunk.map_err(|error| CacheError::new(what.clone(), error))))
}

fn entry(entry: files::Entry) -> FolderEntry {
    let kind = match entry.kind {
        files::EntryKind::Regular(size) => FolderEntryKind::Regular(size),
        files::EntryKind::Directory => FolderEntryKind::Directory,
        files::EntryKind::Symlink(target) => FolderEntryKind::Symlink(target),
    };
    FolderEntry { name: entry.name, kind }
}

fn narinfo(info: PathInfo) -> NarInfo {
    // Both halves of the NAR's identity, in the style that most servers of stores use.
    let url = format!("nar/{}.nar?hash={}", info.nar_hash.to_nix32(), info.path.hash());
    info.into_narinfo(url)
}

async fn blocking<T, E>(
    what: String,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, CacheError>
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    match spawn_blocking(work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(CacheError::new(what, error)),
        Err(panicked) => Err(CacheError::new(what, panicked)),
    }
}
