//! A cache of real NARs, and the ways in which it can be damaged.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use larder_cache::{
    compression::Packing,
    gc::{
        apply::{Collector, Pace},
        check::{Checker, Found},
        index::Index,
        repair::{Repair, Repaired, Watch},
    },
    lease::{LeaseOptions, Leases},
    push::{Observer, Push},
    source::ObjectStorage,
    storage::{Key, Storage},
    upstream::Upstream,
};
use larder_formats::{narinfo::NarInfo, store_path::StoreDir};
use larder_testkit::tree::random_bytes;
use tokio_util::sync::CancellationToken;

use super::{days, hash, path};
use crate::{
    clock::Hand,
    memory::Memory,
    source::{Source, cache_info},
    storage::{all_keys, key},
};

/// Paths by number, each with what it refers to.
pub(super) type Graph = [(usize, &'static [usize])];

/// 1 ← 2 ← 3, and 4 that refers to itself.
pub(super) const CHAIN: &Graph = &[(1, &[]), (2, &[1]), (3, &[2]), (4, &[4])];

/// A store of these paths; those whose numbers differ by ten have the same NAR.
pub(super) fn store<'a>(
    graph: impl IntoIterator<Item = &'a (usize, impl AsRef<[usize]> + 'a)>,
) -> Source {
    Source::new(graph.into_iter().map(|(number, references)| {
        let references = references.as_ref().iter().map(|it| path(*it)).collect();
        (path(*number), random_bytes(*number as u64 % 10, 3000), references)
    }))
}

/// A cache that was pushed to long ago.
pub(super) struct Damaged {
    pub(super) hand: Hand,
    pub(super) place: Memory,
    pub(super) upstreams: Vec<Upstream>,
}

impl Damaged {
    /// Nothing is wrong with it yet.
    pub(super) async fn with(source: &Source, roots: &[usize]) -> Self {
        let hand = Hand::new();
        let place = Memory::new(hand.clock());
        let this = Self { hand, place, upstreams: Vec::new() };
        this.cache(Arc::new(this.place.clone()), "first").prepare().await.unwrap();
        let push = this.push(Arc::new(this.place.clone()), source, "first");
        let roots: Vec<_> = roots.iter().map(|number| hash(*number)).collect();
        let plan = push.plan(&roots).await.unwrap();
        assert!(push.send(&plan, &quiet()).await.failures.is_empty());
        push.to.release().await;
        this.hand.turn(days(100));
        this
    }

    pub(super) async fn chain() -> Self {
        Self::with(&store(CHAIN), &[3, 4]).await
    }

    fn cache(&self, place: Arc<dyn Storage>, holder: &str) -> ObjectStorage {
        let (name, options) = (holder.parse().unwrap(), LeaseOptions::default());
        let leases = Leases::new(Arc::clone(&place), &name, self.hand.clock(), options);
        ObjectStorage::new(place, cache_info()).holding(Arc::new(leases))
    }

    pub(super) fn push(&self, place: Arc<dyn Storage>, from: &Source, holder: &str) -> Push {
        Push {
            from: Arc::new(from.clone()),
            to: self.cache(place, holder),
            upstreams: self.upstreams.clone(),
            packing: Packing::Zstd(1),
            keys: Vec::new(),
            at_once: 1,
        }
    }

    pub(super) fn checker(&self, place: Arc<dyn Storage>) -> Checker {
        Checker {
            cache: ObjectStorage::new(place, cache_info()),
            index: Index::in_memory(&StoreDir::default()).unwrap(),
            upstreams: self.upstreams.clone(),
            clock: self.hand.clock(),
            at_once: 2,
        }
    }

    /// Everything that a check with `--contents` finds, or one without.
    pub(super) async fn check(&self, contents: bool) -> Found {
        let checker = self.checker(Arc::new(self.place.clone()));
        found(&checker, contents).await
    }

    /// A repair by somebody whose store has these paths. `who` has repaired nothing before.
    pub(super) fn repair(
        &self,
        place: Arc<dyn Storage>,
        from: Option<&Source>,
        who: &str,
    ) -> Repair {
        let checker = self.checker(Arc::clone(&place));
        let collector = Collector::new(
            Arc::clone(&place),
            checker.index.clone(),
            who.parse().unwrap(),
            self.hand.clock(),
            Pace::default(),
        );
        let push = from.map(|from| self.push(place, from, who));
        Repair { checker, collector, push, allowed: None, stop: CancellationToken::new() }
    }

    /// Checks, reading everything, and repairs.
    pub(super) async fn repaired(&self, from: Option<&Source>, who: &str) -> Repaired {
        repaired(self.repair(Arc::new(self.place.clone()), from, who)).await
    }

    pub(super) fn info(&self, number: usize) -> NarInfo {
        let text = self.place.peek(&narinfo(number)).unwrap();
        NarInfo::parse(std::str::from_utf8(&text).unwrap(), &StoreDir::default()).unwrap()
    }

    pub(super) fn nar_key(&self, number: usize) -> Key {
        Key::new(self.info(number).url).unwrap()
    }

    pub(super) async fn put(&self, at: &Key, bytes: impl Into<Bytes>) {
        self.place.put(at, bytes.into()).await.unwrap();
    }

    pub(super) async fn rewrite(&self, number: usize, change: impl FnOnce(&mut NarInfo)) {
        let mut info = self.info(number);
        change(&mut info);
        self.put(&narinfo(number), info.to_text(&StoreDir::default())).await;
    }

    /// Damages the path with that number.
    pub(super) async fn damage(&self, number: usize, how: Damage) {
        let nar = self.nar_key(number);
        let bytes = self.place.peek(&nar).unwrap_or_default().to_vec();
        match how {
            Damage::NoNar => self.place.take(&nar),
            Damage::Short => self.put(&nar, bytes[..bytes.len() / 2].to_vec()).await,
            Damage::Flipped => self.put(&nar, flipped(bytes)).await,
            Damage::Nonsense => self.put(&narinfo(number), "StorePath: nonsense\n").await,
            Damage::Anothers => {
                let text = self.info(number).to_text(&StoreDir::default());
                let text = text.replace(&hash(number).to_string(), &hash(7).to_string());
                self.put(&narinfo(number), text).await;
            }
            Damage::NarHash => {
                self.rewrite(number, |info| info.nar_hash = info.file_hash.unwrap()).await
            }
            Damage::NarSize => self.rewrite(number, |info| info.nar_size -= 8).await,
            Damage::Gone => self.place.take(&narinfo(number)),
        }
    }

    /// All that anybody sees, with what is in it.
    pub(super) async fn everything(&self) -> BTreeMap<String, Bytes> {
        let keys = all_keys(&self.place).await.into_iter();
        keys.map(|it| (it.clone(), self.place.peek(&key(&it)).unwrap())).collect()
    }

    /// The numbers of the paths that are there.
    pub(super) fn left(&self) -> Vec<usize> {
        (0..30).filter(|number| self.place.peek(&narinfo(*number)).is_some()).collect()
    }
}

/// What can be wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    NoNar,
    /// The NAR's file is cut off.
    Short,
    /// A bit of the NAR's file is another one.
    Flipped,
    /// The narinfo says nothing.
    Nonsense,
    /// The narinfo is another path's.
    Anothers,
    /// The narinfo says another hash.
    NarHash,
    /// The narinfo says another size.
    NarSize,
    /// The narinfo is gone, so that those that refer to it are wrong.
    Gone,
}

impl Damage {
    pub(super) const ALL: [Self; 8] = [
        Self::NoNar,
        Self::Short,
        Self::Flipped,
        Self::Nonsense,
        Self::Anothers,
        Self::NarHash,
        Self::NarSize,
        Self::Gone,
    ];
}

pub(super) fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bytes
}

pub(super) fn narinfo(number: usize) -> Key {
    key(&format!("{}.narinfo", hash(number)))
}

pub(super) fn quiet() -> Observer {
    Arc::new(|_| {})
}

pub(super) async fn found(checker: &Checker, contents: bool) -> Found {
    let snapshot = checker.look().await.unwrap();
    let mut found = checker.check(&snapshot).await.unwrap();
    if contents {
        checker.read(&snapshot, &mut found, &|_, _| true, &|_| {}).await;
    }
    found
}

pub(super) async fn repaired(mut repair: Repair) -> Repaired {
    let found = found(&repair.checker, true).await;
    let watch = Watch { sending: &quiet(), removing: &|_| {} };
    repair.apply(found, true, &watch).await.unwrap()
}

/// What was found, a line each.
pub(super) fn told(found: &Found) -> Vec<String> {
    found.broken.values().map(ToString::to_string).collect()
}
