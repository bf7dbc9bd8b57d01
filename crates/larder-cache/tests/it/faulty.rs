//! A place that does with each request what a test says: lets it pass, lets others go first, fails it before
//! or after it was done, or never answers.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use larder_cache::storage::{
    Draft, EntryStream, Key, Object, ObjectStream, Storage, StorageError, StorageErrorKind,
};

/// What is asked of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Stat,
    Get,
    Read,
    Put,
    Draft,
    Write,
    Publish,
    Delete,
    List,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// Done, after others had so many turns before and after.
    Late(u8, u8),
    Fails(StorageErrorKind),
    /// It is done, and an error is told.
    DoneButFails(StorageErrorKind),
    /// Nothing is ever heard of it; it is done or not.
    Lost {
        done: bool,
    },
    /// Nothing is ever heard of it, and it is done after that time: only for removals.
    Straggles(Duration),
    /// It is done at once, and told of after that time.
    Takes(Duration),
    /// It fails after that time.
    FailsAfter(Duration),
    /// Some of a listing comes, and then an error; anything else fails.
    BreaksOff,
    /// A listing tells everything twice; anything else is done once.
    Twice,
}

impl Fate {
    /// Nothing is ever heard of it, and nothing done.
    pub(crate) const STALLS: Self = Self::Lost { done: false };
}

type Rule = Arc<dyn Fn(Asked, Option<&Key>) -> Fate + Send + Sync>;

/// A place behind a rule, which counts what it is asked.
#[derive(Clone)]
pub(crate) struct Faulty {
    inner: Arc<dyn Storage>,
    rule: Arc<Mutex<Rule>>,
    /// What happens to all requests of a kind, whatever the rule.
    fates: Arc<Mutex<HashMap<Asked, Fate>>>,
    asked: Arc<Mutex<HashMap<Asked, usize>>>,
}

impl Faulty {
    /// Everything passes.
    pub(crate) fn new(inner: impl Storage + 'static) -> Self {
        let rule: Rule = Arc::new(|_, _| Fate::Done);
        let rule = Arc::new(Mutex::new(rule));
        Self { inner: Arc::new(inner), rule, fates: Arc::default(), asked: Arc::default() }
    }

    /// This happens to all listings from now on.
    pub(crate) fn listing(&self, fate: Fate) {
        self.fates.lock().unwrap().insert(Asked::List, fate);
    }

    /// This happens to all reading of small objects.
    pub(crate) fn getting(&self, fate: Fate) {
        self.fates.lock().unwrap().insert(Asked::Get, fate);
    }

    /// This happens to all writing of small objects.
    pub(crate) fn putting(&self, fate: Fate) {
        self.fates.lock().unwrap().insert(Asked::Put, fate);
    }

    /// This happens to all of these.
    pub(crate) fn everything(&self, fate: Fate) {
        self.listing(fate);
        self.getting(fate);
        self.putting(fate);
    }

    /// How often it was asked which objects there are, and for a small object, since this was last asked.
    pub(crate) fn asked(&self) -> (usize, usize) {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let count = |what| asked.get(&what).copied().unwrap_or_default();
        (count(Asked::List), count(Asked::Get))
    }

    /// From now on this is the rule.
    pub(crate) fn obey(&self, rule: impl Fn(Asked, Option<&Key>) -> Fate + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Arc::new(rule);
    }

    /// One object cannot be removed.
    pub(crate) fn refuse_to_delete(&self, name: &str, kind: StorageErrorKind) {
        let name = name.to_owned();
        self.obey(move |asked, key| match (asked, key) {
            (Asked::Delete, Some(key)) if key.as_str() == name => Fate::Fails(kind),
            _ => Fate::Done,
        });
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.obey(|_, _| Fate::Done);
    }

    async fn meet<T>(
        &self,
        (asked, key): (Asked, Option<&Key>),
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        *self.asked.lock().unwrap().entry(asked).or_default() += 1;
        let of_all = self.fates.lock().unwrap().get(&asked).copied();
        let rule = Arc::clone(&self.rule.lock().unwrap());
        match of_all.unwrap_or_else(|| rule(asked, key)) {
            Fate::Done | Fate::Twice => work.await,
            Fate::Late(before, after) => {
                turns(before).await;
                let done = work.await;
                turns(after).await;
                done
            }
            Fate::Fails(kind) => Err(error(kind)),
            Fate::BreaksOff => Err(error(StorageErrorKind::Transient)),
            Fate::Takes(time) => {
                let done = work.await;
                tokio::time::sleep(time).await;
                done
            }
            Fate::FailsAfter(time) => {
                tokio::time::sleep(time).await;
                Err(error(StorageErrorKind::Transient))
            }
            Fate::DoneButFails(kind) => {
                let _ = work.await;
                Err(error(kind))
            }
            Fate::Lost { done } => {
                if done {
                    let _ = work.await;
                }
                std::future::pending().await
            }
            Fate::Straggles(time) => {
                let (place, key) = (Arc::clone(&self.inner), key.expect("a removal").clone());
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    let _ = place.delete(&key).await;
                });
                std::future::pending().await
            }
        }
    }

    fn listed(&self, entries: EntryStream) -> EntryStream {
        let this = self.clone();
        let listed = async move {
            let all = async { Ok(entries.collect::<Vec<_>>().await) };
            let fate = this.fates.lock().unwrap().get(&Asked::List).copied();
            if fate == Some(Fate::BreaksOff) {
                let mut some = all.await?;
                some.push(Err(error(StorageErrorKind::Transient)));
                return Ok(stream::iter(some));
            }
            if fate == Some(Fate::Twice) {
                let all = all.await?;
                return Ok(stream::iter(
                    all.iter().cloned().chain(all.clone()).collect::<Vec<_>>(),
                ));
            }
            this.meet((Asked::List, None), all).await.map(stream::iter)
        };
        Box::pin(stream::once(listed).try_flatten())
    }
}

async fn turns(count: u8) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

fn error(kind: StorageErrorKind) -> StorageError {
    StorageError::new(kind, "a faulty place", "on purpose")
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({:?})", self.inner)
    }
}

#[async_trait]
impl Storage for Faulty {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn stat(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        self.meet((Asked::Stat, Some(key)), self.inner.stat(key)).await
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError> {
        self.meet((Asked::Get, Some(key)), self.inner.get(key, limit)).await
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<ObjectStream>, StorageError> {
        self.meet((Asked::Read, Some(key)), self.inner.read(key, range)).await
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StorageError> {
        self.meet((Asked::Put, Some(key)), self.inner.put(key, bytes)).await
    }

    async fn draft(&self) -> Result<Box<dyn Draft>, StorageError> {
        let inner = self.meet((Asked::Draft, None), self.inner.draft()).await?;
        Ok(Box::new(FaultyDraft { inner, place: self.clone() }))
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        self.meet((Asked::Delete, Some(key)), self.inner.delete(key)).await
    }

    fn list(&self, folder: Option<&Key>) -> EntryStream {
        self.listed(self.inner.list(folder))
    }

    fn list_shallow(&self, folder: Option<&Key>) -> EntryStream {
        self.listed(self.inner.list_shallow(folder))
    }
}

struct FaultyDraft {
    inner: Box<dyn Draft>,
    place: Faulty,
}

#[async_trait]
impl Draft for FaultyDraft {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let place = self.place.clone();
        place.meet((Asked::Write, None), self.inner.write(bytes)).await
    }

    async fn publish(self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        let Self { inner, place } = *self;
        place.meet((Asked::Publish, Some(key)), inner.publish(key)).await
    }
}
