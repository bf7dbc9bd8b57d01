//! Who works on the cache: each with a view of its own, through which its requests come early or late, and
//! in which it may die.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use futures::stream;
use jiff::SignedDuration;
use larder_cache::{
    compression::Packing,
    gc::{
        apply::{Collector, Pace},
        index::Index,
        plan::Policy,
    },
    lease::{LeaseOptions, Leases},
    names::Names,
    pin::Pins,
    push::{Observer, Push},
    record::Name,
    source::object_storage::{Limits, ObjectStorage, Terms},
    storage::{Key, Storage, StorageErrorKind},
};
use larder_formats::{
    hash::Sha256,
    nar_file::{NarFile, Suffix},
    narinfo::NarInfo,
    store_path::StoreDir,
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet, yield_now},
};

use super::world::{GRACE, PATHS, Random, World};
use crate::{
    faulty::{Asked, Fate, Faulty},
    gc::{hash, path},
    source::cache_info,
};

/// Somebody who slept for so long, in the time of waiting, will not wake up by itself.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// All kinds of actors at once, until each is done or dead.
pub(super) async fn round(world: &Arc<World>, round: usize) {
    let mut random = world.random();
    let (wake, asleep) = watch::channel(false);
    let mut make = |name: &str, dies: bool| {
        let name = format!("{name}-{round}");
        Actor::new(world, &name, random.another(), dies && random.one_in(3))
    };
    let mut actors = JoinSet::new();
    for name in ["pusher", "other-pusher", "third-pusher"] {
        let actor = make(name, true);
        let asleep = (actor.below(4) == 0).then(|| asleep.clone());
        actor.clone().start(&mut actors, actor.push(asleep));
    }
    let (actor, replica) = (make("uploader", true), make("replica", false));
    actor.clone().start(&mut actors, actor.upload(replica));
    for name in ["collector", "other-collector", "third-collector"] {
        let actor = make(name, true);
        actor.clone().start(&mut actors, actor.collect());
    }
    let actor = make("pinner", false);
    actor.clone().start(&mut actors, actor.pin());
    for name in ["reader", "other-reader", "slow-reader"] {
        let actor = make(name, false);
        actor.clone().start(&mut actors, actor.read());
    }
    let actor = make("time", false);
    actor.clone().start(&mut actors, actor.let_time_pass());
    let mut slept = false;
    while !actors.is_empty() {
        match tokio::time::timeout(PATIENCE, actors.join_next()).await {
            Ok(Some(Err(error))) if error.is_panic() => {
                std::panic::resume_unwind(error.into_panic())
            }
            Ok(_) => {}
            Err(_) => {
                assert!(!slept, "somebody hangs");
                slept = true;
                world.sleep_over();
                collect_all(world, round).await;
                wake.send_replace(true);
            }
        }
    }
    world.sleep_over();
}

/// Somebody collects all that may go while others sleep.
async fn collect_all(world: &Arc<World>, round: usize) {
    let storage: Arc<dyn Storage> = Arc::new(world.memory.clone());
    let index = Index::in_memory(&StoreDir::default()).unwrap();
    let name = format!("night-{round}").parse().unwrap();
    let mut collector = Collector::new(storage, index, name, world.clock(), Pace::default());
    let policy = Policy { max_age: None, max_size: Some(0), grace: GRACE };
    let plan = collector.plan(&policy).await.unwrap();
    collector.apply(&plan, &|_| {}).await.unwrap();
}

#[derive(Clone)]
struct Actor {
    world: Arc<World>,
    name: String,
    storage: Faulty,
    random: Arc<Mutex<Random>>,
    handle: Arc<OnceLock<AbortHandle>>,
}

impl Actor {
    fn new(world: &Arc<World>, name: &str, mut random: Random, dies: bool) -> Self {
        let dies_at = dies.then(|| random.below(80));
        let random = Arc::new(Mutex::new(random));
        let handle: Arc<OnceLock<AbortHandle>> = Arc::default();
        let storage = Faulty::new(world.memory.clone());
        let (asked, drawn, dying) = (Mutex::new(0), Arc::clone(&random), Arc::clone(&handle));
        let (who, place) = (name.to_owned(), Arc::clone(world));
        storage.obey(move |what, key| {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            let mut random = drawn.lock().unwrap();
            let fate = if Some(*asked) == dies_at {
                dying.get().unwrap().abort();
                Fate::Lost { done: random.one_in(2) }
            } else {
                fate(what, key, &mut random)
            };
            place.note(&who, format_args!("{what:?} {key:?} {fate:?}"));
            fate
        });
        Self { world: Arc::clone(world), name: name.to_owned(), storage, random, handle }
    }

    fn start(self, actors: &mut JoinSet<()>, work: impl Future<Output = ()> + Send + 'static) {
        let (name, world) = (self.name.clone(), Arc::clone(&self.world));
        let work = async move {
            work.await;
            world.note(&name, format_args!("done"));
        };
        // Not polled before this returns: all run on one thread.
        self.handle.set(actors.spawn(work)).unwrap();
    }

    fn below(&self, limit: usize) -> usize {
        self.random.lock().unwrap().below(limit)
    }

    /// Comes at once, or when the first have done most of their work.
    async fn arrive(&self) {
        if self.below(4) == 0 {
            tokio::time::sleep(Duration::from_secs(self.below(200) as u64)).await;
        }
        self.idle().await;
    }

    async fn idle(&self) {
        for _ in 0..self.below(if self.below(6) == 0 { 150 } else { 20 }) {
            yield_now().await;
        }
    }

    fn cache(&self) -> ObjectStorage {
        let storage: Arc<dyn Storage> = Arc::new(self.storage.clone());
        let name = self.name.parse().unwrap();
        let options = LeaseOptions::default();
        let leases = Leases::new(Arc::clone(&storage), &name, self.world.clock(), options);
        ObjectStorage::new(storage, cache_info()).holding(Arc::new(leases))
    }

    /// Pushes a closure; who is put to sleep goes on a day after it has looked what is there.
    async fn push(self, asleep: Option<watch::Receiver<bool>>) {
        self.arrive().await;
        let root = self.below(PATHS);
        let to = self.cache();
        let push = Push {
            from: Arc::new(self.world.source.clone()),
            to: to.clone(),
            upstreams: Vec::new(),
            packing: if self.below(4) == 0 { Packing::None } else { Packing::Zstd(1) },
            keys: Vec::new(),
            at_once: 2,
        };
        let began = self.world.now();
        let Ok(plan) = push.plan(&[hash(root)]).await else { return };
        if let Some(mut asleep) = asleep {
            let _ = asleep.wait_for(|awake| *awake).await;
        }
        let observer: Observer = Arc::new(|_| {});
        let sent = push.send(&plan, &observer).await;
        // What was only found to be there is held no longer than a lease.
        if sent.failures.is_empty() && self.world.now() < began + SignedDuration::from_hours(3) {
            self.world.check_whole(root, "somebody pushed");
        }
        to.release().await;
    }

    /// As a stock client does: what is there is skipped, each NAR goes to one server and its narinfo to another.
    async fn upload(self, replica: Self) {
        self.arrive().await;
        let (one, other) = (self.cache(), replica.cache());
        let began = self.world.now();
        for number in self.world.closure(self.below(PATHS)) {
            let Ok(held) = one.try_hold(&Names::of_paths([hash(number)])).await else { return };
            let Ok(there) = one.present(vec![hash(number)]).await else { return };
            if held && !there.is_empty() {
                continue;
            }
            let nar = self.world.source.nar(hash(number));
            let file = NarFile { hash: Sha256::of(&nar), suffix: Suffix::None };
            let bytes = stream::iter([Ok(nar)]);
            if one.stage(file, Box::pin(bytes), Limits::default()).await.is_err() {
                return;
            }
            self.idle().await;
            let info = self.world.source.info(hash(number));
            let info = NarInfo { url: file.url(), ..(*info).clone() };
            if other.commit(info, &Terms::default()).await.is_err() {
                return;
            }
            self.world.check_whole(number, "somebody uploaded");
            assert!(self.world.now() < began + SignedDuration::from_hours(3));
        }
    }

    async fn collect(self) {
        for run in 0..=self.below(3) {
            self.arrive().await;
            let policy = Policy {
                max_age: (self.below(2) == 0).then(|| SignedDuration::from_hours(1)),
                max_size: (self.below(3) > 0).then(|| self.below(2000) as u64),
                grace: GRACE,
            };
            let (portion, parallel) = (1 + self.below(4), 1 + self.below(3));
            let pace = Pace { portion, parallel, ..Pace::default() };
            let storage = Arc::new(self.storage.clone());
            let index = Index::in_memory(&StoreDir::default()).unwrap();
            let name = format!("{}-{run}", self.name).parse().unwrap();
            let mut collector = Collector::new(storage, index, name, self.world.clock(), pace);
            if let Ok(plan) = collector.plan(&policy).await {
                self.idle().await;
                let _ = collector.apply(&plan, &|_| {}).await;
            }
        }
    }

    async fn pin(self) {
        let number = self.below(PATHS);
        let pins = Pins::new(Arc::new(self.storage.clone()), self.world.clock());
        let name: Name = format!("{}-{number}", self.name).parse().unwrap();
        // Collectors may be about to drop the one that it takes the place of.
        let ended = self.world.now() - SignedDuration::from_hours(1);
        let _ = pins.add(name.clone(), vec![path(self.below(PATHS))], Some(ended)).await;
        self.arrive().await;
        let pinned = pins.add(name, vec![path(number)], None).await;
        if pinned.is_ok() && self.world.told(number).is_some() {
            self.world.note_pinned(number);
        }
    }

    async fn read(self) {
        for _ in 0..20 {
            let number = self.below(PATHS);
            if let Some(told) = self.world.told(number) {
                let at = self.world.now();
                self.idle().await;
                tokio::time::sleep(Duration::from_secs(self.below(300) as u64)).await;
                let in_time = self.world.now() < at + GRACE;
                assert!(
                    !in_time || self.world.has_nar(&told),
                    "the NAR of {number} went too early"
                );
            }
            self.idle().await;
        }
    }

    /// In small steps, so that some requests are slow and none takes as long as clocks may differ.
    async fn let_time_pass(self) {
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(self.below(15) as u64)).await;
            self.idle().await;
        }
    }
}

fn fate(what: Asked, key: Option<&Key>, random: &mut Random) -> Fate {
    // What a narinfo needs is looked for just before it is written, and nobody can do both at once: a process
    // that stands still for hours exactly there is beyond what a lease can promise.
    if what == Asked::Put && key.is_some_and(|key| key.as_str().ends_with(".narinfo")) {
        return Fate::Done;
    }
    // Any request may be long on its way, so that others do much in between, and removals are that often.
    let removes = what == Asked::Delete && key.is_some_and(|key| !key.is_below(".larder"));
    let most = match random.below(12) {
        0 => 200,
        _ if removes => 60,
        _ => 4,
    };
    let mut some = || u8::try_from(random.below(most)).unwrap();
    let late = Fate::Late(some(), some());
    match random.below(40) {
        0..4 if removes => Fate::Straggles(Duration::from_secs(random.below(300) as u64)),
        0 => Fate::Fails(StorageErrorKind::Transient),
        1 => Fate::DoneButFails(StorageErrorKind::Transient),
        _ => late,
    }
}
