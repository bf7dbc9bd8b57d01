//! Asking caches for paths: every one at once, and none for longer than a bound.
//!
//! They are asked directly and not through Nix, which would answer from what it remembers, and would remember what
//! is said now. Only stores that are no static caches (`ssh://`, `daemon`) are asked through Nix.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use jiff::{SignedDuration, Timestamp};
use larder_cache::{
    cache::{Cache, CacheError},
    proxy::{Health, Status},
    source::ObjectStorage,
    storage::{Key, StorageError, StorageErrorKind},
};
use larder_formats::{
    narinfo::NarInfo,
    signature::PublicKey,
    store_path::{StorePath, StorePathHash},
};
use larder_nix::{
    caches::{Known, Question},
    command::{CancellationToken, CommandError},
    nix::{Nix, NixError},
    remembered::Memories,
};
use tokio::{sync::Semaphore, time::timeout};

use super::verdict::{Answer, Asked, Offer, Remembered, Role, Trust};

/// How long a cache may take for one answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// Questions under way at once, to all caches together.
const AT_ONCE: usize = 32;

/// After so many questions without an answer, one after the other, a cache is not asked any more.
const GIVEN_UP: u32 = 3;

/// Bytes of a proxy's status.
const STATUS_LIMIT: usize = 4 * 1024 * 1024;

/// A cache that may have what is asked for.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its URL as nix.conf has it.
    pub url: String,
    /// The same without a password in it.
    pub shown: String,
    /// What it is to Nix.
    pub role: Role,
    /// The keys that make what it has count; none, where that needs no signature.
    pub keys: Option<Vec<PublicKey>>,
    /// How it is reached.
    pub way: Way,
}

/// How a cache is reached.
#[derive(Clone, Debug)]
pub enum Way {
    /// By itself.
    Direct(ObjectStorage),
    /// Nix knows how.
    ThroughNix,
    /// Not at all.
    Not(Answer),
}

/// A cache that is asked, and how often it did not answer of late.
struct One {
    source: Source,
    priority: u32,
    silences: AtomicU32,
}

/// What nix.conf says of a cache's priority: `?priority=30`.
fn priority_in(url: &str) -> Option<u32> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("priority=")?.parse().ok())
}

/// Those who are asked.
pub struct Asking<'a> {
    nix: &'a Nix,
    sources: Vec<One>,
    memory: Option<(Memories, Duration)>,
    /// Why what Nix remembers could not be told, if that was so.
    forgotten: OnceLock<String>,
    now: Timestamp,
    places: Arc<Semaphore>,
    cancel: &'a CancellationToken,
}

impl<'a> Asking<'a> {
    /// Finds out which of these answer at all. `memory` is what Nix remembers, and for how long it takes a path for
    /// absent.
    pub async fn begin(
        nix: &'a Nix,
        sources: Vec<Source>,
        memory: Option<(Memories, Duration)>,
        now: Timestamp,
        cancel: &'a CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let (asked, forgotten) = (Vec::new(), OnceLock::new());
        Self { nix, sources: asked, memory, forgotten, now, places, cancel }.with(sources).await
    }

    /// The same with more who are asked.
    pub async fn with(mut self, sources: Vec<Source>) -> Self {
        self.sources.extend(join_all(sources.into_iter().map(One::probed)).await);
        // Nix asks the lowest number first, and of those with the same the first in its configuration.
        self.sources.sort_by_key(|one| one.priority);
        self
    }

    /// Why it could not be told what Nix remembers, if it could not.
    pub fn forgotten(&self) -> Option<String> {
        self.forgotten.get().cloned()
    }

    /// Those that are asked.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().map(|one| &one.source)
    }

    /// What each says of a path. `thoroughly`: whether the file that it promises is there, too.
    pub async fn ask(&self, path: &StorePath, thoroughly: bool) -> Vec<Asked> {
        let each = self.sources.iter().map(|one| async move {
            let (source, answer) = (&one.source, self.one(one, path, thoroughly).await);
            let remembered = match source.role {
                Role::Substituter => self.remembered(&source.url, path.hash()),
                _ => None,
            };
            Asked { cache: source.shown.clone(), role: source.role.clone(), answer, remembered }
        });
        join_all(each).await
    }

    /// The narinfo of a path and who has it, whoever is asked for it and whoever signed it.
    pub async fn find(&self, hash: StorePathHash) -> Option<(ObjectStorage, Arc<NarInfo>)> {
        let asked = self.sources.iter().map(|one| async move {
            let Way::Direct(cache) = &one.source.way else { return None };
            let _place = self.places.acquire().await.ok()?;
            if one.is_given_up() {
                return None;
            }
            let answer = timeout(PATIENCE, cache.narinfo(hash)).await;
            one.heard(matches!(answer, Ok(Ok(_))));
            Some((cache.clone(), answer.ok()?.ok()??))
        });
        let mut asked: futures::stream::FuturesOrdered<_> = asked.collect();
        while let Some(found) = asked.next().await {
            if found.is_some() {
                return found;
            }
        }
        None
    }

    async fn one(&self, one: &One, path: &StorePath, thoroughly: bool) -> Answer {
        let Ok(_place) = self.places.acquire().await else { return silent() };
        if one.is_given_up() {
            let said = format!("it did not answer {GIVEN_UP} times, and is not asked any more");
            return Answer::Unreachable { said };
        }
        let source = &one.source;
        let answer = match &source.way {
            Way::Not(answer) => answer.clone(),
            Way::ThroughNix => self.through_nix(source, path).await,
            Way::Direct(cache) => {
                let asked = direct(cache, source.keys.as_deref(), path, thoroughly);
                timeout(PATIENCE, asked).await.unwrap_or_else(|_| silent())
            }
        };
        // One that could never be asked goes on being told with what it said.
        if !matches!(source.way, Way::Not(_)) {
            one.heard(!matches!(answer, Answer::Unreachable { .. }));
        }
        answer
    }

    async fn through_nix(&self, source: &Source, path: &StorePath) -> Answer {
        let question = Question { store: Some(&source.url), closures: false, anew: true };
        let paths = BTreeSet::from([path.clone()]);
        match self.nix.known(&paths, question, self.cancel).await {
            Err(error) => Answer::Unreachable { said: said(&error, source) },
            Ok(known) => known.get(path).map_or(Answer::Absent, |known| {
                Answer::Has(Offer {
                    bytes: known.download_size,
                    unpacked_bytes: known.nar_size,
                    trust: by_name(known, source.keys.as_deref()),
                    deriver: None,
                })
            }),
        }
    }

    fn remembered(&self, url: &str, hash: StorePathHash) -> Option<Remembered> {
        let (memories, absent_for) = self.memory.as_ref()?;
        let memory = memories.of(url, hash);
        let memory = match memory {
            Ok(memory) => memory?,
            Err(error) => {
                // Of many that are alike, one is told.
                let _ = self.forgotten.set(error.to_string());
                return None;
            }
        };
        let at = Timestamp::from_second(memory.at).ok()?;
        if memory.present {
            return Some(Remembered::Present { at });
        }
        let until = at.checked_add(SignedDuration::try_from(*absent_for).ok()?).ok()?;
        (until > self.now).then_some(Remembered::Absent { until })
    }
}

impl One {
    /// Asks it what it is, so that one that does not answer is waited for once.
    async fn probed(mut source: Source) -> Self {
        let said = match &source.way {
            Way::Direct(cache) => {
                timeout(PATIENCE, priority(cache)).await.unwrap_or_else(|_| Err(silent()))
            }
            // Other stores have none that they could name.
            Way::ThroughNix | Way::Not(_) => Ok(0),
        };
        let priority = match said {
            Ok(said) => priority_in(&source.url).unwrap_or(said),
            Err(answer) => {
                source.way = Way::Not(answer);
                0
            }
        };
        let priority = match source.role {
            Role::Substituter => priority,
            _ => u32::MAX,
        };
        Self { source, priority, silences: AtomicU32::new(0) }
    }

    fn is_given_up(&self) -> bool {
        self.silences.load(Ordering::Relaxed) >= GIVEN_UP
    }

    fn heard(&self, something: bool) {
        match something {
            true => self.silences.store(0, Ordering::Relaxed),
            false => _ = self.silences.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// The URLs of substituters in the order in which Nix asks them. Those that do not answer come first, as nothing says
/// that they are later.
pub async fn in_order(sources: Vec<Source>) -> Vec<String> {
    let mut probed = join_all(sources.into_iter().map(One::probed)).await;
    probed.sort_by_key(|one| one.priority);
    probed.into_iter().map(|one| one.source.url).collect()
}

/// The upstreams of the substituters that are proxies, as their status tells: `open` makes a source of an
/// upstream's name, its address, and what it is.
pub async fn upstreams<'a>(
    sources: impl Iterator<Item = &'a Source>,
    open: impl Fn(&str, &str, Role) -> Source,
) -> Vec<Source> {
    let proxies = sources.filter(|source| source.role == Role::Substituter);
    let each = proxies.map(|source| async {
        let Way::Direct(cache) = &source.way else { return Vec::new() };
        let Some(status) = status(cache).await else { return Vec::new() };
        let mut found = Vec::new();
        for upstream in status.upstreams {
            // One address that answers is enough for the proxy.
            let down = upstream.addresses.iter().all(|it| it.health == Health::Down);
            let Some(address) =
                upstream.addresses.iter().find(|it| down || it.health != Health::Down)
            else {
                continue;
            };
            let reason = || address.last_failure.clone().unwrap_or_else(|| "no answer".to_owned());
            let (proxy, name) = (source.shown.clone(), upstream.name.clone());
            let role = Role::Upstream { proxy, name: name.clone(), down: down.then(reason) };
            found.push(open(&name, &address.url, role));
        }
        found
    });
    join_all(each).await.into_iter().flatten().collect()
}

async fn status(cache: &ObjectStorage) -> Option<Status> {
    let key = Key::new("status").ok()?;
    let text = timeout(PATIENCE, cache.storage().get(&key, STATUS_LIMIT)).await.ok()?.ok()??;
    serde_json::from_slice(&text).ok()
}

async fn priority(cache: &ObjectStorage) -> Result<u32, Answer> {
    let identity = cache.identify().await.map_err(|error| failed(&error))?;
    identity.to_read_from(cache.store_dir()).map_err(|said| Answer::NoCache { said })
}

async fn direct(
    cache: &ObjectStorage,
    keys: Option<&[PublicKey]>,
    path: &StorePath,
    thoroughly: bool,
) -> Answer {
    let info = match cache.narinfo(path.hash()).await {
        Err(error) => return of_error(&error),
        Ok(None) => return Answer::Absent,
        Ok(Some(info)) => info,
    };
    if info.store_path != *path {
        return Answer::NoCache { said: format!("it says that this is {}", info.store_path) };
    }
    if thoroughly {
        match cache.file_of(&info, 0).await {
            Ok(Some(_)) => {}
            Ok(None) => return Answer::Broken { said: format!("{} is not there", info.url) },
            Err(error) => return Answer::Broken { said: error.to_string() },
        }
    }
    let trust = keys.map_or(Trust::Good, |keys| Trust::of(&info, cache.store_dir(), keys));
    Answer::Has(Offer {
        bytes: info.file_size,
        unpacked_bytes: info.nar_size,
        trust,
        deriver: info.deriver.clone(),
    })
}

fn by_name(known: &Known, keys: Option<&[PublicKey]>) -> Trust {
    let Some(keys) = keys else { return Trust::Good };
    let trusted = |name: &String| keys.iter().any(|key| key.name() == name);
    match known.content_addressed || known.signers.iter().any(trusted) {
        // Nix told the names alone.
        true => Trust::Good,
        false => Trust::by_names(known.signers.iter().cloned().collect(), keys),
    }
}

fn of_error(error: &CacheError) -> Answer {
    match error.cause::<StorageError>() {
        Some(storage) => failed(storage),
        // It answered, and that was no narinfo.
        None => Answer::NoCache { said: error.to_string() },
    }
}

fn failed(error: &StorageError) -> Answer {
    let said = error.to_string();
    match error.kind {
        StorageErrorKind::Denied => Answer::Denied { said },
        _ => Answer::Unreachable { said },
    }
}

fn silent() -> Answer {
    Answer::Unreachable { said: format!("no answer in {} seconds", PATIENCE.as_secs()) }
}

fn said(error: &NixError, source: &Source) -> String {
    let text = match error {
        NixError::Command(CommandError::Failed { message, .. }) => {
            message.lines().next_back().unwrap_or_default().trim().to_owned()
        }
        other => other.to_string(),
    };
    text.replace(source.url.trim_end_matches('/'), &source.shown)
}
