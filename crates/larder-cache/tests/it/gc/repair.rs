//! Repairs: what the store has is brought again, what nobody has goes with all that refers to it, what is pinned stays;
//! and whatever happens in the middle, repairing again finishes it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::FutureExt;
use jiff::SignedDuration;
use larder_cache::{
    gc::{
        plan::{Plan, Reason},
        repair::{Repair, Repaired, Watch},
    },
    lease::{LeaseOptions, Leases},
    names::Names,
    pin::Pins,
    secrets::AllowList,
    storage::{Storage, StorageErrorKind},
};
use larder_formats::{hash::Sha256, nar_file::NarFile, signature::SecretKey, store_path::StoreDir};
use larder_testkit::tree::random_bytes;
use proptest::prelude::*;
use tokio::sync::Notify;

use super::{
    cases,
    damaged::{CHAIN, Damage, Damaged, flipped, found, narinfo, quiet, repaired, store, told},
    hash, path,
};
use crate::{
    faulty::{Asked, Fate, Faulty},
    source::{Source, nar_of},
    static_cache::ours,
    storage::key,
};

async fn pin(cache: &Damaged, name: &str, number: usize) {
    let pins = Pins::new(Arc::new(cache.place.clone()), cache.hand.clock());
    let _ = pins.add(name.parse().unwrap(), vec![path(number)], None).await.unwrap();
}

fn stays(repaired: &Repaired) -> Vec<String> {
    repaired.stays.iter().map(|it| format!("{:?}", it.pins)).collect()
}

#[tokio::test]
async fn what_the_store_has_is_brought_again_whatever_was_wrong_with_it() {
    let key = SecretKey::from_seed("theirs-1", [1; 32]).unwrap();
    for how in Damage::ALL {
        // The store has no signatures, and those in the cache are kept.
        let cache = Damaged::with(&store(CHAIN).signed_by(&key), &[3, 4]).await;
        cache.damage(1, how).await;
        let done = cache.repaired(Some(&store(CHAIN)), "one").await;
        // Who says another hash speaks of another path; what the store has is not that.
        let lies = matches!(how, Damage::NarHash);
        assert!(done.is_whole(), "{how:?}: {done:?}");
        assert_eq!(
            (!done.sent.paths.is_empty(), done.removed.paths),
            (!lies, if lies { 3 } else { 0 })
        );
        let left: &[usize] = if lies { &[4] } else { &[1, 2, 3, 4] };
        assert_eq!(cache.left(), left, "{how:?}");
        let again = cache.check(true).await;
        assert!(again.is_well(), "{how:?}: {:?}", told(&again));
        // Nothing of ours lies about, but that a good NAR lost its narinfo.
        let notes = ours(&cache.place).await;
        assert!(notes.iter().all(|it| lies && it.contains("orphans")), "{how:?}: {notes:?}");
        if matches!(how, Damage::NoNar | Damage::Short | Damage::Flipped) {
            let info = cache.info(1);
            assert!(info.is_trusted_by(&StoreDir::default(), &[key.public()]), "{how:?}");
        }
    }
}

#[tokio::test]
async fn what_nobody_has_goes_with_all_that_refers_to_it() {
    for how in Damage::ALL {
        let cache = Damaged::chain().await;
        let nar = cache.nar_key(1);
        cache.damage(1, how).await;
        let done = cache.repaired(None, "one").await;
        assert!(done.is_whole(), "{how:?}: {done:?}");
        assert_eq!(cache.left(), [4], "{how:?}");
        let gone = if how == Damage::Gone { 2 } else { 3 };
        assert_eq!((done.plan.paths.len(), done.removed.paths), (gone, gone), "{how:?}");
        let reasons: Vec<Reason> = done.plan.paths.iter().map(|it| it.reason).collect();
        let wrong = hash(if how == Damage::Gone { 2 } else { 1 });
        assert_eq!(reasons.last(), Some(&Reason::Wrong));
        assert_eq!(reasons[0], Reason::RefersTo(wrong), "{how:?}");
        // Wrong bytes go at once; what may have been told of and is right waits for its grace.
        let wrong_bytes = matches!(how, Damage::Flipped | Damage::Short | Damage::NarSize);
        let is_there = cache.place.peek(&nar).is_some();
        assert_eq!(is_there, !wrong_bytes && how != Damage::NoNar, "{how:?}");
        assert!(cache.check(true).await.is_well(), "{how:?}");
    }
}

#[tokio::test]
async fn what_others_mended_meanwhile_is_not_removed() {
    for how in Damage::ALL {
        let cache = Damaged::chain().await;
        let (before, records) = (cache.everything().await, ours(&cache.place).await);
        cache.damage(1, how).await;
        let mut repair = cache.repair(Arc::new(cache.place.clone()), None, "one");
        let found = found(&repair.checker, true).await;
        for (at, bytes) in &before {
            cache.put(&key(at), bytes.clone()).await;
        }
        let watch = Watch { sending: &quiet(), removing: &|_| {} };
        let done = repair.apply(found, true, &watch).await.unwrap();
        assert!(done.is_whole(), "{how:?}: {done:?}");
        assert!(cache.everything().await == before, "{how:?}");
        assert_eq!(ours(&cache.place).await, records, "{how:?}");
    }
}

/// The same after it was looked at for the last time.
#[tokio::test]
async fn what_others_mend_at_the_last_moment_is_not_removed() {
    let cache = Damaged::chain().await;
    let before = cache.everything().await;
    cache.damage(1, Damage::Flipped).await;
    let place = Faulty::new(cache.place.clone());
    let (memory, hand, nar) = (cache.place.clone(), cache.hand.clone(), cache.nar_key(1));
    let (read, whole) = (AtomicUsize::new(0), before.clone());
    place.obey(move |asked, at| {
        let reads = asked == Asked::Read && at == Some(&nar);
        if reads {
            read.fetch_add(1, Ordering::SeqCst);
        }
        // It was read for the check, and again for the repair.
        if asked == Asked::List && read.load(Ordering::SeqCst) == 2 {
            read.fetch_add(1, Ordering::SeqCst);
            hand.turn(SignedDuration::from_mins(1));
            for (at, bytes) in &whole {
                memory.put(&key(at), bytes.clone()).now_or_never().unwrap().unwrap();
            }
        }
        Fate::Done
    });
    let done = repaired(cache.repair(Arc::new(place), None, "one")).await;
    // Three paths, and the NAR.
    assert_eq!((done.removed.paths, done.removed.spared), (0, 4), "{done:?}");
    assert!(cache.everything().await == before);
}

#[tokio::test]
async fn what_a_pin_reaches_stays_and_is_told_until_somebody_brings_it() {
    let cache = Damaged::chain().await;
    cache.damage(1, Damage::Flipped).await;
    pin(&cache, "release", 2).await;
    let before = cache.everything().await;
    let done = cache.repaired(None, "one").await;
    assert!(!done.is_whole());
    assert_eq!(stays(&done), ["[\"release\"]"]);
    assert_eq!(cache.everything().await, before);
    assert_eq!(told(&cache.check(true).await).len(), 1);
    // The remedy that it tells.
    assert!(cache.repaired(Some(&store(CHAIN)), "two").await.is_whole());
    assert_eq!(cache.left(), [1, 2, 3, 4]);
    // A pin of something else keeps nothing.
    let cache = Damaged::chain().await;
    cache.damage(2, Damage::Flipped).await;
    pin(&cache, "other", 1).await;
    assert!(cache.repaired(None, "one").await.is_whole());
    assert_eq!(cache.left(), [1, 4]);
}

#[tokio::test]
async fn what_somebody_works_with_stays_until_that_has_ended() {
    let cache = Damaged::chain().await;
    cache.damage(1, Damage::Nonsense).await;
    let place: Arc<dyn Storage> = Arc::new(cache.place.clone());
    let options = LeaseOptions::default();
    let leases = Leases::new(place, &"pusher".parse().unwrap(), cache.hand.clock(), options);
    leases.hold(&Names::of_paths([hash(3)])).await.unwrap();
    let done = cache.repaired(None, "one").await;
    assert_eq!((stays(&done), cache.left()), (vec!["[]".to_owned()], vec![1, 2, 3, 4]));
    cache.hand.turn(SignedDuration::from_hours(7));
    assert!(cache.repaired(None, "two").await.is_whole());
    assert_eq!(cache.left(), [4]);
}

#[tokio::test]
async fn paths_with_one_nar_are_mended_together() {
    let graph: [(usize, &[usize]); 2] = [(5, &[]), (15, &[])];
    let cache = Damaged::with(&store(&graph), &[5, 15]).await;
    assert_eq!(cache.nar_key(5), cache.nar_key(15));
    cache.damage(5, Damage::Flipped).await;
    assert_eq!(cache.check(true).await.broken.len(), 2);
    assert!(cache.repaired(Some(&store(&graph[..1])), "one").await.is_whole());
    assert_eq!(cache.left(), [5, 15]);
    assert!(cache.check(true).await.is_well());
}

#[tokio::test]
async fn damage_that_nothing_refers_to_goes_unless_somebody_is_about_to_need_it() {
    let cache = Damaged::chain().await;
    let nar = nar_of(b"somebody's");
    let file = NarFile::parse(&format!("{}.nar", Sha256::of(&nar).to_nix32())).unwrap();
    cache.put(&key(&file.url()), flipped(nar)).await;
    let found = cache.check(true).await;
    assert_eq!((found.broken.len(), found.damaged.len(), found.is_well()), (0, 1, false));
    let place: Arc<dyn Storage> = Arc::new(cache.place.clone());
    let options = LeaseOptions::default();
    let leases = Leases::new(place, &"pusher".parse().unwrap(), cache.hand.clock(), options);
    leases.hold(&Names::of_nar(file)).await.unwrap();
    let done = cache.repaired(None, "one").await;
    assert_eq!((done.removed.nars, done.removed.spared, done.is_whole()), (0, 1, false));
    leases.release().await.unwrap();
    // That its upload was never finished keeps it no longer.
    cache.put(&key(&format!(".larder/staged/{file}.json")), "{}").await;
    let done = cache.repaired(None, "two").await;
    assert_eq!((done.removed.nars, done.is_whole()), (1, true));
    assert!(cache.check(true).await.is_well());
}

#[tokio::test]
async fn a_store_that_is_damaged_itself_mends_nothing() {
    let cache = Damaged::chain().await;
    cache.damage(1, Damage::NoNar).await;
    let honest = store(CHAIN);
    let rotten = honest.with_nar(hash(1), nar_of(&random_bytes(99, 3000)));
    let done = cache.repaired(Some(&rotten), "one").await;
    assert_eq!((done.sent.failures.len(), done.removed.paths), (1, 3));
    assert_eq!(cache.left(), [4]);
    assert!(done.is_whole() && cache.check(true).await.is_well());
}

/// Who holds nothing writes nothing.
fn dry_repair(cache: &Damaged, source: &Source) -> Repair {
    let mut repair = cache.repair(Arc::new(cache.place.clone()), Some(source), "dry");
    let push = repair.push.take().unwrap();
    let to = larder_cache::source::ObjectStorage::new(
        Arc::clone(push.to.storage()),
        crate::source::cache_info(),
    );
    repair.push = Some(larder_cache::push::Push { to, ..push });
    repair
}

#[tokio::test]
async fn what_would_be_done_is_told_and_nothing_is_changed() {
    let cache = Damaged::chain().await;
    cache.damage(1, Damage::Flipped).await;
    cache.damage(4, Damage::NoNar).await;
    let (before, records) = (cache.everything().await, ours(&cache.place).await);
    let source = store(&[(4_usize, [4_usize])]);
    let repair = dry_repair(&cache, &source);
    let found = super::damaged::found(&repair.checker, true).await;
    let remedies = repair.remedies(&found, &quiet()).await.unwrap();
    let sent: Vec<_> = remedies.send.unwrap().send.iter().map(|it| it.store_path.hash()).collect();
    assert_eq!((sent, remedies.remove.paths.len(), remedies.stays.len()), (vec![hash(4)], 3, 0));
    assert_eq!((cache.everything().await, ours(&cache.place).await), (before, records));
}

#[tokio::test]
async fn what_would_be_done_is_what_is_done_about_secrets_too() {
    let secret = SecretKey::from_seed("cache-1", [7; 32]).unwrap();
    let text = format!("key = {}\n", secret.expose().as_str()).into_bytes();
    let source = Source::new([
        (path(1), text, vec![]),
        (path(2), random_bytes(2, 3000), vec![path(1)]),
        (path(4), random_bytes(4, 3000), vec![]),
    ]);
    let cache = Damaged::with(&source, &[2, 4]).await;
    cache.damage(1, Damage::NoNar).await;
    cache.damage(4, Damage::NoNar).await;
    let allowed = || Some(AllowList::default());
    let dry = Repair { allowed: allowed(), ..dry_repair(&cache, &source) };
    let found = super::damaged::found(&dry.checker, true).await;
    let remedies = dry.remedies(&found, &quiet()).await.unwrap();
    let sent: Vec<_> = remedies.send.unwrap().send.iter().map(|it| it.store_path.hash()).collect();
    let secrets: Vec<_> = remedies.secrets.iter().map(|it| it.path.hash()).collect();
    assert_eq!((sent, secrets), (vec![hash(4)], vec![hash(1)]));
    let repair = cache.repair(Arc::new(cache.place.clone()), Some(&source), "one");
    let done = repaired(Repair { allowed: allowed(), ..repair }).await;
    assert_eq!(done.secrets.len(), remedies.secrets.len());
    assert_eq!((done.mended, cache.left()), (1, vec![4]));
    let removed = |plan: &Plan| plan.paths.iter().map(|it| it.what.clone()).collect::<Vec<_>>();
    assert_eq!(removed(&done.plan), removed(&remedies.remove));
    assert_eq!(done.plan.paths.len(), 2);
}

/// Dies at each of its requests in turn, before or after that is done; whoever comes next finishes the work.
#[tokio::test]
async fn a_repair_that_dies_anywhere_is_finished_by_the_next() {
    let source = store(&[(4_usize, [4_usize])]);
    for done in [false, true] {
        for deadline in 0.. {
            let cache = Damaged::chain().await;
            cache.damage(1, Damage::Flipped).await;
            cache.damage(4, Damage::Flipped).await;
            let place = Faulty::new(cache.place.clone());
            let (asked, died) = (AtomicUsize::new(0), Arc::new(Notify::new()));
            let dying = Arc::clone(&died);
            place.obey(move |what, _| {
                let changes =
                    matches!(what, Asked::Put | Asked::Delete | Asked::Publish | Asked::Draft);
                if changes && asked.fetch_add(1, Ordering::SeqCst) == deadline {
                    dying.notify_one();
                    return Fate::Lost { done };
                }
                Fate::Done
            });
            let repair = cache.repair(Arc::new(place), Some(&source), "one");
            let ended = tokio::select! {
                _ = repaired(repair) => true,
                () = died.notified() => false,
            };
            // What is left is whole at any moment, as far as it was.
            let between = told(&cache.check(false).await);
            assert!(between.iter().all(|it| !it.contains("refers to")), "{deadline}: {between:?}");
            cache.hand.turn(SignedDuration::from_hours(7));
            let next = cache.repaired(Some(&source), "two").await;
            assert!(next.is_whole(), "{deadline}: {next:?}");
            assert_eq!(cache.left(), [4], "{deadline}");
            assert!(cache.check(true).await.is_well(), "{deadline}");
            if ended {
                assert!(deadline > 5, "nothing was interrupted");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_removed_is_told_and_keeps_what_it_refers_to() {
    let cache = Damaged::chain().await;
    cache.damage(1, Damage::Flipped).await;
    let place = Faulty::new(cache.place.clone());
    place.refuse_to_delete(narinfo(2).as_str(), StorageErrorKind::Denied);
    let done = repaired(cache.repair(Arc::new(place), None, "one")).await;
    assert_eq!((done.is_whole(), done.removed.failures.len()), (false, 2), "{done:?}");
    assert_eq!(cache.left(), [1, 2, 4]);
}

fn damage() -> impl Strategy<Value = (usize, Damage)> {
    (0..6_usize, prop::sample::select(Damage::ALL.to_vec()))
}

proptest! {
    #![proptest_config(cases(48))]

    /// Any graph, any damage, whatever the store has and the pins name: what is pinned is not touched unless it is
    /// mended, all else is right afterwards, and there is nothing more to do.
    #[test]
    fn whatever_is_wrong_is_mended_removed_or_told(
        edges in prop::collection::vec(any::<[bool; 6]>(), 6),
        damages in prop::collection::vec(damage(), 1..4),
        has in any::<[bool; 6]>(),
        pinned in prop::option::of(0..6_usize),
    ) {
        let graph: Vec<(usize, Vec<usize>)> = (0..6)
            .map(|number| (number, (0..number).filter(|to| edges[number][*to]).collect()))
            .collect();
        // A store has the closure of what it has.
        let mut here = BTreeSet::new();
        for (number, references) in graph.iter().rev() {
            if has[*number] || here.contains(number) {
                here.insert(*number);
                here.extend(references);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(any_damage(&graph, &damages, &here, pinned));
    }
}

async fn any_damage(
    graph: &[(usize, Vec<usize>)],
    damages: &[(usize, Damage)],
    here: &BTreeSet<usize>,
    pinned: Option<usize>,
) {
    let cache = Damaged::with(&store(graph), &[0, 1, 2, 3, 4, 5]).await;
    if let Some(number) = pinned {
        pin(&cache, "x", number).await;
    }
    for (number, how) in damages {
        let sound = cache.place.peek(&narinfo(*number)).is_some()
            && !cache.check(true).await.broken.contains_key(&hash(*number));
        if sound {
            cache.damage(*number, *how).await;
        }
    }
    let before = cache.left();
    let source: Source = store(graph.iter().filter(|(number, _)| here.contains(number)));
    let done = cache.repaired(Some(&source), "one").await;
    let mut reached: BTreeSet<usize> = pinned.into_iter().collect();
    for (number, references) in graph.iter().rev() {
        if reached.contains(number) && before.contains(number) {
            reached.extend(references);
        }
    }
    let left = cache.left();
    for number in before.iter().filter(|it| reached.contains(it)) {
        // What a narinfo refers to that cannot be read, nobody knows.
        let unreadable = damages.iter().any(|(_, how)| *how == Damage::Nonsense);
        assert!(left.contains(number) || unreadable, "{number} was pinned");
    }
    assert!(done.stays.iter().all(|it| it.pins.len() == 1), "{done:?}");
    let found = cache.check(true).await;
    assert_eq!(found.broken.len(), done.stays.len(), "{:?}", told(&found));
    let everything = cache.everything().await;
    let _ = cache.repaired(Some(&source), "two").await;
    assert_eq!(cache.everything().await, everything);
}
