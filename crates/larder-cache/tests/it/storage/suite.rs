//! What every place promises: whole objects or none, absence only where it is known, and complete listings.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::join_all};
use larder_cache::storage::{Key, Storage};
use larder_testkit::tree::random_bytes;

use super::{Place, all_keys, contents, drafted, key};

/// Makes one test of each claim for each kind of place, so that a failure names it.
macro_rules! in_every_place {
    ($($claim:ident),+ $(,)?) => {
        mod memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() { let place = super::Place::memory(); super::$claim(&*place.storage).await; })+ }
        mod directory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() { let place = super::Place::directory(); super::$claim(&*place.storage).await; })+ }
        mod sftp { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() { let place = super::Place::sftp(); super::$claim(&*place.storage).await; })+ }
        mod s3 { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() { let place = super::Place::s3(); super::$claim(&*place.storage).await; })+ }
        mod garage { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs Garage, which takes a quarter of an hour to build: ./dev garage"]
            async fn $claim() { let place = super::Place::garage(); super::$claim(&*place.storage).await; })+ }
        mod garage_with_a_node_down { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs Garage, which takes a quarter of an hour to build: ./dev garage"]
            async fn $claim() { let place = super::Place::garage_with_a_node_down(); super::$claim(&*place.storage).await; })+ }
    };
}

in_every_place!(
    an_empty_place_has_nothing_and_says_so,
    what_was_put_is_read_back_whole_and_in_parts,
    what_is_put_again_takes_the_place_of_what_was,
    a_draft_is_seen_by_nobody_until_it_is_published,
    a_large_object_comes_back_as_it_was_sent,
    a_dropped_draft_leaves_nothing_that_anybody_sees,
    a_range_beyond_the_end_is_an_error_and_never_fewer_bytes,
    what_is_too_large_to_be_small_is_an_error,
    what_was_removed_is_gone_and_may_be_removed_again,
    every_name_that_a_cache_has_is_kept,
    a_listing_is_complete_and_leaves_out_what_is_ours,
    a_shallow_listing_does_not_go_down,
    a_reader_sees_one_of_several_writers_and_never_a_mixture,
    many_things_at_once_do_not_get_in_each_others_way,
);

async fn an_empty_place_has_nothing_and_says_so(place: &dyn Storage) {
    for name in ["nix-cache-info", "nar/x.nar", ".larder/pins/x.json"] {
        let at = key(name);
        assert_eq!(place.stat(&at).await.unwrap(), None);
        assert_eq!(place.get(&at, 100).await.unwrap(), None);
        assert!(place.read(&at, 0..1).await.unwrap().is_none());
        assert!(place.read(&at, 0..0).await.unwrap().is_none());
        place.delete(&at).await.unwrap();
    }
    assert_eq!(all_keys(place).await, [""; 0]);
    let nothing: Vec<_> = place.list(Some(&key("nar"))).try_collect().await.unwrap();
    assert_eq!(nothing, []);
    let nothing: Vec<_> = place.list_shallow(Some(&key("nar"))).try_collect().await.unwrap();
    assert_eq!(nothing, []);
}

async fn what_was_put_is_read_back_whole_and_in_parts(place: &dyn Storage) {
    let bytes = random_bytes(1, 100_000);
    let at = key("nar/some.nar");
    let before = jiff::Timestamp::from_second(1_600_000_000).unwrap();
    place.put(&at, Bytes::from(bytes.clone())).await.unwrap();
    let object = place.stat(&at).await.unwrap().unwrap();
    assert_eq!(object.size, 100_000);
    assert!(object.modified > before, "{}", object.modified);
    assert_eq!(place.get(&at, 100_000).await.unwrap().unwrap(), bytes);
    assert_eq!(contents(place, &at).await.unwrap(), bytes);
    for range in [0..1, 0..99_999, 99_999..100_000, 12_345..67_890, 5..5, 100_000..100_000] {
        assert_eq!(part(place, &at, range.clone()).await.unwrap(), slice(&bytes, range));
    }
    place.put(&key("empty"), Bytes::new()).await.unwrap();
    assert_eq!(contents(place, &key("empty")).await.unwrap(), b"");
    assert_eq!(place.get(&key("empty"), 0).await.unwrap().unwrap(), b"".as_slice());
}

async fn what_is_put_again_takes_the_place_of_what_was(place: &dyn Storage) {
    let at = key("x.narinfo");
    for text in ["long, at first", "short", "", "long again, by now"] {
        place.put(&at, Bytes::from(text)).await.unwrap();
        assert_eq!(place.get(&at, 100).await.unwrap().unwrap(), text.as_bytes());
    }
    let draft = drafted(place, b"by a draft", 3).await;
    draft.publish(&at).await.unwrap();
    assert_eq!(contents(place, &at).await.unwrap(), b"by a draft");
    assert_eq!(all_keys(place).await, ["x.narinfo"]);
}

async fn a_draft_is_seen_by_nobody_until_it_is_published(place: &dyn Storage) {
    let at = key("nar/x.nar");
    let draft = drafted(place, &random_bytes(2, 300_000), 70_000).await;
    assert_eq!(place.stat(&at).await.unwrap(), None);
    assert_eq!(all_keys(place).await, [""; 0]);
    draft.publish(&at).await.unwrap();
    assert_eq!(all_keys(place).await, ["nar/x.nar"]);
    assert_eq!(contents(place, &at).await.unwrap(), random_bytes(2, 300_000));
}

/// More than fits into memory and into one part.
async fn a_large_object_comes_back_as_it_was_sent(place: &dyn Storage) {
    let bytes = random_bytes(3, 20_000_001);
    let at = key("nar/large.nar");
    drafted(place, &bytes, 1_000_003).await.publish(&at).await.unwrap();
    assert_eq!(place.stat(&at).await.unwrap().unwrap().size, 20_000_001);
    assert!(contents(place, &at).await.unwrap() == bytes);
    let middle = 9_999_990..15_000_010;
    assert!(part(place, &at, middle.clone()).await.unwrap() == slice(&bytes, middle));
}

async fn a_dropped_draft_leaves_nothing_that_anybody_sees(place: &dyn Storage) {
    drop(drafted(place, &random_bytes(4, 9_000_000), 500_000).await);
    drop(place.draft().await.unwrap());
    assert_eq!(all_keys(place).await, [""; 0]);
}

async fn a_range_beyond_the_end_is_an_error_and_never_fewer_bytes(place: &dyn Storage) {
    let at = key("nar/x.nar");
    place.put(&at, Bytes::from(random_bytes(5, 1000))).await.unwrap();
    for range in [0..1001, 999..1001, 1000..1001, 5000..6000, 1001..1001] {
        let read = part(place, &at, range.clone()).await;
        assert!(read.is_err(), "{range:?}: {read:?}");
    }
}

async fn what_is_too_large_to_be_small_is_an_error(place: &dyn Storage) {
    let at = key("x.narinfo");
    place.put(&at, Bytes::from(random_bytes(6, 1001))).await.unwrap();
    assert!(place.get(&at, 1000).await.is_err());
    assert_eq!(place.get(&at, 1001).await.unwrap().unwrap().len(), 1001);
}

async fn what_was_removed_is_gone_and_may_be_removed_again(place: &dyn Storage) {
    let (one, other) = (key("nar/one"), key("nar/other"));
    for at in [&one, &other] {
        place.put(at, Bytes::from_static(b"x")).await.unwrap();
    }
    for _ in 0..2 {
        place.delete(&one).await.unwrap();
        assert_eq!(place.stat(&one).await.unwrap(), None);
        assert_eq!(place.get(&one, 10).await.unwrap(), None);
        assert_eq!(all_keys(place).await, ["nar/other"]);
    }
}

async fn every_name_that_a_cache_has_is_kept(place: &dyn Storage) {
    let hash = "0".repeat(64);
    let names = [
        "nix-cache-info".to_owned(),
        "0123456789abcdfghijklmnpqrsvwxyz.narinfo".to_owned(),
        "log/0123456789abcdfghijklmnpqrsvwxyz-a+b_c?d=e.1.drv".to_owned(),
        format!("realisations/sha256:{hash}!out.doi"),
        "build-trace-v2/0123456789abcdfghijklmnpqrsvwxyz-x.drv/out.doi".to_owned(),
        "odd/100%/%2F%20/a#b?c&d=e'\"(){}[]<>|;:@,~*$^`".to_owned(),
        ".larder/leases/a-1.json".to_owned(),
    ];
    for name in &names {
        place.put(&key(name), Bytes::from(name.clone())).await.unwrap();
    }
    for name in &names {
        let found = place.get(&key(name), 1000).await.unwrap();
        assert_eq!(found.unwrap(), name.as_bytes(), "{name}");
    }
    let mut seen: Vec<&String> = names.iter().filter(|name| !name.starts_with('.')).collect();
    seen.sort();
    assert_eq!(all_keys(place).await.iter().collect::<Vec<_>>(), seen);
}

async fn a_listing_is_complete_and_leaves_out_what_is_ours(place: &dyn Storage) {
    // More than a page of S3's, and than a batch of any other place's.
    let names: BTreeSet<String> = (0..1300)
        .map(|n| match n % 3 {
            0 => format!("{n}.narinfo"),
            1 => format!("nar/{n}.nar"),
            _ => format!("deep/{}/er/{n}", n % 7),
        })
        .collect();
    let ours = [".larder/pins/a.json", ".larder/drafts/b"].map(str::to_owned);
    let puts = names.iter().chain(&ours).map(|name| async move {
        place.put(&key(name), Bytes::from(name.clone())).await.unwrap();
    });
    futures::stream::iter(puts).buffer_unordered(32).count().await;
    assert_eq!(all_keys(place).await.into_iter().collect::<BTreeSet<_>>(), names);
    for (folder, expected) in [("nar", 433), ("deep/3", 62), (".larder", 2), ("de", 0)] {
        let folder = key(folder);
        let entries: Vec<_> = place.list(Some(&folder)).try_collect().await.unwrap();
        assert_eq!(entries.len(), expected, "{folder}");
        for entry in entries {
            assert!(entry.key.is_below(folder.as_str()), "{}", entry.key);
            assert_eq!(entry.object.size, entry.key.as_str().len() as u64);
        }
    }
}

async fn a_shallow_listing_does_not_go_down(place: &dyn Storage) {
    for name in ["top", "nar/one", "nar/two", "nar/deep/three", ".larder/pins/four"] {
        place.put(&key(name), Bytes::from_static(b"x")).await.unwrap();
    }
    let listed = async |folder: Option<&Key>| {
        let entries: Vec<_> = place.list_shallow(folder).try_collect().await.unwrap();
        let mut keys: Vec<_> = entries.iter().map(|entry| entry.key.to_string()).collect();
        keys.sort();
        keys
    };
    assert_eq!(listed(None).await, ["top"]);
    assert_eq!(listed(Some(&key("nar"))).await, ["nar/one", "nar/two"]);
    assert_eq!(listed(Some(&key(".larder"))).await, [""; 0]);
    assert_eq!(listed(Some(&key(".larder/pins"))).await, [".larder/pins/four"]);
}

async fn a_reader_sees_one_of_several_writers_and_never_a_mixture(place: &dyn Storage) {
    let at = key("x.narinfo");
    let texts: Vec<Vec<u8>> = (0..4).map(|n| vec![b'a' + n; 5_000 * usize::from(n + 1)]).collect();
    place.put(&at, Bytes::from(texts[0].clone())).await.unwrap();
    let write = |text: &Vec<u8>| {
        let text = Bytes::from(text.clone());
        let at = &at;
        async move {
            for _ in 0..10 {
                place.put(at, text.clone()).await.unwrap();
            }
        }
    };
    let writers = join_all(texts.iter().map(write));
    let reader = async {
        for _ in 0..30 {
            let seen = place.get(&at, 100_000).await.unwrap().expect("it is always there");
            assert!(texts.iter().any(|text| seen == text), "{} bytes", seen.len());
        }
    };
    futures::join!(writers, reader);
    assert_eq!(all_keys(place).await, ["x.narinfo"]);
}

async fn many_things_at_once_do_not_get_in_each_others_way(place: &dyn Storage) {
    let work = (0..40).map(|n| async move {
        let at = key(&format!("nar/{n}.nar"));
        let bytes = random_bytes(n, 150_000);
        drafted(place, &bytes, 40_000).await.publish(&at).await.unwrap();
        assert!(contents(place, &at).await.unwrap() == bytes);
    });
    join_all(work).await;
    assert_eq!(all_keys(place).await.len(), 40);
}

/// The bytes of a range, or the first failure on the way.
async fn part(
    place: &dyn Storage,
    at: &Key,
    range: Range<u64>,
) -> Result<Vec<u8>, Arc<dyn std::error::Error>> {
    let stream = place.read(at, range).await.map_err(|error| Arc::new(error) as Arc<_>)?;
    let stream = stream.expect("it is there");
    let chunks: Vec<Bytes> =
        stream.try_collect().await.map_err(|error| Arc::new(error) as Arc<_>)?;
    Ok(chunks.concat())
}

fn slice(bytes: &[u8], range: Range<u64>) -> &[u8] {
    &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}
