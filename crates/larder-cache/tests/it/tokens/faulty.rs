//! A place that fails, stalls or dawdles when it is told to, and counts what it is asked.

use std::{
    future::pending,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use larder_cache::storage::{
    Draft, Entry, EntryStream, Key, Object, ObjectStream, Storage, StorageError, StorageErrorKind,
};
use tokio::time::sleep;

use super::objects;
use crate::memory::Memory;

/// What happens to a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Fault {
    #[default]
    None,
    Fails(StorageErrorKind),
    FailsAfter(Duration),
    Stalls,
    /// The answer is true when it is asked for, and comes later.
    Takes(Duration),
    /// Some of a listing comes, and then an error.
    BreaksOff,
}

/// Objects in memory, and the faults of the moment.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Memory,
    listing: Mutex<Fault>,
    getting: Mutex<Fault>,
    putting: Mutex<Fault>,
    lists: AtomicUsize,
    gets: AtomicUsize,
}

impl Faulty {
    /// Nothing is in it, and nothing wrong with it.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: objects(),
            listing: Mutex::default(),
            getting: Mutex::default(),
            putting: Mutex::default(),
            lists: AtomicUsize::default(),
            gets: AtomicUsize::default(),
        })
    }

    pub(super) fn listing(&self, fault: Fault) {
        *self.listing.lock().unwrap() = fault;
    }

    pub(super) fn getting(&self, fault: Fault) {
        *self.getting.lock().unwrap() = fault;
    }

    pub(super) fn putting(&self, fault: Fault) {
        *self.putting.lock().unwrap() = fault;
    }

    pub(super) fn everything(&self, fault: Fault) {
        self.listing(fault);
        self.getting(fault);
        self.putting(fault);
    }

    /// How often it was asked which objects there are, and for an object, since this was last asked.
    pub(super) fn asked(&self) -> (usize, usize) {
        (self.lists.swap(0, Ordering::SeqCst), self.gets.swap(0, Ordering::SeqCst))
    }

    fn list_of(&self, entries: EntryStream) -> EntryStream {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let fault = *self.listing.lock().unwrap();
        let listed = async move {
            let mut entries: Vec<Result<Entry, StorageError>> = entries.collect().await;
            if matches!(fault, Fault::BreaksOff) {
                entries.push(Err(error(StorageErrorKind::Transient)));
            }
            meet(fault).await.map(|()| stream::iter(entries))
        };
        Box::pin(stream::once(listed).try_flatten())
    }
}

fn error(kind: StorageErrorKind) -> StorageError {
    StorageError::new(kind, "asking", "on purpose")
}

async fn meet(fault: Fault) -> Result<(), StorageError> {
    match fault {
        Fault::None | Fault::BreaksOff => Ok(()),
        Fault::Fails(kind) => Err(error(kind)),
        Fault::Stalls => pending().await,
        Fault::Takes(time) => {
            sleep(time).await;
            Ok(())
        }
        Fault::FailsAfter(time) => {
            sleep(time).await;
            Err(error(StorageErrorKind::Transient))
        }
    }
}

#[async_trait]
impl Storage for Faulty {
    fn url(&self) -> &str {
        "faulty:"
    }

    async fn stat(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        self.inner.stat(key).await
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        let fault = *self.getting.lock().unwrap();
        let found = self.inner.get(key, limit).await;
        meet(fault).await?;
        found
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<ObjectStream>, StorageError> {
        self.inner.read(key, range).await
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StorageError> {
        let fault = *self.putting.lock().unwrap();
        meet(fault).await?;
        self.inner.put(key, bytes).await
    }

    async fn draft(&self) -> Result<Box<dyn Draft>, StorageError> {
        self.inner.draft().await
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        self.inner.delete(key).await
    }

    fn list(&self, folder: Option<&Key>) -> EntryStream {
        self.list_of(self.inner.list(folder))
    }

    fn list_shallow(&self, folder: Option<&Key>) -> EntryStream {
        self.list_of(self.inner.list_shallow(folder))
    }
}
