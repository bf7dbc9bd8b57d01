//! One upstream: a binary cache somewhere, at one or several addresses, and what is known of its health.
//!
//! What it says is believed only where one of its keys signed it. An address that does not answer is left alone
//! (see `breaker.rs`), and another one is asked before it is known which of them is reachable from here.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use larder_formats::{narinfo::NarInfo, signature::PublicKey, store_path::StorePathHash};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    breaker::{Breaker, Health},
    figures::{self, Figures, Outcome, UPSTREAM_UP},
};
use crate::{
    cache::{Cache, CacheError, NarIdentity},
    source::ObjectStorage,
    storage::{StorageError, StorageErrorKind},
};

/// After so long without an answer from one address, the next one is asked as well.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// How long an upstream may take to say what it is.
const PROBE: Duration = Duration::from_secs(10);

/// An upstream, as it is configured.
pub struct Settings {
    /// What people call it.
    pub name: String,
    /// The addresses of this one cache, the best first; at least one.
    pub addresses: Vec<ObjectStorage>,
    /// Whose signatures make its paths count.
    pub keys: Vec<PublicKey>,
    /// How long those below it wait for its answer, when they have a path.
    pub grace: Duration,
}

/// An upstream.
pub(super) struct Tier {
    pub(super) name: String,
    pub(super) addresses: Vec<Arc<Address>>,
    pub(super) keys: Vec<PublicKey>,
    pub(super) grace: Duration,
}

/// One address of an upstream.
pub(super) struct Address {
    pub(super) cache: ObjectStorage,
    breaker: Mutex<Breaker>,
    /// Something is to be found out.
    wake: Notify,
    pub(super) figures: Mutex<Figures>,
}

/// Where a path is to be had.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) tier: Arc<Tier>,
    pub(super) address: Arc<Address>,
    pub(super) info: Arc<NarInfo>,
}

impl Source {
    pub(super) fn nar(&self) -> NarIdentity {
        NarIdentity { path: self.info.store_path.hash(), nar_hash: self.info.nar_hash }
    }
}

/// What an upstream says of a path.
#[derive(Clone)]
pub(super) enum Verdict {
    /// It has it.
    Found(Source),
    /// It has it not.
    Absent,
    /// It has it, but none of its keys signed that.
    Untrusted,
    /// It does not tell.
    Unknown,
}

impl Verdict {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Found(_) => Outcome::Found,
            Self::Absent => Outcome::Absent,
            Self::Untrusted => Outcome::Untrusted,
            Self::Unknown => Outcome::Failed,
        }
    }
}

impl Tier {
    pub(super) fn new(settings: Settings) -> Self {
        let Settings { name, addresses, keys, grace } = settings;
        let address = |cache| {
            let breaker = Mutex::new(Breaker::NEW);
            Arc::new(Address { cache, breaker, wake: Notify::new(), figures: Mutex::default() })
        };
        Self { name, addresses: addresses.into_iter().map(address).collect(), keys, grace }
    }

    /// Whether any of its addresses may be asked.
    pub(super) fn may_be_asked(&self) -> bool {
        self.addresses.iter().any(|address| address.breaker().may_ask())
    }

    /// Asks for a path. No address is waited for longer than `within`.
    pub(super) async fn narinfo(
        self: &Arc<Self>,
        hash: StorePathHash,
        within: Duration,
    ) -> Verdict {
        let usable = self.addresses.iter().filter(|address| address.breaker().may_ask());
        let mut asked: FuturesUnordered<_> = (0_u32..)
            .zip(usable)
            .map(|(number, address)| async move {
                // Even to sleep for no time takes a millisecond.
                if number > 0 {
                    sleep(NEXT_ADDRESS * number).await;
                }
                // Asked to the end, whoever answers first: how else would it show that one is dead?
                let asking = Arc::clone(address).ask(Arc::clone(self), hash, within);
                tokio::spawn(asking).await.unwrap_or(Verdict::Unknown)
            })
            .collect();
        let mut verdict = Verdict::Unknown;
        while let Some(one) = asked.next().await {
            match one {
                Verdict::Unknown => {}
                Verdict::Untrusted => verdict = one,
                Verdict::Found(_) | Verdict::Absent => return one,
            }
        }
        verdict
    }

    /// The network has changed.
    pub(super) fn doubt(&self) {
        for address in &self.addresses {
            address.breaker().doubt();
            address.cache.storage().reconnect();
            address.wake.notify_one();
        }
    }
}

impl Address {
    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is, as people write it.
    pub(super) fn url(&self) -> &str {
        self.cache.storage().url()
    }

    async fn ask(
        self: Arc<Self>,
        tier: Arc<Tier>,
        hash: StorePathHash,
        within: Duration,
    ) -> Verdict {
        if !self.breaker().may_ask() {
            return Verdict::Unknown;
        }
        let begun = Instant::now();
        let answer = timeout(within, self.cache.narinfo(hash)).await;
        let verdict = match answer {
            Err(_) => {
                self.failed(&format!("no answer within {} ms", within.as_millis()), None);
                Verdict::Unknown
            }
            Ok(Err(error)) => {
                self.could_not_tell(&error);
                Verdict::Unknown
            }
            Ok(Ok(None)) if !self.breaker().is_proven() => Verdict::Unknown,
            Ok(Ok(None)) => Verdict::Absent,
            Ok(Ok(Some(info))) => {
                if info.is_trusted_by(self.cache.store_dir(), &tier.keys) {
                    // Nobody else could have said that.
                    self.breaker().succeeded();
                    let (tier, address) = (Arc::clone(&tier), Arc::clone(&self));
                    Verdict::Found(Source { tier, address, info })
                } else {
                    Verdict::Untrusted
                }
            }
        };
        let (outcome, took) = (verdict.outcome(), begun.elapsed());
        self.figures().answered(outcome, took);
        figures::count(&tier.name, outcome, took);
        verdict
    }

    /// It answered with an error.
    pub(super) fn could_not_tell(&self, error: &CacheError) {
        let storage = error.cause::<StorageError>();
        // It is there, and has no word on this path: buckets that cannot be listed say so of what is missing.
        if storage.is_some_and(|error| error.kind == StorageErrorKind::Denied) {
            return;
        }
        self.failed(&error.to_string(), storage.and_then(|error| error.pause));
    }

    /// It did not do what it should.
    pub(super) fn failed(&self, reason: &str, asked: Option<Duration>) {
        self.figures().last_failure = Some(reason.to_owned());
        if self.breaker().failed(Instant::now(), asked) {
            tracing::warn!(reason, "{} is not asked any more until it answers again", self.url());
            self.cache.storage().reconnect();
            self.wake.notify_one();
        }
    }

    /// Finds out whether it answers whenever that is not known, for as long as this is polled.
    pub(super) async fn look_after(&self, upstream: &str) -> ! {
        let (name, url) = (upstream.to_owned(), self.url().to_owned());
        let up = metrics::gauge!(UPSTREAM_UP, "upstream" => name, "url" => url);
        loop {
            up.set(if self.breaker().health() == Health::Up { 1 } else { 0 });
            let due = self.breaker().probe_at(Instant::now());
            tokio::select! {
                () = self.wake.notified() => continue,
                () = until(due) => {}
            }
            let probe = timeout(PROBE, self.probe()).await;
            let answer = probe
                .unwrap_or_else(|_| Err((format!("no answer within {} s", PROBE.as_secs()), None)));
            match answer {
                Ok(()) => {
                    if !self.breaker().may_ask() {
                        tracing::info!("{} answers again", self.url());
                    }
                    self.breaker().succeeded();
                }
                Err((reason, asked)) => {
                    tracing::debug!(reason, "{} does not answer", self.url());
                    self.figures().last_failure = Some(reason);
                    self.breaker().probe_failed(Instant::now(), asked);
                    self.cache.storage().reconnect();
                }
            }
        }
    }

    /// Asks it what it is: whoever answers in its place (the page that a hotel shows) does not say this.
    async fn probe(&self) -> Result<(), (String, Option<Duration>)> {
        let identity = self.cache.identify().await;
        let identity = identity.map_err(|error| (error.to_string(), error.pause))?;
        identity.to_read_from(self.cache.store_dir()).map(drop).map_err(|why| (why, None))
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
