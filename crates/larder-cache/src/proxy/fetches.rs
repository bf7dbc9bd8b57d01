//! The NARs that are being fetched: each of them once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Semaphore, watch};

use super::{
    fetch::{Fetch, Fetched, Means},
    spool::{self, Progress},
    tier::Source,
};
use crate::{
    cache::{ByteStream, CacheError, NarIdentity},
    on_a_thread::on_a_thread,
};

/// NARs that are fetched at once. Each takes a decoder, with xz some 9 MB of a large NAR, and one that is small is held
/// in memory.
const AT_ONCE: usize = 24;

type UnderWay = HashMap<NarIdentity, watch::Receiver<Progress>>;

/// What is being fetched.
pub(super) struct Fetches {
    pub(super) means: Arc<Means>,
    under_way: Mutex<UnderWay>,
    places: Semaphore,
    begun: AtomicU64,
}

impl Fetches {
    pub(super) fn new(means: Means) -> Self {
        Self {
            means: Arc::new(means),
            under_way: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            begun: AtomicU64::new(0),
        }
    }

    /// Part of a NAR that an upstream has. Nothing, if it turns out that nobody has it.
    pub(super) async fn nar(
        self: &Arc<Self>,
        source: Source,
        range: std::ops::Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        spool::follow(self.progress(source), range).await
    }

    /// How far one that is being fetched is, or was just fetched.
    pub(super) fn under_way(&self, nar: &NarIdentity) -> Option<watch::Receiver<Progress>> {
        going_on(&self.books(), nar)
    }

    /// NARs that were begun to be fetched.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    fn books(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is. Where nobody fetches it, it is begun.
    fn progress(self: &Arc<Self>, source: Source) -> watch::Receiver<Progress> {
        let mut books = self.books();
        if let Some(progress) = going_on(&books, &source.nar()) {
            return progress;
        }
        let (sender, progress) = watch::channel(Progress::Begun);
        books.insert(source.nar(), progress.clone());
        drop(books);
        self.begun.fetch_add(1, Ordering::Relaxed);
        // Not for this reader's sake alone, so it does not end with it.
        tokio::spawn(Arc::clone(self).fetch(source, sender));
        progress
    }

    async fn fetch(self: Arc<Self>, source: Source, progress: watch::Sender<Progress>) {
        let nar = source.nar();
        // It is never closed.
        let Ok(_place) = self.places.acquire().await else { return };
        match Fetch::new(Arc::clone(&self.means), &source, progress.clone()) {
            Err(error) => {
                let error = CacheError::new("making room for a NAR on its way", error);
                tracing::error!("{error}");
                progress.send_replace(Progress::Failed(error));
            }
            Ok(fetch) => {
                // Unpacking and hashing take a processor.
                let fetched = on_a_thread(fetch.run(source)).await;
                match fetched {
                    Ok(Some(fetched)) => self.keep(&progress, fetched).await,
                    Ok(None) => {}
                    Err(lost) => {
                        let error = CacheError::new("fetching a NAR", lost);
                        progress.send_replace(Progress::Failed(error));
                    }
                }
            }
        }
        self.books().remove(&nar);
    }

    /// Keeps what was fetched for those who come later.
    async fn keep(&self, progress: &watch::Sender<Progress>, fetched: Fetched) {
        let Some(kept) = &self.means.kept else { return };
        let info = &fetched.source.info;
        match fetched.copied {
            Some(copied) => kept.keep(info, copied).await,
            None => {
                let nar = spool::follow(progress.subscribe(), 0..info.nar_size).await;
                if let Ok(Some(nar)) = nar {
                    kept.pack(info, nar).await;
                }
            }
        }
    }
}

/// What is under way, unless it has come to nothing.
fn going_on(books: &UnderWay, nar: &NarIdentity) -> Option<watch::Receiver<Progress>> {
    let progress = books.get(nar)?.clone();
    let failed = matches!(*progress.borrow(), Progress::Failed(_) | Progress::Absent);
    (!failed).then_some(progress)
}
