//! Fetching a NAR once, for whoever wants it meanwhile.
//!
//! Promise: what is passed on as whole has the hash and the size that were asked for. Where an upstream breaks off,
//! another one that has the same NAR goes on where it stopped, or the same one does later. What an upstream sent that
//! was wrong is not taken from it again for an hour.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use larder_formats::{hash::Sha256, narinfo::Compression};
use moka::sync::Cache as Memory;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    figures::UPSTREAM_BYTES,
    kept::Kept,
    spool::{Progress, Spool, VERIFIED_FIRST},
    tee::{Copied, Tee},
    tier::{Source, Tier, Verdict},
};
use crate::{
    cache::{ByteStream, CacheError, NarIdentity},
    hashing::Hasher,
};

/// Until a NAR's file begins to come.
const FIRST_BYTE: Duration = Duration::from_secs(15);

/// Without a byte for so long, an upstream is given up.
const STALL: Duration = Duration::from_secs(20);

/// What comes in a minute at least: less than a modem brought is a line that is as good as dead.
const MINUTE: Duration = Duration::from_secs(60);
const BYTES_A_MINUTE: u64 = 60 * 1024;

/// Before those are asked again that broke off.
const PAUSE: Duration = Duration::from_secs(1);

/// How often all upstreams are gone through.
const ROUNDS: usize = 2;

/// A fetch that nobody waits for any more goes on when no more than so much is left, or a quarter of it.
const NEARLY: u64 = 8 * 1024 * 1024;

/// What upstreams sent that was wrong.
const BAD: u64 = 1000;
const BAD_FOR: Duration = Duration::from_secs(60 * 60);

/// What fetching takes.
pub(super) struct Means {
    /// Whom to ask.
    pub(super) tiers: Vec<Arc<Tier>>,
    /// How long they may take to answer.
    pub(super) within: Duration,
    /// Where large NARs lie on their way.
    pub(super) folder: PathBuf,
    /// Where what was fetched stays.
    pub(super) kept: Option<Arc<Kept>>,
    bad: Memory<(String, Sha256), ()>,
}

impl Means {
    pub(super) fn new(
        (tiers, within): (Vec<Arc<Tier>>, Duration),
        folder: PathBuf,
        kept: Option<Arc<Kept>>,
    ) -> Self {
        let bad = Memory::builder().max_capacity(BAD).time_to_live(BAD_FOR).build();
        Self { tiers, within, folder, kept, bad }
    }

    /// Whether this one sent something else lately.
    pub(super) fn is_bad(&self, source: &Source) -> bool {
        self.bad.contains_key(&(source.address.url().to_owned(), source.info.nar_hash))
    }

    fn mark_bad(&self, source: &Source) {
        self.bad.insert((source.address.url().to_owned(), source.info.nar_hash), ());
    }
}

/// What an upstream did wrong.
enum Trouble {
    /// It did not send all of it.
    Broken(String),
    /// What it sent is not the NAR.
    Wrong(Sha256, u64),
    /// It has not got it.
    Gone,
    /// It could not be written here.
    Spool(std::io::Error),
    /// Nobody waits for it any more.
    Left,
}

/// One NAR that is being fetched.
pub(super) struct Fetch {
    means: Arc<Means>,
    nar: NarIdentity,
    size: u64,
    spool: Spool,
    hasher: Hasher,
    written: u64,
    /// Whose bytes these are.
    from: BTreeSet<String>,
    /// Whether bytes were passed on that are not verified yet.
    shown: bool,
    progress: watch::Sender<Progress>,
}

/// What is to be done once it is whole.
pub(super) struct Fetched {
    pub(super) source: Source,
    /// Its file as it came, where all of it came from one upstream.
    pub(super) copied: Option<Copied>,
}

impl Fetch {
    pub(super) fn new(
        means: Arc<Means>,
        source: &Source,
        progress: watch::Sender<Progress>,
    ) -> std::io::Result<Self> {
        let (nar, size) = (source.nar(), source.info.nar_size);
        let spool = Spool::new(size, &means.folder)?;
        let hasher = Hasher::new();
        let (written, from, shown) = (0, BTreeSet::new(), false);
        Ok(Self { means, nar, size, spool, hasher, written, from, shown, progress })
    }

    /// Fetches it, from this upstream or another one. What became of it is told to those who follow.
    pub(super) async fn run(mut self, first: Source) -> Option<Fetched> {
        let mut reason = None;
        for round in 0..ROUNDS {
            if round > 0 {
                // Absent everywhere is absent; what merely broke may be mended in a moment.
                reason.as_ref()?;
                sleep(PAUSE).await;
            }
            for number in 0..=self.means.tiers.len() {
                let source = match number.checked_sub(1) {
                    None => Some(first.clone()),
                    Some(number) => {
                        let tier = Arc::clone(&self.means.tiers[number]);
                        self.candidate(&tier, &first, round).await
                    }
                };
                let Some(source) = source else { continue };
                if self.means.is_bad(&source) {
                    continue;
                }
                let mut copied = self.copy(&source).await;
                if let Err(Trouble::Wrong(..)) = &copied
                    && self.is_mixed()
                    && !self.shown
                {
                    // One of them was wrong. Who was there to the end is asked for all of it.
                    self.start_again();
                    copied = self.copy(&source).await;
                }
                match copied {
                    Ok(copied) => {
                        let body = self.spool.finish();
                        self.progress.send_replace(Progress::Whole(body));
                        return Some(Fetched { source, copied });
                    }
                    Err(trouble) => match self.judge(&source, trouble) {
                        Ok(Some(why)) => reason = Some(why),
                        Ok(None) => {}
                        Err(error) => {
                            self.progress.send_replace(Progress::Failed(error));
                            return None;
                        }
                    },
                }
            }
        }
        let last = match reason {
            Some(reason) => Progress::Failed(CacheError::new(self.what(), reason)),
            None => Progress::Absent,
        };
        self.progress.send_replace(last);
        None
    }

    fn what(&self) -> String {
        format!("fetching the NAR of {}", self.nar.path)
    }

    /// The same NAR at another upstream.
    async fn candidate(&self, tier: &Arc<Tier>, first: &Source, round: usize) -> Option<Source> {
        // It was just asked, unless it has other addresses.
        let same = Arc::ptr_eq(tier, &first.tier) && tier.addresses.len() == 1;
        if same && round == 0 {
            return None;
        }
        match tier.narinfo(self.nar.path, self.means.within).await {
            Verdict::Found(source) => (source.nar() == self.nar).then_some(source),
            Verdict::Absent | Verdict::Untrusted | Verdict::Unknown => None,
        }
    }

    /// What follows from a failure: its text, if it may pass; an error, if nothing helps.
    fn judge(&mut self, source: &Source, trouble: Trouble) -> Result<Option<String>, CacheError> {
        let url = source.address.url();
        match trouble {
            Trouble::Gone => {
                tracing::warn!(path = %self.nar.path, "{url} has its narinfo and not its NAR");
                Ok(None)
            }
            Trouble::Broken(reason) => {
                tracing::warn!(path = %self.nar.path, reason, at = self.written, "{url} broke off");
                source.address.failed(&reason, None);
                Ok(Some(reason))
            }
            Trouble::Wrong(found, size) => {
                let reason = format!(
                    "{url} sent a NAR of {size} bytes with the hash sha256:{}, and sha256:{} was asked for",
                    found.to_nix32(),
                    self.nar.nar_hash.to_nix32()
                );
                tracing::error!(path = %self.nar.path, "{reason}");
                if !self.is_mixed() {
                    self.means.mark_bad(source);
                }
                if self.shown {
                    // What readers have is wrong, too.
                    return Err(CacheError::new(self.what(), reason));
                }
                self.start_again();
                Ok(Some(reason))
            }
            Trouble::Spool(error) => Err(CacheError::new(self.what(), error)),
            Trouble::Left => Err(CacheError::new(self.what(), "nobody waits for it any more")),
        }
    }

    /// Whether more than one had a part in it, so that it is nobody's fault in particular.
    fn is_mixed(&self) -> bool {
        self.from.len() > 1
    }

    fn start_again(&mut self) {
        (self.written, self.hasher) = (0, Hasher::new());
        self.from.clear();
        self.spool.clear();
    }

    /// Takes in what is missing from one upstream.
    async fn copy(&mut self, source: &Source) -> Result<Option<Copied>, Trouble> {
        let broken = |error: CacheError| Trouble::Broken(error.to_string());
        let (info, cache) = (&source.info, &source.address.cache);
        let unpacked = info.compression == Compression::None;
        let (start, begun) = (if unpacked { self.written } else { 0 }, Instant::now());
        let file = timeout(FIRST_BYTE, cache.file_of(info, start)).await;
        let file = file.map_err(|_| Trouble::Broken("its NAR did not begin to come".to_owned()))?;
        let file = file.map_err(broken)?.ok_or(Trouble::Gone)?;
        let address = Arc::clone(&source.address);
        let bytes = metrics::counter!(UPSTREAM_BYTES, "upstream" => source.tier.name.clone());
        let counted: ByteStream = Box::pin(file.inspect_ok(move |chunk| {
            address.figures().bytes += chunk.len() as u64;
            bytes.increment(chunk.len() as u64);
        }));
        let tee = match &self.means.kept {
            Some(kept) if self.written == 0 && !unpacked => kept.begin(info).await,
            _ => None,
        };
        let watched = match &tee {
            Some(tee) => tee.watch(counted),
            None => counted,
        };
        // To the end of the file: what lies behind the NAR, as a checksum does, is part of it, and more of a NAR is wrong.
        let mut nar = cache.rest_of(info, watched, self.written - start).map_err(broken)?;
        let mut pace = Pace { since: begun, bytes: 0 };
        while let Some(chunk) = pace.next(&mut nar).await? {
            if !self.from.contains(source.address.url()) {
                self.from.insert(source.address.url().to_owned());
            }
            self.take(&chunk)?;
        }
        self.verify()?;
        Ok(match tee {
            Some(tee) => Tee::finish(tee).await,
            None => None,
        })
    }

    fn take(&mut self, chunk: &Bytes) -> Result<(), Trouble> {
        self.hasher.update(chunk);
        if self.written + chunk.len() as u64 > self.size {
            return Err(Trouble::Wrong(
                self.hasher.clone().finish(),
                self.written + chunk.len() as u64,
            ));
        }
        self.spool.write(chunk, self.written).map_err(Trouble::Spool)?;
        self.written += chunk.len() as u64;
        let left = self.size - self.written;
        // One of those who look is the list of what is under way.
        if self.progress.receiver_count() <= 1 && left > NEARLY.max(self.size / 4) {
            return Err(Trouble::Left);
        }
        // The last byte waits until all are verified.
        if left > 0
            && self.size > VERIFIED_FIRST
            && let Some(body) = self.spool.growing()
        {
            self.shown = true;
            self.progress.send_replace(Progress::Some(body, self.written));
        }
        Ok(())
    }

    fn verify(&self) -> Result<(), Trouble> {
        if self.written < self.size {
            return Err(Trouble::Broken("its NAR ended early".to_owned()));
        }
        let found = self.hasher.clone().finish();
        if found == self.nar.nar_hash { Ok(()) } else { Err(Trouble::Wrong(found, self.written)) }
    }
}

/// How fast it comes.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    async fn next(&mut self, nar: &mut ByteStream) -> Result<Option<Bytes>, Trouble> {
        let chunk = timeout(STALL, nar.next()).await;
        let chunk = chunk.map_err(|_| Trouble::Broken("it stood still".to_owned()))?;
        let chunk = chunk.transpose().map_err(|error| Trouble::Broken(error.to_string()))?;
        self.bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.since.elapsed() >= MINUTE {
            if self.bytes < BYTES_A_MINUTE {
                return Err(Trouble::Broken("it came too slowly".to_owned()));
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(chunk)
    }
}
