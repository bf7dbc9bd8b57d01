//! Carrying plans out: in portions, past failures, again after a crash, and never what somebody needs by then.

use std::sync::Arc;

use futures::FutureExt;
use jiff::SignedDuration;
use larder_cache::{
    gc::{
        apply::{Collector, Outcome, Pace, Progress},
        index::Index,
        plan::{Plan, Policy},
    },
    last_use::LastUse,
    lease::{LeaseOptions, Leases},
    names::Names,
    pin::Pins,
    storage::{Storage, StorageErrorKind},
};
use larder_formats::store_path::StoreDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    damaged::{CHAIN, Damage, Damaged, quiet, store},
    days, hash,
    index::{put, put_path},
    nar, path,
};
use crate::{
    clock::Hand,
    faulty::{Asked, Fate, Faulty},
    memory::Memory,
    storage::{all_keys, key},
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A cache of some paths, long ago: 1 ← 2 ← 3, and 4.
async fn cache() -> (Hand, Memory) {
    let hand = Hand::new();
    let place = Memory::new(hand.clock());
    put(&place, "nix-cache-info", "StoreDir: /nix/store\n").await;
    for (number, references) in [(1, [].as_slice()), (2, &[1]), (3, &[2, 3]), (4, &[])] {
        put_path(&place, number, references).await;
    }
    hand.turn(days(100));
    (hand, place)
}

fn collector(place: Arc<dyn Storage>, hand: &Hand, name: &str, pace: Pace) -> Collector {
    let index = Index::in_memory(&StoreDir::default()).unwrap();
    Collector::new(place, index, name.parse().unwrap(), hand.clock(), pace)
}

fn arc(place: &Memory) -> Arc<dyn Storage> {
    Arc::new(place.clone())
}

const UNUSED: Policy = Policy {
    max_age: Some(SignedDuration::from_hours(30 * 24)),
    max_size: None,
    grace: SignedDuration::from_hours(24),
};

async fn collect(place: Arc<dyn Storage>, hand: &Hand, name: &str) -> (Plan, Outcome) {
    let mut collector = collector(place, hand, name, Pace::default());
    let plan = collector.plan(&UNUSED).await.unwrap();
    let outcome = collector.apply(&plan, &|_| {}).await.unwrap();
    (plan, outcome)
}

/// The narinfos and NARs that are left, by number.
async fn left(place: &dyn Storage) -> (Vec<usize>, Vec<usize>) {
    let keys = all_keys(place).await;
    let has = |name: String| keys.contains(&name);
    let narinfos = (1..10).filter(|it| has(format!("{}.narinfo", hash(*it)))).collect();
    (narinfos, (1..10).filter(|it| has(nar(*it).url())).collect())
}

#[tokio::test]
async fn narinfos_go_first_and_their_nars_after_the_grace_time() {
    let (hand, place) = cache().await;
    let pins = Pins::new(arc(&place), hand.clock());
    let _ = pins.add("keep".parse().unwrap(), vec![path(2)], None).await.unwrap();
    let (plan, outcome) = collect(arc(&place), &hand, "one").await;
    assert_eq!((plan.paths.len(), outcome.paths, outcome.nars), (2, 2, 0));
    assert_eq!(left(&place).await, (vec![1, 2], vec![1, 2, 3, 4]));
    // Whoever was told of them before may still come for them.
    hand.turn(HOUR * 23);
    assert_eq!(collect(arc(&place), &hand, "two").await.1.nars, 0);
    hand.turn(HOUR * 2);
    let (_, outcome) = collect(arc(&place), &hand, "three").await;
    assert_eq!((outcome.nars, outcome.freed), (2, 200));
    assert_eq!(left(&place).await, (vec![1, 2], vec![1, 2]));
    // The next one finds nothing to do, and leaves nothing of ours lying about but the pin.
    let (plan, _) = collect(arc(&place), &hand, "four").await;
    assert_eq!((plan.paths, plan.nars, plan.objects), (vec![], vec![], vec![]));
    assert_eq!(larder_keys(&place).await, [".larder/pins/keep.json"]);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let (hand, place) = cache().await;
    let before = (all_keys(&place).await, larder_keys(&place).await);
    let collector = collector(arc(&place), &hand, "dry", Pace::default());
    assert_eq!(collector.plan(&UNUSED).await.unwrap().paths.len(), 4);
    assert_eq!((all_keys(&place).await, larder_keys(&place).await), before);
}

#[tokio::test]
async fn what_is_used_pinned_held_or_written_since_the_plan_stays() {
    for case in ["pin", "lease", "written", "referred to"] {
        let (hand, place) = cache().await;
        let mut collector = collector(arc(&place), &hand, "one", Pace::default());
        let plan = collector.plan(&UNUSED).await.unwrap();
        let leases = Leases::new(
            arc(&place),
            &"pusher".parse().unwrap(),
            hand.clock(),
            LeaseOptions::default(),
        );
        match case {
            "pin" => {
                let pins = Pins::new(arc(&place), hand.clock());
                drop(pins.add("x".parse().unwrap(), vec![path(2)], None).await.unwrap());
            }
            "lease" => drop(leases.hold(&Names::of_paths([hash(2)])).await.unwrap()),
            "written" => put_path(&place, 2, &[1]).await,
            _ => put_path(&place, 5, &[2]).await,
        }
        let outcome = collector.apply(&plan, &|_| {}).await.unwrap();
        assert_eq!((outcome.paths, outcome.spared), (2, 2), "{case}");
        let (narinfos, _) = left(&place).await;
        let expected: &[usize] = if case == "referred to" { &[1, 2, 5] } else { &[1, 2] };
        assert_eq!(narinfos, expected, "{case}");
    }
}

#[tokio::test]
async fn a_collection_in_small_portions_does_the_same() {
    let (hand, place) = cache().await;
    let pace = Pace { portion: 1, parallel: 1, ..Pace::default() };
    let mut collector = collector(arc(&place), &hand, "one", pace);
    let plan = collector.plan(&UNUSED).await.unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let outcome = collector.apply(&plan, &|it| seen.lock().unwrap().push(it.done)).await.unwrap();
    assert_eq!((outcome.paths, left(&place).await.0.len()), (4, 0));
    assert_eq!(seen.into_inner().unwrap(), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_collection_that_is_told_to_stop_ends_between_portions_and_the_next_goes_on() {
    let (hand, place) = cache().await;
    let pace = Pace { portion: 1, ..Pace::default() };
    let stop = CancellationToken::new();
    let mut stopping = collector(arc(&place), &hand, "one", pace).until(stop.clone());
    let plan = stopping.plan(&UNUSED).await.unwrap();
    let stop_soon = |it: Progress| {
        if it.done == 2 {
            stop.cancel();
        }
    };
    let outcome = stopping.apply(&plan, &stop_soon).await.unwrap();
    assert_eq!((outcome.paths, outcome.left, outcome.failures.len()), (2, 2, 0));
    // Nobody has to wait for it.
    assert!(!larder_keys(&place).await.iter().any(|it| it.contains("collections")));
    assert_eq!(collect(arc(&place), &hand, "two").await.1.paths, 2);
}

#[tokio::test]
async fn what_cannot_be_removed_keeps_what_it_refers_to_and_the_rest_goes_on() {
    let (hand, memory) = cache().await;
    let place = Arc::new(Faulty::new(memory.clone()));
    place.refuse_to_delete(&format!("{}.narinfo", hash(2)), StorageErrorKind::Transient);
    let (_, outcome) = collect(place.clone(), &hand, "one").await;
    // 3 refers to 2 and is gone; 1 is referred to by 2, and stays.
    assert_eq!(left(&memory).await.0, [1, 2]);
    assert_eq!((outcome.paths, outcome.failures.len()), (2, 2));
    assert!(outcome.failures.iter().any(|it| it.error.is_some()));
    // The removal may still be on its way, so whoever wants 2 waits until the announcement is over.
    assert!(larder_keys(&memory).await.iter().any(|it| it.contains("collections")));
    place.heal();
    hand.turn(HOUR);
    let (_, outcome) = collect(place, &hand, "two").await;
    assert_eq!((outcome.paths, outcome.failures.len()), (2, 0));
    assert_eq!(left(&memory).await.0, [0; 0]);
    assert!(!larder_keys(&memory).await.iter().any(|it| it.contains("collections")));
}

/// Between two looks of a collector a narinfo may lead to a NAR that has been an orphan for long, and to another one
/// again; who was told of the first comes for it a little later.
#[tokio::test]
async fn a_nar_that_was_needed_meanwhile_has_its_grace_time_anew() {
    let cache = Damaged::with(&store(CHAIN), &[1]).await;
    let (place, nar) = (arc(&cache.place), cache.nar_key(1));
    cache.damage(1, Damage::Gone).await;
    let policy = Policy::default();
    let mut collector = collector(place.clone(), &cache.hand, "one", Pace::default());
    let plan = collector.plan(&policy).await.unwrap();
    assert_eq!((plan.orphans.len(), plan.nars.len()), (1, 0));
    collector.apply(&plan, &|_| {}).await.unwrap();
    cache.hand.turn(days(2));
    let plan = collector.plan(&policy).await.unwrap();
    assert_eq!(plan.nars.len(), 1);
    let push = cache.push(place, &store(CHAIN), "pusher");
    let sent = push.send(&push.plan(&[hash(1)]).await.unwrap(), &quiet()).await;
    assert_eq!((sent.failures.len(), cache.nar_key(1)), (0, nar.clone()));
    push.to.release().await;
    cache.rewrite(1, |info| info.url = super::nar(7).url()).await;
    assert_eq!(collector.apply(&plan, &|_| {}).await.unwrap().nars, 0);
    assert!(cache.place.peek(&nar).is_some());
}

#[tokio::test]
async fn what_is_gone_already_counts_as_removed() {
    let (hand, place) = cache().await;
    let mut collector = collector(arc(&place), &hand, "one", Pace::default());
    let plan = collector.plan(&UNUSED).await.unwrap();
    place.delete(&key(&format!("{}.narinfo", hash(3)))).await.unwrap();
    let outcome = collector.apply(&plan, &|_| {}).await.unwrap();
    assert_eq!((outcome.paths, outcome.failures.len()), (4, 0));
}

#[tokio::test]
async fn records_that_cannot_be_read_stop_a_collection_before_it_removes_anything() {
    for record in ["pins/x", "leases/x-0", "orphans/x-0"] {
        for text in ["nonsense", "{\"version\":2}", "{\"version\":1,\"held\":7}"] {
            let (hand, place) = cache().await;
            put(&place, &format!(".larder/{record}.json"), text).await;
            let collector = collector(arc(&place), &hand, "one", Pace::default());
            let error = collector.plan(&UNUSED).await.unwrap_err();
            assert!(error.to_string().contains(record), "{error}");
        }
    }
}

#[tokio::test]
async fn uses_that_were_written_down_count_and_are_put_together() {
    let (hand, place) = cache().await;
    for (replica, number) in [("one", 3), ("other", 1)] {
        let used = LastUse::new(arc(&place), replica.parse().unwrap());
        used.record(hash(number), hand.now());
        used.record(hash(99), hand.now());
        used.flush(hand.now()).await.unwrap();
        used.flush(hand.now()).await.unwrap();
    }
    assert_eq!(larder_keys(&place).await.len(), 2);
    let (_, outcome) = collect(arc(&place), &hand, "one").await;
    assert_eq!(outcome.paths, 1);
    assert_eq!(left(&place).await.0, [1, 2, 3]);
    let kept = larder_keys(&place).await;
    assert_eq!(kept.iter().filter(|it| it.contains("/used/")).count(), 1, "{kept:?}");
    // A month later they are forgotten like everything else.
    hand.turn(days(31));
    assert_eq!(collect(arc(&place), &hand, "two").await.1.paths, 3);
}

#[tokio::test]
async fn a_pin_that_has_ended_counts_as_a_use_until_then() {
    let (hand, place) = cache().await;
    let pins = Pins::new(arc(&place), hand.clock());
    let until = hand.now() + days(10);
    drop(pins.add("x".parse().unwrap(), vec![path(2)], Some(until)).await.unwrap());
    hand.turn(days(20));
    assert_eq!(collect(arc(&place), &hand, "one").await.1.paths, 2);
    assert_eq!(left(&place).await.0, [1, 2]);
    assert_eq!(pins.list().await.unwrap(), []);
}

/// A pin that had ended when a collection looked, and was set anew before the collection came to drop it.
#[tokio::test]
async fn a_pin_that_was_set_anew_meanwhile_stays() {
    let (hand, memory) = cache().await;
    let pins = Pins::new(arc(&memory), hand.clock());
    let until = hand.now() - days(1);
    drop(pins.add("x".parse().unwrap(), vec![path(2)], Some(until)).await.unwrap());
    let place = Arc::new(Faulty::new(memory.clone()));
    let pins = std::sync::Mutex::new(Some(pins));
    place.obey(move |asked, key| {
        // The use that comes of the pin is written down just before.
        if asked == Asked::Put
            && key.is_some_and(|key| key.is_below(".larder/used"))
            && let Some(pins) = pins.lock().unwrap().take()
        {
            let added = pins.add("x".parse().unwrap(), vec![path(2)], None);
            drop(added.now_or_never().unwrap().unwrap());
        }
        Fate::Done
    });
    let (_, outcome) = collect(place, &hand, "one").await;
    assert_eq!((outcome.paths, left(&memory).await.0), (2, vec![1, 2]));
    assert_eq!(larder_keys(&memory).await.iter().filter(|it| it.contains("pins")).count(), 1);
}

#[tokio::test]
async fn a_pin_that_is_dropped_while_it_is_set_is_set_again() {
    let (hand, memory) = cache().await;
    let place = Faulty::new(memory.clone());
    let taken = std::sync::atomic::AtomicUsize::new(0);
    let pin = key(".larder/pins/x.json");
    let behind = memory.clone();
    place.obey(move |asked, _| {
        if asked == Asked::List && taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 1 {
            behind.take(&pin);
        }
        Fate::Done
    });
    let pins = Pins::new(Arc::new(place), hand.clock());
    let pin = pins.add("x".parse().unwrap(), vec![path(2)], None).await.unwrap();
    assert_eq!(pins.list().await.unwrap(), [pin]);
}

/// The drop of the former pin is on its way, and the new one is of other paths.
#[tokio::test(start_paused = true)]
async fn who_sets_a_pin_waits_until_the_former_one_is_dropped() {
    let (hand, memory) = cache().await;
    let pins = Pins::new(arc(&memory), hand.clock());
    let until = hand.now() - days(1);
    drop(pins.add("x".parse().unwrap(), vec![path(2)], Some(until)).await.unwrap());
    let place = Arc::new(Faulty::new(memory.clone()));
    let dropping = Arc::new(Notify::new());
    let told = Arc::clone(&dropping);
    place.obey(move |asked, key| match (asked, key) {
        (Asked::Delete, Some(key)) if key.is_below(".larder/pins") => {
            told.notify_one();
            Fate::Late(200, 0)
        }
        _ => Fate::Done,
    });
    let collecting = tokio::spawn({
        let hand = hand.clone();
        async move { collect(place, &hand, "one").await.1 }
    });
    dropping.notified().await;
    let pin = pins.add("x".parse().unwrap(), vec![path(4)], None).await.unwrap();
    collecting.await.unwrap();
    assert_eq!(pins.list().await.unwrap(), [pin]);
}

#[tokio::test]
async fn a_collector_whose_clock_is_wrong_removes_nothing() {
    for (wrong_by, says) in [(days(400), "9600h"), (HOUR * -1, "1h"), (HOUR / 10, "6m")] {
        let (hand, place) = cache().await;
        let pins = Pins::new(arc(&place), hand.clock());
        let until = hand.now() + days(1);
        drop(pins.add("x".parse().unwrap(), vec![path(2)], Some(until)).await.unwrap());
        let before = (all_keys(&place).await, larder_keys(&place).await);
        let theirs = Hand::new();
        theirs.turn(hand.now().duration_since(theirs.now()) + wrong_by);
        let mut collector = collector(arc(&place), &theirs, "one", Pace::default());
        let plan = collector.plan(&UNUSED).await.unwrap();
        assert!(!plan.paths.is_empty());
        let error = collector.apply(&plan, &|_| {}).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("set the clock"), "{error}");
        assert_eq!((all_keys(&place).await, larder_keys(&place).await), before);
    }
    let (hand, place) = cache().await;
    let theirs = Hand::new();
    theirs.turn(hand.now().duration_since(theirs.now()) + HOUR / 15);
    assert_eq!(collect(arc(&place), &theirs, "one").await.1.paths, 4);
}

async fn larder_keys(place: &dyn Storage) -> Vec<String> {
    let entries: Vec<_> =
        futures::TryStreamExt::try_collect(place.list(Some(&key(".larder")))).await.unwrap();
    let mut keys: Vec<String> = entries.into_iter().map(|entry| entry.key.to_string()).collect();
    keys.sort();
    keys
}
