//! A cache that has what others have, and always answers: several upstreams behind one, for clients that a dead
//! upstream would break.
//!
//! Promise: whether a path is to be had is said within a bounded time, whatever the upstreams do; what is said of it
//! is signed by a key of the upstream that said it, and good for as long as clients remember it, since a NAR is
//! known here by what it is (its path's hash and its own) and not by who has it. "Absent" is said when every upstream
//! told, and none of them has the path under a key of its own; anything else is an error.

mod asking;
mod breaker;
mod fetch;
mod fetches;
mod figures;
mod kept;
mod spool;
mod status;
mod tee;
mod tier;

use std::{
    collections::HashMap,
    ffi::OsString,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt, TryStreamExt,
    future::{BoxFuture, Shared, join_all},
};
use larder_formats::{
    cache_info::CacheInfo,
    nar::Listing,
    nar_file::NarFile,
    narinfo::{Compression, NarInfo},
    realisation::{Realisation, RealisationKey},
    signature::PublicKey,
    store_path::{StorePath, StorePathHash},
};
use moka::sync::Cache as Memory;
use tokio::time::Instant;

use self::{
    asking::{Answer, Question},
    fetch::Means,
    fetches::Fetches,
    tier::{Source, Tier, Verdict},
};
pub use self::{
    breaker::Health,
    figures::{PROXY_PATHS, UPSTREAM_ANSWERS, UPSTREAM_BYTES, UPSTREAM_SECONDS, UPSTREAM_UP},
    kept::Kept,
    status::{AddressStatus, KeptStatus, Status, UpstreamStatus},
    tier::Settings as Upstream,
};
use crate::{
    cache::{ByteStream, Cache, CacheError, NarIdentity, PathFile, StoredNar},
    source::ObjectStorage,
};

/// Paths of which it is remembered who has them: some 2 kB each.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(10 * 60);

/// Paths of which it is remembered that nobody has them: for as long as one evaluation asks for the same again.
const ABSENT: u64 = 100_000;
const ABSENT_FOR: Duration = Duration::from_secs(20);

/// What a proxy is made of.
pub struct Settings {
    /// What it says of itself.
    pub info: CacheInfo,
    /// Whom it asks, the most wanted first.
    pub upstreams: Vec<Upstream>,
    /// How long an answer takes at most.
    pub within: Duration,
    /// The folder in which large NARs lie on their way, as files without a name.
    pub spool: PathBuf,
    /// What was fetched before, where that is kept.
    pub kept: Option<Arc<Kept>>,
}

/// A cache that has what others have. Its clones are the same.
#[derive(Clone)]
pub struct Proxy {
    info: CacheInfo,
    fetches: Arc<Fetches>,
    known: Memory<StorePathHash, Source>,
    absent: Memory<StorePathHash, ()>,
    asking: Arc<Mutex<Asking>>,
    counts: Arc<Counts>,
    begun: Instant,
}

type Asking = HashMap<StorePathHash, Shared<BoxFuture<'static, Answer>>>;

/// What became of questions.
#[derive(Default)]
struct Counts {
    networks: AtomicU64,
    asked: AtomicU64,
    kept: AtomicU64,
    absent: AtomicU64,
    could_not_tell: AtomicU64,
    bytes: AtomicU64,
    bytes_kept: AtomicU64,
}

impl Proxy {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { info, upstreams, within, spool, kept } = settings;
        let tiers: Vec<_> = upstreams.into_iter().map(|it| Arc::new(Tier::new(it))).collect();
        let known = Memory::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build();
        let absent = Memory::builder().max_capacity(ABSENT).time_to_live(ABSENT_FOR).build();
        Self {
            info,
            fetches: Arc::new(Fetches::new(Means::new((tiers, within), spool, kept))),
            known,
            absent,
            asking: Arc::default(),
            counts: Arc::default(),
            begun: Instant::now(),
        }
    }

    /// Finds out who answers again, for as long as this is polled.
    pub async fn look_after_upstreams(&self) {
        let mut looks = Vec::new();
        for tier in self.tiers() {
            looks.extend(tier.addresses.iter().map(|address| address.look_after(&tier.name)));
        }
        join_all(looks).await;
    }

    /// The network is another one than before: who was dead may live, and who lived may be somebody else.
    pub fn network_changed(&self) {
        self.absent.invalidate_all();
        self.counts.networks.fetch_add(1, Ordering::Relaxed);
        self.tiers().iter().for_each(|tier| tier.doubt());
    }

    fn tiers(&self) -> &[Arc<Tier>] {
        &self.fetches.means.tiers
    }

    /// Who has a path.
    async fn find(&self, hash: StorePathHash) -> Result<Option<Source>, CacheError> {
        if let Some(source) = self.known.get(&hash) {
            return Ok(Some(source));
        }
        if self.absent.contains_key(&hash) {
            return Ok(None);
        }
        match self.ask(hash).await {
            Answer::Found(source) => {
                self.known.insert(hash, source.clone());
                Ok(Some(source))
            }
            Answer::Absent => {
                self.absent.insert(hash, ());
                Ok(None)
            }
            Answer::Unknown => {
                let reason = "no upstream that told has it, and not all told";
                Err(CacheError::new(format!("looking for {hash}"), reason))
            }
        }
    }

    /// Asks the upstreams, once for all who want to know at the same time.
    async fn ask(&self, hash: StorePathHash) -> Answer {
        let (answer, is_new) = {
            let mut asking = locked(&self.asking);
            match asking.get(&hash) {
                Some(answer) => (answer.clone(), false),
                None => {
                    let (fetches, books) = (Arc::clone(&self.fetches), Arc::clone(&self.asking));
                    let answer = async move {
                        let answer =
                            asking::ask(&fetches.means.tiers, hash, fetches.means.within).await;
                        locked(&books).remove(&hash);
                        answer
                    };
                    let answer = answer.boxed().shared();
                    asking.insert(hash, answer.clone());
                    (answer, true)
                }
            }
        };
        if is_new {
            // To its end, also when those who wanted to know are gone.
            tokio::spawn(answer.clone());
        }
        answer.await
    }

    /// Who has exactly this NAR.
    async fn find_nar(&self, nar: NarIdentity) -> Result<Option<Source>, CacheError> {
        let found = self.find(nar.path).await;
        if let Ok(Some(source)) = &found
            && source.nar() == nar
            && !self.fetches.means.is_bad(source)
        {
            return found;
        }
        // The best upstream has another build of it, or none; another one may have this.
        let others = self.tiers().iter().filter(|tier| tier.may_be_asked());
        let asked = others.map(|tier| tier.narinfo(nar.path, self.fetches.means.within));
        let same = |verdict| match verdict {
            Verdict::Found(source)
                if source.nar() == nar && !self.fetches.means.is_bad(&source) =>
            {
                Some(source)
            }
            _ => None,
        };
        match join_all(asked).await.into_iter().find_map(same) {
            Some(source) => Ok(Some(source)),
            None => found.map(|_| None),
        }
    }

    /// What is known of a path, as it was said by whoever said it.
    async fn original(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(kept) = &self.fetches.means.kept
            && let Some(info) = kept.narinfo(hash).await
        {
            count("kept", Some(&self.counts.kept));
            return Ok(Some(info));
        }
        let found = self.find(hash).await;
        match &found {
            Ok(Some(_)) => count("found", None),
            Ok(None) => count("absent", Some(&self.counts.absent)),
            Err(_) => count("unknown", Some(&self.counts.could_not_tell)),
        }
        Ok(found?.map(|source| source.info))
    }

    /// Asks all upstreams for something that is no path.
    async fn of_all<T: Send + 'static, F>(
        &self,
        ask: impl Fn(ObjectStorage, Vec<PublicKey>) -> F,
    ) -> Result<Option<T>, CacheError>
    where
        F: Future<Output = Result<Option<T>, CacheError>> + Send + 'static,
    {
        let question = |tier: &Arc<Tier>| {
            let usable = tier.addresses.iter().find(|address| address.breaker().may_ask())?;
            let answer = ask(usable.cache.clone(), tier.keys.clone());
            Some(Question { grace: tier.grace, answer: answer.boxed() })
        };
        let questions: Vec<_> = self.tiers().iter().filter_map(question).collect();
        let all = questions.len() == self.tiers().len();
        let (found, others) = asking::first(questions, self.fetches.means.within, |answer| {
            matches!(answer, Ok(Some(_)))
        })
        .await;
        match found {
            Some(found) => found,
            None if all && others.iter().all(|answer| matches!(answer, Some(Ok(_)))) => Ok(None),
            None => Err(CacheError::new("asking the upstreams", "not all of them told")),
        }
    }

    fn counted(&self, nar: ByteStream, is_kept: bool) -> ByteStream {
        let counts = Arc::clone(&self.counts);
        Box::pin(nar.inspect_ok(move |chunk| {
            counts.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if is_kept {
                counts.bytes_kept.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        }))
    }
}

fn count(outcome: &'static str, counter: Option<&AtomicU64>) {
    metrics::counter!(PROXY_PATHS, "outcome" => outcome).increment(1);
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn locked(asking: &Mutex<Asking>) -> MutexGuard<'_, Asking> {
    asking.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The narinfo by which a path is to be had here.
fn here(info: Arc<NarInfo>) -> Arc<NarInfo> {
    let mut info = info;
    let ours = Arc::make_mut(&mut info);
    ours.url = format!("nar/{}.nar?hash={}", ours.nar_hash.to_nix32(), ours.store_path.hash());
    ours.compression = Compression::None;
    (ours.file_hash, ours.file_size) = (Some(ours.nar_hash), Some(ours.nar_size));
    info
}

#[async_trait]
impl Cache for Proxy {
    fn info(&self) -> CacheInfo {
        self.info.clone()
    }

    fn generation(&self) -> Option<u64> {
        // What was said stays true, but that something is absent.
        let now = (self.begun.elapsed().as_secs() / ABSENT_FOR.as_secs(), &self.counts.networks);
        Some(now.0.wrapping_add(now.1.load(Ordering::Relaxed) << 32))
    }

    async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>, CacheError> {
        Ok(self.original(hash).await?.map(here))
    }

    async fn narinfo_of(&self, nar: NarIdentity) -> Result<Option<Arc<NarInfo>>, CacheError> {
        if let Some(kept) = &self.fetches.means.kept
            && let Some(info) = kept.narinfo(nar.path).await
            && info.nar_hash == nar.nar_hash
        {
            return Ok(Some(here(info)));
        }
        Ok(self.find_nar(nar).await?.map(|source| here(source.info)))
    }

    async fn nar(
        &self,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Result<Option<ByteStream>, CacheError> {
        if let Some(progress) = self.fetches.under_way(&nar) {
            let coming = spool::follow(progress, range).await?;
            return Ok(coming.map(|coming| self.counted(coming, false)));
        }
        if let Some(kept) = &self.fetches.means.kept
            && let Some(bytes) = kept.nar(nar, range.clone()).await
        {
            return Ok(Some(self.counted(bytes, true)));
        }
        let Some(source) = self.find_nar(nar).await? else { return Ok(None) };
        let coming = self.fetches.nar(source, range).await?;
        Ok(coming.map(|coming| self.counted(coming, false)))
    }

    async fn nar_file(&self, _name: &NarFile) -> Result<Option<StoredNar>, CacheError> {
        // No narinfo of ours names one.
        Ok(None)
    }

    async fn listing(&self, hash: StorePathHash) -> Result<Option<Listing>, CacheError> {
        match self.find(hash).await? {
            Some(source) => source.address.cache.listing(hash).await,
            None => Ok(None),
        }
    }

    async fn derivations(&self, _hash: StorePathHash) -> Result<Vec<StorePath>, CacheError> {
        Ok(Vec::new())
    }

    async fn log(&self, derivation: &StorePath) -> Result<Option<ByteStream>, CacheError> {
        let ask = |cache: ObjectStorage, _| {
            let derivation = derivation.clone();
            async move { cache.log(&derivation).await }
        };
        self.of_all(ask).await
    }

    async fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, CacheError> {
        let ask = |cache: ObjectStorage, keys: Vec<PublicKey>| {
            let key = key.clone();
            async move {
                let found = cache.realisation(&key).await?;
                Ok(found.filter(|found| found.is_trusted_by(&keys)))
            }
        };
        self.of_all(ask).await
    }

    async fn file(
        &self,
        hash: StorePathHash,
        names: Vec<OsString>,
    ) -> Result<Option<PathFile>, CacheError> {
        match self.find(hash).await? {
            Some(source) => source.address.cache.file(hash, names).await,
            None => Ok(None),
        }
    }
}
