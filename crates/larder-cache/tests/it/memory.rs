//! Objects in memory, written at times that a test decides: a place like any other, which the suite of
//! places holds to all they promise.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream;
use jiff::Timestamp;
use larder_cache::{
    storage::{
        Draft, Entry, EntryStream, Key, Object, ObjectStream, Storage, StorageError,
        StorageErrorKind,
    },
    time::Clock,
};

/// Objects in memory. Its clones are the same place.
#[derive(Clone)]
pub(crate) struct Memory {
    objects: Arc<Mutex<BTreeMap<Key, (Bytes, Timestamp)>>>,
    clock: Clock,
}

impl Memory {
    /// Nothing yet. What is written bears the time that the clock says then.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { objects: Arc::default(), clock }
    }

    /// An object as it is at this moment, seen past every fault.
    pub(crate) fn peek(&self, key: &Key) -> Option<Bytes> {
        self.objects().get(key).map(|(bytes, _)| bytes.clone())
    }

    /// Removes an object behind everybody's back.
    pub(crate) fn take(&self, key: &Key) {
        self.objects().remove(key);
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, (Bytes, Timestamp)>> {
        self.objects.lock().unwrap()
    }

    fn listing(&self, folder: Option<&Key>, deep: bool) -> EntryStream {
        let below = folder.map_or_else(String::new, |folder| format!("{folder}/"));
        let objects = self.objects();
        let all = objects.iter().filter(|(key, _)| {
            let rest = key.as_str().strip_prefix(&below);
            let ours = folder.is_none() && key.is_below(".larder");
            rest.is_some_and(|rest| deep || !rest.contains('/')) && !ours
        });
        let entries: Vec<Result<Entry, StorageError>> = all
            .map(|(key, stored)| Ok(Entry { key: key.clone(), object: object(stored) }))
            .collect();
        Box::pin(stream::iter(entries))
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} objects)", self.objects().len())
    }
}

fn object((bytes, modified): &(Bytes, Timestamp)) -> Object {
    Object { size: bytes.len() as u64, modified: *modified, accessed: None }
}

fn wrong(what: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Permanent, "in memory", what)
}

#[async_trait]
impl Storage for Memory {
    fn url(&self) -> &str {
        "memory:"
    }

    async fn stat(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        Ok(self.objects().get(key).map(object))
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError> {
        match self.objects().get(key) {
            Some((bytes, _)) if bytes.len() > limit => Err(wrong("too large")),
            found => Ok(found.map(|(bytes, _)| bytes.clone())),
        }
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<ObjectStream>, StorageError> {
        let Some((bytes, _)) = self.objects().get(key).cloned() else { return Ok(None) };
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        if range.start > range.end || range.end > bytes.len() {
            return Err(wrong("beyond the end"));
        }
        // In pieces, as every other place gives them.
        let pieces: Vec<_> =
            bytes[range].chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(Some(Box::pin(stream::iter(pieces))))
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StorageError> {
        self.objects().insert(key.clone(), (bytes, (self.clock)()));
        Ok(())
    }

    async fn draft(&self) -> Result<Box<dyn Draft>, StorageError> {
        Ok(Box::new(Written { memory: self.clone(), bytes: BytesMut::new() }))
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        self.objects().remove(key);
        Ok(())
    }

    fn list(&self, folder: Option<&Key>) -> EntryStream {
        self.listing(folder, true)
    }

    fn list_shallow(&self, folder: Option<&Key>) -> EntryStream {
        self.listing(folder, false)
    }
}

struct Written {
    memory: Memory,
    bytes: BytesMut,
}

#[async_trait]
impl Draft for Written {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        self.memory.put(key, self.bytes.freeze()).await
    }
}
