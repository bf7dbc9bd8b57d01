//! What was fetched before: a static cache in Nix's plain layout, of which references may be missing.
//!
//! Promise: it takes no more than it may, but for what is being written, and what was not used for longest goes first.
//! Nothing fails because of it: what cannot be read or written is fetched again.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use larder_formats::{
    nar_file::NarFile, narinfo::NarInfo, signature::PublicKey, store_path::StorePathHash,
};
use moka::{policy::EvictionPolicy, sync::Cache as Memory};
use tokio::{
    sync::{Mutex, OnceCell, mpsc},
    time::timeout,
};

use super::tee::{Copied, Tee};
use crate::{
    cache::{ByteStream, Cache, CacheError, NarIdentity},
    compression::Packing,
    source::{ObjectStorage, object_storage::layout},
    storage::{Entry, Key, KeyError, StorageError},
    time::{SKEW, before},
};

/// How what came without compression is packed.
const PACKING: Packing = Packing::Zstd(3);

/// How long it may take to say whether it has something.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is counted in: the sizes of single paths are 32-bit numbers of these.
const UNIT: u64 = 1024;

/// Narinfos that are remembered: some 2 kB each.
const READ: u64 = 5_000;

/// Narinfos that are read at once when it begins.
const AT_ONCE: usize = 32;

/// What was fetched before.
pub struct Kept {
    cache: ObjectStorage,
    /// Whose signatures count now: what was kept by one that was trusted once is not handed out.
    keys: Vec<PublicKey>,
    entries: Memory<StorePathHash, File>,
    /// What was read, and is believed.
    read: Memory<StorePathHash, Arc<NarInfo>>,
    /// Whether what is not among the entries is not there.
    complete: AtomicBool,
    /// What was an entry, and is none any more: too much, lost, or replaced.
    gone: Mutex<mpsc::UnboundedReceiver<(StorePathHash, File)>>,
    /// Whether it may be written to, once that was found out.
    prepared: OnceCell<()>,
    /// What was written before is not being written now.
    begun: Timestamp,
}

/// The NAR of a path, as it is kept.
#[derive(Clone, Copy)]
struct File {
    name: NarFile,
    size: u64,
}

impl Kept {
    /// A cache that takes so many bytes at most, from now on; of it counts what one of these keys signed.
    #[must_use]
    pub fn new(cache: ObjectStorage, keys: Vec<PublicKey>, limit: u64, now: Timestamp) -> Self {
        let (sender, gone) = mpsc::unbounded_channel();
        let units = |file: &File| u32::try_from(file.size / UNIT + 2).unwrap_or(u32::MAX);
        let entries = Memory::builder()
            .max_capacity(limit / UNIT)
            .weigher(move |_: &StorePathHash, file| units(file))
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |hash: Arc<StorePathHash>, file, _| {
                // Without anybody who removes it, the process is ending.
                let _ = sender.send((*hash, file));
            })
            .build();
        Self {
            cache,
            keys,
            entries,
            read: Memory::new(READ),
            complete: AtomicBool::new(false),
            gone: Mutex::new(gone),
            prepared: OnceCell::new(),
            begun: before(now, SKEW),
        }
    }

    /// Finds out what is there, and removes what is too much, for as long as this is polled.
    pub async fn look_after(&self) {
        match self.load().await {
            Ok(()) => self.complete.store(true, Ordering::Relaxed),
            Err(error) => self.complain("what is kept may become too much", &error),
        }
        let mut gone = self.gone.lock().await;
        while let Some((hash, file)) = gone.recv().await {
            if let Err(error) = self.clear_up(hash, &file.name).await {
                self.complain("it stays there", &error);
            }
        }
    }

    /// Removes what no entry needs any more. Where another path has the same NAR, that is fetched again.
    async fn clear_up(&self, hash: StorePathHash, file: &NarFile) -> Result<(), CacheError> {
        let now = self.entries.get(&hash);
        if now.is_none() {
            self.delete(layout::narinfo(hash)).await?;
        }
        match now {
            Some(now) if now.name == *file => Ok(()),
            _ => self.delete(layout::nar_file(file)).await,
        }
    }

    /// What is known of a path that is kept.
    pub(super) async fn narinfo(&self, hash: StorePathHash) -> Option<Arc<NarInfo>> {
        let known = self.entries.get(&hash).is_some();
        if !known && self.complete.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(info) = self.read.get(&hash).filter(|_| known) {
            return Some(info);
        }
        match timeout(PATIENCE, self.cache.narinfo(hash)).await {
            Ok(Ok(Some(info))) => {
                let believed = info.is_trusted_by(self.cache.store_dir(), &self.keys);
                if believed {
                    self.read.insert(hash, Arc::clone(&info));
                }
                return Some(info).filter(|_| believed);
            }
            Ok(Ok(None)) => self.forget(hash),
            // It was read, and is none.
            Ok(Err(error)) if error.cause::<StorageError>().is_none() => self.lose(hash).await,
            Ok(Err(error)) => self.complain("it is fetched again", &error),
            Err(_) => self.complain("it is fetched again", &"no answer in time"),
        }
        None
    }

    /// A NAR that is kept.
    pub(super) async fn nar(
        self: &Arc<Self>,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Option<ByteStream> {
        let info = self.narinfo(nar.path).await.filter(|info| info.nar_hash == nar.nar_hash)?;
        let bytes = match self.cache.nar_of(&info, range).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.complain("it is fetched again", &error);
                None
            }
        };
        let Some(mut bytes) = bytes else {
            self.lose(nar.path).await;
            return None;
        };
        // Damage that shows at once is not shown to anybody.
        let first = bytes.next().await;
        if let Some(Err(error)) = &first {
            self.complain("it is fetched again", error);
            self.lose(nar.path).await;
            return None;
        }
        let bytes = futures::stream::iter(first).chain(bytes);
        let this = Arc::clone(self);
        Some(Box::pin(bytes.or_else(move |error| {
            let this = Arc::clone(&this);
            async move {
                // The next one who asks shall have it from elsewhere.
                this.lose(nar.path).await;
                Err(error)
            }
        })))
    }

    /// Begins to keep the file that a narinfo speaks of, as it is.
    pub(super) async fn begin(&self, info: &NarInfo) -> Option<Tee> {
        if !self.is_prepared().await {
            return None;
        }
        let draft = self.cache.storage().draft().await;
        let draft = draft.inspect_err(|error| self.complain("nothing is kept", error)).ok()?;
        Some(Tee::new(draft, info.compression))
    }

    /// Keeps a path of which the file was copied and is what the narinfo says.
    pub(super) async fn keep(&self, info: &NarInfo, copied: Copied) {
        let Copied { draft, file, size } = copied;
        let written = async {
            draft.publish(&layout::nar_file(&file).map_err(other)?).await.map_err(other)?;
            self.publish(info.clone(), File { name: file, size }).await
        };
        self.tell(written.await);
    }

    /// Keeps a path by packing its NAR.
    pub(super) async fn pack(&self, info: &NarInfo, nar: ByteStream) {
        if !self.is_prepared().await {
            return;
        }
        let written = async {
            let packed = self.cache.pack_anew(info, nar, PACKING, |_| ()).await.map_err(other)?;
            let info = NarInfo { compression: packed.compression, ..info.clone() };
            self.publish(info, File { name: packed.file, size: packed.file_size }).await
        };
        self.tell(written.await);
    }

    async fn publish(&self, mut info: NarInfo, file: File) -> Result<(), CacheError> {
        let hash = info.store_path.hash();
        info.url = file.name.url();
        (info.file_hash, info.file_size) = (Some(file.name.hash), Some(file.size));
        if let Err(error) = self.cache.put_narinfo(info, &[]).await {
            self.delete(layout::nar_file(&file.name)).await?;
            return Err(other(error));
        }
        self.read.invalidate(&hash);
        self.entries.insert(hash, file);
        self.entries.run_pending_tasks();
        Ok(())
    }

    /// Reads what is there: what was used last is put behind the rest. Files without a narinfo are left of a crash.
    async fn load(&self) -> Result<(), StorageError> {
        let storage = self.cache.storage();
        let infos = storage.list_shallow(None).try_filter_map(|entry| async move {
            let hash = entry.key.name().strip_suffix(".narinfo").and_then(|it| it.parse().ok());
            Ok(hash.map(|hash: StorePathHash| (hash, entry)))
        });
        let mut infos: Vec<(StorePathHash, Entry)> = infos.try_collect().await?;
        infos.sort_by_key(|(_, entry)| entry.object.accessed.max(Some(entry.object.modified)));
        let mut needed = HashSet::new();
        let mut read = futures::stream::iter(infos)
            .map(|(hash, _)| async move { (hash, self.cache.narinfo(hash).await) })
            .buffered(AT_ONCE)
            .boxed();
        while let Some((hash, info)) = read.next().await {
            let Ok(Some(info)) = info else { continue };
            let Some(name) = NarFile::of_url(&info.url) else { continue };
            needed.insert(name);
            let size = info.file_size.unwrap_or(info.nar_size);
            self.entries.insert(hash, File { name, size });
        }
        drop(read);
        self.entries.run_pending_tasks();
        self.sweep(&needed).await
    }

    async fn sweep(&self, needed: &HashSet<NarFile>) -> Result<(), StorageError> {
        let storage = self.cache.storage();
        let (Ok(nars), Ok(drafts)) = (Key::new("nar"), Key::new(".larder/drafts")) else {
            return Ok(());
        };
        let left = storage.list(Some(&nars)).chain(storage.list(Some(&drafts)));
        let left: Vec<Entry> = left.try_collect().await?;
        for entry in left {
            let nar = NarFile::parse(entry.key.name());
            let is_needed = nar.is_some_and(|nar| needed.contains(&nar));
            if !is_needed && entry.object.modified < self.begun {
                storage.delete(&entry.key).await?;
            }
        }
        Ok(())
    }

    /// The next one who asks shall have it from elsewhere.
    async fn lose(&self, path: StorePathHash) {
        tracing::warn!(%path, "cannot be read in {} any more", self.cache.storage().url());
        self.forget(path);
        if let Err(error) = self.delete(layout::narinfo(path)).await {
            self.complain("it stays there", &error);
        }
    }

    fn forget(&self, path: StorePathHash) {
        self.entries.invalidate(&path);
        self.read.invalidate(&path);
    }

    async fn delete(&self, key: Result<Key, KeyError>) -> Result<(), CacheError> {
        self.cache.storage().delete(&key.map_err(other)?).await.map_err(other)
    }

    async fn is_prepared(&self) -> bool {
        let prepared = self.prepared.get_or_try_init(|| self.cache.prepare()).await;
        prepared.inspect_err(|error| self.complain("nothing is kept", error)).is_ok()
    }

    fn tell(&self, written: Result<(), CacheError>) {
        if let Err(error) = written {
            self.complain("a path is not kept", &error);
        }
    }

    fn complain(&self, what: &str, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "{}: {what}", self.cache.storage().url());
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> CacheError {
    CacheError::new("keeping a path", error)
}
