//! The cache that all work on, what is known of it, and what must be true of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use larder_cache::{
    compression::Packing,
    push::Push,
    source::ObjectStorage,
    storage::{Key, Storage},
    time::Clock,
};
use larder_formats::{narinfo::NarInfo, store_path::StoreDir};
use tokio::time::Instant;

use crate::{
    clock::Hand,
    gc::{days, hash, index::put, path},
    memory::Memory,
    source::{Source, cache_info},
    storage::key,
};

/// Paths in the store that is pushed from.
pub(super) const PATHS: usize = 6;

/// How long a NAR outlives its last narinfo.
pub(super) const GRACE: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct World {
    pub(super) memory: Memory,
    pub(super) source: Source,
    pub(super) hand: Hand,
    began: Instant,
    references: BTreeMap<usize, Vec<usize>>,
    /// Paths that were there after they were pinned.
    pinned: Mutex<BTreeSet<usize>>,
    random: Mutex<Random>,
    /// What was asked, by whom.
    trace: Mutex<Vec<String>>,
}

/// xorshift64*, Vigna 2016.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below this.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap() % limit.max(1)
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Another one, which this one's seed decides.
    pub(super) fn another(&mut self) -> Self {
        Self::new((self.below(1 << 30) << 30 | self.below(1 << 30)) as u64)
    }
}

impl World {
    /// A store of some paths, and a cache with some of them from two days ago.
    pub(super) async fn new(seed: u64) -> Arc<Self> {
        let mut random = Random::new(seed);
        let mut references: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for number in 0..PATHS {
            references.insert(number, (0..number).filter(|_| random.one_in(3)).collect());
        }
        // Some share their NAR.
        let contents = |number: usize| format!("contents {}", number % 4).into_bytes();
        let source = Source::new(references.iter().map(|(number, to)| {
            (path(*number), contents(*number), to.iter().map(|it| path(*it)).collect())
        }));
        let (hand, began) = (Hand::new(), Instant::now());
        let memory = Memory::new(clock(&hand, began));
        put(&memory, "nix-cache-info", "StoreDir: /nix/store\n").await;
        let to = ObjectStorage::new(Arc::new(memory.clone()), cache_info());
        let (from, packing) = (Arc::new(source.clone()), Packing::Zstd(1));
        let push = Push { from, to, upstreams: vec![], packing, keys: vec![], at_once: 1 };
        let plan = push.plan(&[hash(random.below(PATHS)), hash(random.below(PATHS))]).await;
        assert!(push.send(&plan.unwrap(), &(Arc::new(|_| {}) as _)).await.failures.is_empty());
        hand.turn(days(2));
        let (pinned, random, trace) = (Mutex::default(), Mutex::new(random), Mutex::default());
        Arc::new(Self { memory, source, hand, began, references, pinned, random, trace })
    }

    /// Moves on while somebody waits, and when its hand is turned.
    pub(super) fn clock(&self) -> Clock {
        clock(&self.hand, self.began)
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock())()
    }

    pub(super) fn random(&self) -> Random {
        self.random.lock().unwrap().another()
    }

    /// Notes what happens, and looks whether all is well.
    pub(super) fn note(&self, who: &str, what: std::fmt::Arguments<'_>) {
        self.check_all();
        self.trace.lock().unwrap().push(format!("{} {who}: {what}", self.now()));
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.trace.lock().unwrap().clone()
    }

    /// What a path reaches: references have lower numbers.
    pub(super) fn closure(&self, root: usize) -> BTreeSet<usize> {
        let mut open = vec![root];
        let mut closure = BTreeSet::new();
        while let Some(number) = open.pop() {
            if closure.insert(number) {
                open.extend(&self.references[&number]);
            }
        }
        closure
    }

    /// The narinfo that anybody would be told now.
    pub(super) fn told(&self, number: usize) -> Option<NarInfo> {
        let text = self.memory.peek(&key(&format!("{}.narinfo", hash(number))))?;
        let text = std::str::from_utf8(&text).unwrap();
        Some(NarInfo::parse(text, &StoreDir::default()).unwrap())
    }

    /// Whether the NAR that a narinfo leads to is there, whole.
    pub(super) fn has_nar(&self, info: &NarInfo) -> bool {
        let nar = self.memory.peek(&Key::new(&info.url).unwrap());
        nar.is_some_and(|nar| Some(nar.len() as u64) == info.file_size)
    }

    /// A path is there, with its NAR, and so is all it refers to.
    pub(super) fn check_whole(&self, root: usize, why: &str) {
        for number in self.closure(root) {
            let info = self.told(number);
            let info = info.unwrap_or_else(|| panic!("{why} {root}, and {number} is gone"));
            assert!(self.has_nar(&info), "{why} {root}, and the NAR of {number} is gone");
        }
    }

    /// Notes that a path was there after it was pinned.
    pub(super) fn note_pinned(&self, number: usize) {
        self.pinned.lock().unwrap().insert(number);
        self.check_all();
    }

    fn check_pins(&self) {
        for number in self.pinned.lock().unwrap().iter() {
            self.check_whole(*number, "somebody pinned");
        }
    }

    /// At every moment: nothing that is told of leads nowhere.
    pub(super) fn check_all(&self) {
        self.check_pins();
        for number in 0..PATHS {
            let Some(info) = self.told(number) else { continue };
            assert!(self.has_nar(&info), "{number} is told of, and its NAR is gone");
            for to in &self.references[&number] {
                assert!(self.told(*to).is_some(), "{number} refers to {to}, which is gone");
            }
        }
    }

    /// In the end: no draft lies about that nobody works on.
    pub(super) async fn check_drafts(&self) {
        assert_eq!(self.memory.list(Some(&key(".larder/drafts"))).count().await, 0);
    }

    /// A day goes by, and more.
    pub(super) fn sleep_over(&self) {
        self.hand.turn(days(1) + SignedDuration::from_hours(2));
    }
}

fn clock(hand: &Hand, began: Instant) -> Clock {
    let hand = hand.clone();
    Arc::new(move || hand.now() + SignedDuration::try_from(began.elapsed()).unwrap())
}
