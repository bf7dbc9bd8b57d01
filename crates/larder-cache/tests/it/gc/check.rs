//! Checks: every kind of damage is found, nothing else is called damage, and nothing is changed.

use std::{
    fs::{File, FileTimes},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt;
use larder_cache::{
    source::ObjectStorage,
    storage::{Directory, Storage, StorageErrorKind},
    upstream::Upstream,
};
use larder_formats::{hash::Sha256, nar_file::NarFile, narinfo::Compression, signature::SecretKey};
use larder_testkit::{Program, scratch::scratch};

use super::{
    damaged::{CHAIN, Damage, Damaged, narinfo, store, told},
    hash,
    index::put,
    path,
};
use crate::{
    faulty::{Asked, Fate, Faulty},
    source::{Source, cache_info, nar_of},
    storage::key,
};

#[tokio::test]
async fn a_sound_cache_is_well_whatever_else_lies_in_it() {
    let cache = Damaged::chain().await;
    cache.put(&key("index.html"), "<p>hello</p>").await;
    cache.put(&key("nar/README"), "hello").await;
    let orphan = NarFile::parse(&format!("{}.nar", Sha256::of(&nar_of(b"x")).to_nix32())).unwrap();
    cache.put(&key(&orphan.url()), nar_of(b"x")).await;
    let before = cache.everything().await;
    let found = cache.check(true).await;
    assert_eq!((found.paths, found.nars, found.read), (4, 5, 5));
    assert!(found.is_well(), "{found:?}");
    assert_eq!(found.foreign, [key("index.html"), key("nar/README")]);
    assert_eq!(found.orphans.iter().map(|it| it.file).collect::<Vec<_>>(), [orphan]);
    assert_eq!(cache.everything().await, before);
}

#[tokio::test]
async fn every_kind_of_damage_is_found_and_only_bytes_have_to_be_read_for_it() {
    for how in Damage::ALL {
        let cache = Damaged::chain().await;
        let name = cache.nar_key(1);
        cache.damage(1, how).await;
        let (outside, all) = (cache.check(false).await, cache.check(true).await);
        assert!(!all.is_well(), "{how:?}");
        let (seen, word) = match how {
            Damage::NoNar => (1, format!("its NAR, {name}, is not there")),
            Damage::Short => (1, "the file of its NAR should have".to_owned()),
            Damage::Flipped => (0, "its NAR is wrong: the file".to_owned()),
            Damage::Nonsense => (1, "the narinfo cannot be used".to_owned()),
            Damage::Anothers => (1, format!("it says that it is {}-path-1's", hash(7))),
            Damage::NarHash => (0, "says NarHash".to_owned()),
            Damage::NarSize => (0, "which is the limit here".to_owned()),
            Damage::Gone => (1, format!("it refers to {}, which is not there", path(1))),
        };
        assert_eq!(outside.broken.len(), seen, "{how:?}: {:?}", told(&outside));
        let told = told(&all);
        assert_eq!(told.len(), 1, "{how:?}: {told:?}");
        assert!(told[0].contains(&word), "{how:?}: {told:?}");
        assert_eq!(all.broken.contains_key(&hash(1)), how != Damage::Gone);
    }
}

#[tokio::test]
async fn to_be_checked_is_no_use() {
    let cache = Damaged::chain().await;
    let folder = scratch("check");
    let place: Arc<dyn Storage> = Arc::new(Directory::new(folder.path()));
    for (at, bytes) in cache.everything().await {
        put(&*place, &at, bytes.to_vec()).await;
    }
    let nar = cache.nar_key(1);
    let file = File::open(folder.path().join(nar.as_str())).unwrap();
    let long_ago = file.metadata().unwrap().modified().unwrap() - Duration::from_hours(2400);
    file.set_times(FileTimes::new().set_accessed(long_ago)).unwrap();
    let is_used = || file.metadata().unwrap().accessed().unwrap() != long_ago;

    let found = super::damaged::found(&cache.checker(Arc::clone(&place)), true).await;
    assert_eq!((found.read, found.is_well()), (4, true), "{found:?}");
    assert!(!is_used());
    // Whoever reads it to unpack it uses it, as does whoever reads it past us.
    let follow = place.follow(nar.as_str(), 0).await.unwrap().unwrap();
    let _: Vec<_> = follow.try_collect().await.unwrap();
    assert!(is_used());
}

#[tokio::test]
async fn a_reference_may_be_at_a_trusted_upstream() {
    let key = SecretKey::from_seed("upstream-1", [1; 32]).unwrap();
    let impostor = SecretKey::from_seed("upstream-1", [2; 32]).unwrap();
    for (signer, sound) in [(&key, true), (&impostor, false)] {
        let mut cache = Damaged::chain().await;
        cache.damage(1, Damage::Gone).await;
        let theirs = Source::new([(path(1), b"x".to_vec(), vec![])]).signed_by(signer);
        let upstream =
            |cache| Upstream { name: "there".to_owned(), cache, keys: vec![key.public()] };
        cache.upstreams = vec![upstream(Arc::new(theirs))];
        let found = cache.check(false).await;
        assert_eq!(found.is_well(), sound, "{:?}", told(&found));
        assert_eq!(found.unsure, [""; 0]);
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_makes_nothing_wrong() {
    let mut cache = Damaged::chain().await;
    cache.damage(1, Damage::Gone).await;
    let place = Faulty::new(cache.place.clone());
    place.obey(|_, _| Fate::Fails(StorageErrorKind::Transient));
    let theirs = Arc::new(ObjectStorage::new(Arc::new(place), cache_info()));
    cache.upstreams = vec![Upstream { name: "down".to_owned(), cache: theirs, keys: vec![] }];
    let found = cache.check(true).await;
    assert_eq!((found.broken.len(), found.is_well()), (0, false));
    assert!(found.unsure[0].contains("down does not tell"), "{:?}", found.unsure);
}

#[tokio::test]
async fn what_cannot_be_read_or_judged_is_unsure_and_not_wrong() {
    let cache = Damaged::chain().await;
    cache.rewrite(4, |info| info.url = "https://elsewhere.example/4.nar".to_owned()).await;
    // An honest file whose dictionary needs more memory than we give.
    let nar = nar_of(b"large windows");
    let xz = Program::new("xz").args(["-c", "--lzma2=dict=1GiB"]).stdin(nar.clone());
    let bytes = xz.run().success().stdout_bytes;
    let url = format!("nar/{}.nar.xz", Sha256::of(&bytes).to_nix32());
    cache.put(&key(&url), bytes.clone()).await;
    cache
        .rewrite(3, |info| {
            info.url = url;
            info.compression = Compression::Xz;
            (info.file_hash, info.file_size) = (Some(Sha256::of(&bytes)), Some(bytes.len() as u64));
            (info.nar_hash, info.nar_size) = (Sha256::of(&nar), nar.len() as u64);
        })
        .await;
    let place = Faulty::new(cache.place.clone());
    let unreadable = cache.nar_key(1);
    place.obey(move |asked, key| match (asked, key) {
        (Asked::Read, Some(key)) if *key == unreadable => Fate::Fails(StorageErrorKind::Transient),
        _ => Fate::Done,
    });
    let found = super::damaged::found(&cache.checker(Arc::new(place)), true).await;
    assert_eq!(told(&found), [""; 0]);
    assert_eq!((found.damaged.len(), found.unsure.len()), (0, 3), "{:?}", found.unsure);
}

/// The index reads the narinfo, then the check, and once more when its reference is known to be nowhere.
#[tokio::test]
async fn what_cannot_be_read_again_is_unsure_and_not_forgotten() {
    let cache = Damaged::chain().await;
    cache.damage(1, Damage::Gone).await;
    let place = Faulty::new(cache.place.clone());
    let read = AtomicUsize::new(0);
    place.obey(move |asked, key| match (asked, key) {
        (Asked::Get, Some(key))
            if *key == narinfo(2) && read.fetch_add(1, Ordering::SeqCst) >= 2 =>
        {
            Fate::Fails(StorageErrorKind::Transient)
        }
        _ => Fate::Done,
    });
    let found = super::damaged::found(&cache.checker(Arc::new(place)), false).await;
    assert_eq!((found.broken.len(), found.is_well()), (0, false), "{found:?}");
    assert!(found.unsure[0].contains(&path(1).to_string()), "{:?}", found.unsure);
}

#[tokio::test]
async fn what_others_do_meanwhile_is_not_taken_for_damage() {
    let cache = Damaged::with(&store(CHAIN), &[3]).await;
    let checker = cache.checker(Arc::new(cache.place.clone()));
    // Somebody's upload, of which the listing saw the narinfo and not the NAR; and what it refers to came later.
    let (nar, info) = (cache.nar_key(2), narinfo(1));
    let bytes = (cache.place.peek(&nar).unwrap(), cache.place.peek(&info).unwrap());
    cache.place.take(&nar);
    cache.place.take(&info);
    let snapshot = checker.look().await.unwrap();
    cache.put(&nar, bytes.0).await;
    cache.put(&info, bytes.1).await;
    // Somebody's collection, of which it saw nothing yet.
    let gone = cache.nar_key(3);
    cache.place.delete(&narinfo(3)).await.unwrap();
    cache.place.delete(&gone).await.unwrap();
    let mut found = checker.check(&snapshot).await.unwrap();
    checker.read(&snapshot, &mut found, &|_, _| true, &|_| {}).await;
    assert!(found.is_well(), "{found:?}");
}
