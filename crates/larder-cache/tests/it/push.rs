//! Pushing: only what is missing, everything that is, nothing twice, and what cannot be is named with its reason.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use larder_cache::{
    cache::Cache,
    compression::Packing,
    push::{Event, Observer, Plan, Push},
    secrets::AllowList,
    source::ObjectStorage,
    storage::{Key, Storage, StorageErrorKind},
    upstream::Upstream,
};
use larder_formats::{
    signature::SecretKey,
    store_path::{StoreDir, StorePath},
};
use larder_testkit::tree::random_bytes;

use crate::{
    clock::Hand,
    faulty::{Asked, Fate, Faulty},
    gc::{hash, path},
    memory::Memory,
    source::{Source, cache_info, nar_of},
    static_cache::{has, nar},
    storage::all_keys,
};

/// 1 ← 2 ← 3 ← 4, and 5 that refers to 2 and to itself.
fn store() -> Source {
    let contents = |number: u64| random_bytes(number, 30_000);
    Source::new([
        (path(1), contents(1), vec![]),
        (path(2), contents(2), vec![path(1)]),
        (path(3), contents(3), vec![path(2)]),
        (path(4), contents(4), vec![path(3), path(1)]),
        (path(5), contents(5), vec![path(2), path(5)]),
    ])
}

fn push_to(place: impl Storage + 'static) -> Push {
    Push {
        from: Arc::new(store()),
        to: ObjectStorage::new(Arc::new(place), cache_info()),
        upstreams: Vec::new(),
        packing: Packing::Zstd(1),
        keys: Vec::new(),
        at_once: 3,
    }
}

fn memory() -> Memory {
    Memory::new(Hand::new().clock())
}

fn quiet() -> Observer {
    Arc::new(|_| {})
}

/// What happens, by name.
fn watched() -> (Observer, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noting = Arc::clone(&seen);
    let observer: Observer = Arc::new(move |event| {
        let line = match event {
            Event::Started(info) => format!("started {}", info.store_path.name()),
            Event::Finished(path, _) => format!("finished {}", path.name()),
            Event::TriedAgain(path, _) => format!("tried again {}", path.name()),
            Event::Failed(path, _) => format!("failed {}", path.name()),
            Event::Planned(_) | Event::Passed(_) => return,
        };
        noting.lock().unwrap().push(line);
    });
    (observer, seen)
}

fn planned(plan: &Plan) -> Vec<StorePath> {
    plan.send.iter().map(|info| info.store_path.clone()).collect()
}

#[tokio::test]
async fn a_closure_is_sent_references_first_and_can_be_read() {
    let place = memory();
    let push = push_to(place.clone());
    let plan = push.plan(&[hash(4), hash(5)]).await.unwrap();
    assert_eq!(planned(&plan), [path(1), path(2), path(3), path(4), path(5)]);
    let sizes: u64 = plan.send.iter().map(|info| info.nar_size).sum();
    assert_eq!(plan.nar_size(), sizes);
    let sent = push.send(&plan, &quiet()).await;
    assert_eq!((sent.paths.len(), sent.failures.len()), (5, 0));
    for number in 1..=5 {
        let expected = nar_of(&random_bytes(number, 30_000));
        let number = usize::try_from(number).unwrap();
        assert!(nar(&push.to, &path(number)).await.unwrap() == expected);
        assert!(has(&place, &format!("{}.ls", hash(number))));
    }
    let again = push.plan(&[hash(4), hash(5)]).await.unwrap();
    assert_eq!((again.send.len(), again.there.len()), (0, 5));
}

#[tokio::test]
async fn what_the_target_or_a_believed_upstream_has_is_skipped() {
    let push = push_to(memory());
    let first = push.plan(&[hash(2)]).await.unwrap();
    assert!(push.send(&first, &quiet()).await.failures.is_empty());
    let key = SecretKey::from_seed("upstream-1", [1; 32]).unwrap();
    let impostor = SecretKey::from_seed("upstream-1", [2; 32]).unwrap();
    let upstream = |name: &str, number: usize, signer: &SecretKey| Upstream {
        name: name.to_owned(),
        cache: Arc::new(Source::new([(path(number), b"x".to_vec(), vec![])]).signed_by(signer)),
        keys: vec![key.public()],
    };
    let upstreams = vec![upstream("good", 3, &key), upstream("bad", 4, &impostor)];
    let push = Push { upstreams, ..push };
    let plan = push.plan(&[hash(4)]).await.unwrap();
    assert_eq!(planned(&plan), [path(4)]);
    assert_eq!(plan.there.len(), 2);
    let (theirs, name) = &plan.upstream[0];
    assert_eq!((&theirs.store_path, name.as_str()), (&path(3), "good"));
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_asked_once_and_named() {
    let place = Faulty::new(memory());
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    place.obey(move |_, _| {
        *count.lock().unwrap() += 1;
        Fate::Fails(StorageErrorKind::Transient)
    });
    let upstream = Upstream {
        name: "down".to_owned(),
        cache: Arc::new(ObjectStorage::new(Arc::new(place), cache_info())),
        keys: vec![],
    };
    let push = Push { upstreams: vec![upstream], ..push_to(memory()) };
    let plan = push.plan(&[hash(4)]).await.unwrap();
    assert_eq!((plan.send.len(), plan.silent), (4, BTreeSet::from(["down".to_owned()])));
    assert!(*asked.lock().unwrap() < 4);
}

#[tokio::test]
async fn signatures_are_kept_and_those_of_the_configured_keys_added() {
    let key = |name: &str, seed| SecretKey::from_seed(name, [seed; 32]).unwrap();
    let (theirs, ours) = (key("theirs-1", 1), key("ours-1", 2));
    let from = Arc::new(store().signed_by(&theirs));
    let push = Push { from, keys: vec![ours.clone()], ..push_to(memory()) };
    let plan = push.plan(&[hash(1)]).await.unwrap();
    assert!(push.send(&plan, &quiet()).await.failures.is_empty());
    let told = push.to.narinfo(hash(1)).await.unwrap().unwrap();
    for key in [theirs, ours] {
        assert!(told.is_trusted_by(&StoreDir::default(), &[key.public()]), "{}", key.name());
    }
}

#[tokio::test]
async fn a_path_that_is_not_there_is_named_with_the_remedy() {
    let push = push_to(memory());
    let error = push.plan(&[hash(4), hash(99)]).await.unwrap_err();
    assert!(error.to_string().contains("build or fetch it first"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_transient_is_tried_again_and_nothing_is_seen_of_it() {
    let place = memory();
    let faulty = Faulty::new(place.clone());
    let left = Arc::new(Mutex::new(6));
    faulty.obey(move |asked, _| {
        let mut left = left.lock().unwrap();
        let fails = matches!(asked, Asked::Publish | Asked::Write | Asked::Draft) && *left > 0;
        *left -= i32::from(fails);
        if fails { Fate::Fails(StorageErrorKind::Transient) } else { Fate::Done }
    });
    let push = push_to(faulty);
    let plan = push.plan(&[hash(5)]).await.unwrap();
    let (observer, seen) = watched();
    let sent = push.send(&plan, &observer).await;
    assert_eq!(sent.failures.len(), 0);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().filter(|it| it.starts_with("tried again")).count(), 6, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_good_is_named_and_the_rest_is_sent() {
    for kind in [StorageErrorKind::Denied, StorageErrorKind::Full, StorageErrorKind::Transient] {
        let place = memory();
        let faulty = Faulty::new(place.clone());
        let victim = format!("{}.narinfo", hash(3));
        faulty.obey(move |asked, key| match (asked, key) {
            (Asked::Put, Some(key)) if key.as_str() == victim => Fate::Fails(kind),
            _ => Fate::Done,
        });
        let push = push_to(faulty.clone());
        let plan = push.plan(&[hash(4), hash(5)]).await.unwrap();
        let sent = push.send(&plan, &quiet()).await;
        let failed: Vec<String> = sent.failures.iter().map(ToString::to_string).collect();
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(failed.iter().any(|it| it.contains("on purpose")));
        assert!(failed.iter().any(|it| it.contains("it refers to") && it.contains("path-3")));
        assert_eq!(sent.paths, [path(1), path(2), path(5)]);
        // Nothing that was sent is sent again.
        faulty.heal();
        let plan = push.plan(&[hash(4), hash(5)]).await.unwrap();
        assert_eq!(planned(&plan), [path(3), path(4)]);
        assert!(push.send(&plan, &quiet()).await.failures.is_empty());
    }
}

#[tokio::test]
async fn a_finished_nar_is_not_sent_again_after_an_interruption() {
    let place = memory();
    let faulty = Faulty::new(place.clone());
    // Dies when the first narinfo is due: its NAR is there.
    faulty.obey(|asked, key| match (asked, key) {
        (Asked::Put, Some(key)) if key.as_str().ends_with(".narinfo") => Fate::Lost { done: false },
        _ => Fate::Done,
    });
    let push = push_to(faulty.clone());
    let plan = push.plan(&[hash(4)]).await.unwrap();
    let observer = quiet();
    let dying = push.send(&plan, &observer);
    assert!(tokio::time::timeout(Duration::from_secs(2), dying).await.is_err());
    let nars = |keys: Vec<String>| keys.iter().filter(|it| it.starts_with("nar/")).count();
    assert_eq!(nars(all_keys(&place).await), 4);
    let published: Arc<Mutex<Vec<Key>>> = Arc::default();
    let noting = Arc::clone(&published);
    faulty.obey(move |asked, key| {
        if asked == Asked::Publish {
            noting.lock().unwrap().extend(key.cloned());
        }
        Fate::Done
    });
    let plan = push.plan(&[hash(4)]).await.unwrap();
    assert!(push.send(&plan, &quiet()).await.failures.is_empty());
    assert_eq!(*published.lock().unwrap(), []);
}

#[tokio::test]
async fn what_the_target_does_not_have_in_the_end_is_a_failure() {
    let place = memory();
    let faulty = Faulty::new(place.clone());
    // It says that it wrote, and did not.
    let lost = format!("{}.narinfo", hash(2));
    let (thief, stolen) = (place.clone(), crate::storage::key(&lost));
    faulty.obey(move |asked, key| {
        if asked == Asked::Stat && key.is_some_and(|key| key.as_str() == lost) {
            thief.take(&stolen);
        }
        Fate::Done
    });
    let push = push_to(faulty);
    let plan = push.plan(&[hash(2)]).await.unwrap();
    let sent = push.send(&plan, &quiet()).await;
    assert_eq!(sent.failures[0].path, path(2));
    assert!(sent.failures[0].to_string().contains("push again"));
}

#[tokio::test]
async fn a_path_that_was_changed_on_disk_is_not_sent() {
    let push = push_to(memory());
    let plan = push.plan(&[hash(1)]).await.unwrap();
    let changed = Source::new([(path(1), random_bytes(9, 30_000), vec![])]);
    let push = Push { from: Arc::new(changed), ..push };
    let sent = push.send(&plan, &quiet()).await;
    assert_eq!(sent.failures.len(), 1);
    assert!(push.to.narinfo(hash(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn secrets_are_found_in_what_would_be_sent_and_nowhere_else() {
    let secret = SecretKey::from_seed("cache-1", [7; 32]).unwrap();
    let text = format!("key = {}\n", secret.expose().as_str()).into_bytes();
    let from = Source::new([
        (path(1), text.clone(), vec![]),
        (path(2), b"nothing".to_vec(), vec![path(1)]),
        (path(3), text, vec![]),
    ]);
    let push = Push { from: Arc::new(from), ..push_to(memory()) };
    let plan = push.plan(&[hash(2)]).await.unwrap();
    let allowed = AllowList::default();
    let found = push.inspect(&plan, &allowed, Timestamp::UNIX_EPOCH, &quiet()).await.unwrap();
    let paths: Vec<_> = found.iter().map(|it| it.path.clone()).collect();
    assert_eq!(paths, [path(1)]);
    let shown = found[0].findings[0].to_string();
    assert!(shown.contains("path-1") && !shown.contains(secret.expose().as_str()));
    // What refers to it cannot go without it.
    let (rest, left_out) = plan.clone().without(&paths);
    assert_eq!((planned(&rest), left_out), (vec![], vec![path(2)]));
    let allowed = AllowList::from_entries(["path path-1"]).unwrap();
    let found = push.inspect(&plan, &allowed, Timestamp::UNIX_EPOCH, &quiet()).await.unwrap();
    assert_eq!(found.len(), 0);
    assert_eq!(all_keys(&*push.to.storage().clone()).await, [""; 0]);
}

#[tokio::test]
async fn secrets_are_told_in_the_order_of_the_plan_however_large_their_paths_are() {
    let secret = SecretKey::from_seed("cache-1", [7; 32]).unwrap();
    let text = |size| format!("key = {}\n{}", secret.expose().as_str(), "x".repeat(size));
    let sizes = [10, 900_000, 300_000, 600_000];
    let paths = (1..).zip(sizes).map(|(n, size)| {
        let references = if n == 1 { vec![] } else { vec![path(n - 1)] };
        (path(n), text(size).into_bytes(), references)
    });
    let push = Push { from: Arc::new(Source::new(paths)), ..push_to(memory()) };
    let plan = push.plan(&[hash(4)]).await.unwrap();
    let allowed = AllowList::default();
    let found = push.inspect(&plan, &allowed, Timestamp::UNIX_EPOCH, &quiet()).await.unwrap();
    let told: Vec<_> = found.into_iter().map(|it| it.path).collect();
    assert_eq!(told, [path(1), path(2), path(3), path(4)]);
}
