//! Packing a NAR into the folder, once, for whoever reads it meanwhile and later.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use metrics::{Counter, Gauge};
use moka::sync::Cache as Memory;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::Instant,
};

use crate::hashing::Hasher;

use super::{
    coming::{PackedError, Progress},
    folder::Folder,
    kept::{Kept, Key, footprint},
    packer::Unpacked,
    shelf::{NoRoom, Shelf},
};

/// The counter of packed NARs that were put into the folder.
pub const PACKED: &str = "larder_packed_nars_packed_total";

/// The counter of those that had to go for others.
pub const DROPPED: &str = "larder_packed_nars_dropped_total";

/// The gauge of the bytes that those take that are kept.
pub const KEPT_BYTES: &str = "larder_packed_nars_bytes";

/// How long what other processes do with the folder may be unknown.
const COMPARE: Duration = Duration::from_secs(30);

/// Packed NARs that are remembered as too large.
const TOO_LARGE: u64 = 1000;

/// What is kept, and what is under way.
pub(super) struct Books {
    pub(super) shelf: Shelf,
    pub(super) under_way: HashMap<Key, watch::Receiver<Progress>>,
    /// Another one whenever something was added.
    pub(super) generation: u64,
    compared: Instant,
}

/// The folder and all that is known of it.
pub(super) struct Keeping {
    pub(super) folder: Folder,
    books: Mutex<Books>,
    /// NARs that are packed at once.
    turns: Semaphore,
    /// Packed NARs that do not fit, so that not every request for one drives out others in vain.
    too_large: Memory<Key, ()>,
    packed: Counter,
    dropped: Counter,
    bytes: Gauge,
}

/// Why a NAR was not packed to its end.
enum Trouble {
    /// The folder's.
    Folder(io::Error),
    /// The limit's.
    NoRoom(NoRoom),
    /// The NAR's.
    Nar(PackedError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Folder(error)
    }
}

/// Room that one under way takes, given back when it is not any more.
struct Room<'a> {
    keeping: &'a Keeping,
    taken: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.keeping.books().shelf.give_back(self.taken);
    }
}

impl Keeping {
    /// A folder in which these are, the least recently used first.
    pub(super) fn new((folder, kept): (Folder, Vec<Kept>), limit: u64, at_once: usize) -> Self {
        let mut shelf = Shelf::new(limit);
        let gone: Vec<Kept> = kept.into_iter().flat_map(|kept| shelf.keep(kept)).collect();
        let under_way = HashMap::new();
        let books = Books { shelf, under_way, generation: 0, compared: Instant::now() };
        let keeping = Self {
            folder,
            books: Mutex::new(books),
            turns: Semaphore::new(at_once),
            too_large: Memory::new(TOO_LARGE),
            packed: metrics::counter!(PACKED),
            dropped: metrics::counter!(DROPPED),
            bytes: metrics::gauge!(KEPT_BYTES),
        };
        keeping.remove(&gone);
        keeping
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far a NAR is. Where nobody packs it, it is begun; nothing, if it is too large to be kept.
    pub(super) fn progress(
        self: &Arc<Self>,
        key: Key,
        unpacked: &Unpacked,
    ) -> Option<watch::Receiver<Progress>> {
        if self.too_large.contains_key(&key) {
            return None;
        }
        let mut books = self.books();
        // One that nobody writes to any more broke off.
        if let Some(progress) = books.under_way.get(&key)
            && progress.has_changed().is_ok()
        {
            return Some(progress.clone());
        }
        let (sender, progress) = watch::channel(Progress::Waiting);
        books.under_way.insert(key, progress.clone());
        // Not for this reader's sake alone, so it does not end with it.
        tokio::spawn(Arc::clone(self).pack(key, unpacked.clone(), sender));
        Some(progress)
    }

    /// Packs a NAR; what becomes of it is told as it does.
    async fn pack(
        self: Arc<Self>,
        key: Key,
        unpacked: Unpacked,
        progress: watch::Sender<Progress>,
    ) {
        // It is never closed.
        let Ok(_turn) = self.turns.acquire().await else { return };
        if self.is_left(key, &progress) {
            return;
        }
        let path = unpacked.nar.path;
        let written = self.write(key, &unpacked, &progress).await;
        let last = match written {
            Ok(()) => None,
            Err(Trouble::Nar(error)) => Some(Progress::Failed(error)),
            Err(Trouble::NoRoom(NoRoom { ever })) => {
                if !ever {
                    self.too_large.insert(key, ());
                }
                tracing::info!(%path, "there is no room to keep its packed NAR");
                Some(Progress::GivenUp)
            }
            Err(Trouble::Folder(error)) => {
                tracing::warn!(%error, %path, "its packed NAR cannot be kept in {}", self.folder.display());
                Some(Progress::GivenUp)
            }
        };
        self.books().under_way.remove(&key);
        if let Some(last) = last {
            // Whoever wants to know still.
            progress.send_replace(last);
        }
    }

    /// Whether everybody went away who wanted it, before it was begun. It is not under way then.
    fn is_left(&self, key: Key, progress: &watch::Sender<Progress>) -> bool {
        let mut books = self.books();
        // One of those who look is the books.
        let left = progress.receiver_count() <= 1;
        if left {
            books.under_way.remove(&key);
        }
        left
    }

    async fn write(
        self: &Arc<Self>,
        key: Key,
        unpacked: &Unpacked,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Trouble> {
        let packed = unpacked.packed(key.recipe.level(), 0).await;
        let packed = packed.map_err(|error| Trouble::Nar(error.into()))?;
        let mut packed = packed.ok_or(Trouble::Nar(PackedError::Gone))?;
        let file = Arc::new(self.blocking(|this| this.folder.draft()).await?);
        let (mut hasher, mut size) = (Hasher::new(), 0);
        let mut room = Room { keeping: self, taken: 0 };
        while let Some(chunk) = packed.next().await {
            let chunk = chunk.map_err(|error| Trouble::Nar(error.into()))?;
            hasher.update(&chunk);
            let to = size + chunk.len() as u64;
            let grown = self.books().shelf.grow(room.taken, footprint(to));
            let gone = grown.map_err(Trouble::NoRoom)?;
            room.taken = footprint(to);
            self.append(&file, (chunk, size), gone).await?;
            size = to;
            progress.send_replace(Progress::Written(Arc::clone(&file), size));
        }
        let kept = Kept { key, size, hash: hasher.finish() };
        // They need not wait until it is safe.
        progress.send_replace(Progress::Whole(Arc::clone(&file), size));
        self.blocking(move |this| this.folder.keep(&file, &kept)).await?;
        drop(room);
        self.packed.increment(1);
        let (gone, compare) = {
            let mut books = self.books();
            let gone = books.shelf.keep(kept);
            books.generation += 1;
            (gone, books.compared.elapsed() >= COMPARE)
        };
        self.blocking(move |this| {
            this.remove(&gone);
            if compare { this.compare() } else { Ok(()) }
        })
        .await?;
        Ok(())
    }

    /// Keeps one no more that cannot be read.
    pub(super) fn lose(&self, kept: &Kept) {
        tracing::warn!(
            "a packed NAR cannot be read, and is removed from {}",
            self.folder.display()
        );
        self.books().shelf.forget(kept.key);
        self.remove(&[*kept]);
    }

    /// Writes a chunk at its place, in the room of those that are gone.
    async fn append(
        self: &Arc<Self>,
        file: &Arc<File>,
        (chunk, at): (Bytes, u64),
        gone: Vec<Kept>,
    ) -> io::Result<()> {
        let file = Arc::clone(file);
        self.blocking(move |this| {
            this.remove(&gone);
            file.write_all_at(&chunk, at)
        })
        .await
    }

    /// Looks at what other processes put there or took away.
    fn compare(&self) -> io::Result<()> {
        let there = self.folder.list()?;
        let gone = {
            let mut books = self.books();
            books.compared = Instant::now();
            books.generation += 1;
            books.shelf.compare(&there)
        };
        self.remove(&gone);
        Ok(())
    }

    /// Removes what has to go. What cannot be removed is found again.
    fn remove(&self, gone: &[Kept]) {
        for kept in gone {
            match self.folder.remove(kept) {
                Ok(()) => self.dropped.increment(1),
                Err(error) => {
                    tracing::warn!(%error, "a packed NAR cannot be removed from {}", self.folder.display());
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
        self.bytes.set(self.books().shelf.taken() as f64);
    }

    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let this = Arc::clone(self);
        spawn_blocking(move || work(&this)).await.map_err(io::Error::other).flatten()
    }
}
