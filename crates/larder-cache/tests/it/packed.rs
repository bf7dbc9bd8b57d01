//! Packed NARs: always the same bytes, and no wait without an end. What they are like over HTTP is tested there.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, future::join_all};
use larder_cache::{
    cache::{ByteStream, CacheError, NarIdentity},
    packed::{Coming, PackedError, PackedNar, PackedNars, Settings, Unpacked},
};
use larder_formats::store_path::StorePath;
use larder_testkit::{scratch::scratch, tree::random_bytes};
use tokio::sync::Semaphore;

use crate::source::{Pace, Source};

const ENDLESS: usize = Semaphore::MAX_PERMITS;

fn path(number: u8) -> StorePath {
    format!("{}-p{number}", char::from(b'0' + number).to_string().repeat(32)).parse().unwrap()
}

/// Paths with contents of which some repeats, near and far.
fn source(paths: u8) -> Source {
    let contents = |number: u8| {
        let random = random_bytes(number.into(), 150_000);
        let text = b"what compresses well ".repeat(5000);
        [&random[..], &text, &random[40_000..90_000], &text, &random].concat()
    };
    Source::new((0..paths).map(|number| (path(number), contents(number), Vec::new())))
}

/// A path of some MiB that do not get smaller.
fn large() -> Source {
    Source::new([(path(0), random_bytes(1, 4_000_000), Vec::new())])
}

fn unpacked(source: &Source, number: u8) -> Unpacked {
    let info = source.info(path(number).hash());
    let nar = NarIdentity { path: path(number).hash(), nar_hash: info.nar_hash };
    Unpacked { cache: Arc::new(source.clone()), nar, size: info.nar_size }
}

fn nars(folder: Option<&Path>, at_once: usize) -> PackedNars {
    let keep = folder.map(|folder| (folder.to_owned(), 100_000_000));
    PackedNars::new(Settings { keep, level: 3, at_once })
}

async fn coming(nars: &PackedNars, unpacked: Unpacked) -> Coming {
    match nars.nar(unpacked, nars.recipe()).await {
        Some(PackedNar::Coming(coming)) => coming,
        Some(PackedNar::Whole(_)) => panic!("it is there already"),
        None => panic!("it is packed as it is now"),
    }
}

async fn all(stream: ByteStream) -> Result<Vec<u8>, CacheError> {
    stream.try_fold(Vec::new(), async |all, chunk| Ok([&all[..], &chunk].concat())).await
}

async fn files(folder: &Path, number: usize) {
    let began = Instant::now();
    while fs::read_dir(folder).unwrap().count() != number {
        assert!(began.elapsed() < Duration::from_secs(60), "{number} files should be there");
        // Not by the clock of these tests, which stands still.
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(5))).await.unwrap();
    }
}

#[tokio::test]
async fn the_bytes_do_not_show_how_the_nar_came() {
    let source = source(1);
    for level in [1, 3, 9, 19] {
        let nars = PackedNars::new(Settings { keep: None, level, at_once: 1 });
        let mut first = None;
        for chunk in [262_144, 100_000, 65_536, 7777, 997] {
            let allowed = Arc::new(Semaphore::new(ENDLESS));
            let nar = unpacked(&source.at(Pace { chunk, allowed }), 0);
            let packed = all(coming(&nars, nar).await.stream().await.unwrap()).await.unwrap();
            assert!(*first.get_or_insert(packed.clone()) == packed, "{level}, {chunk}");
        }
    }
}

#[tokio::test]
async fn a_reader_follows_what_is_packed_and_others_begin_where_they_are() {
    let (folder, source) = (scratch("packed"), source(1));
    let (kept, alone) = (nars(Some(folder.path()), 1), nars(None, 1));
    let whole = coming(&alone, unpacked(&source, 0)).await.stream().await.unwrap();
    let whole = all(whole).await.unwrap();
    let allowed = Arc::new(Semaphore::new(6));
    let nar = unpacked(&source.at(Pace { chunk: 65_536, allowed: Arc::clone(&allowed) }), 0);
    let mut first = coming(&kept, nar.clone()).await.stream().await.unwrap();
    let begun = first.next().await.unwrap().unwrap();
    assert!(whole.starts_with(&begun) && begun.len() < whole.len(), "before it is whole");
    let second = coming(&kept, nar.clone()).await.stream().await.unwrap();
    let third = tokio::spawn(coming(&kept, nar).await.whole());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name yet");
    allowed.add_permits(1000);
    assert!([&begun, &all(first).await.unwrap()[..]].concat() == whole);
    assert!(all(second).await.unwrap() == whole);
    let third = third.await.unwrap().unwrap();
    assert_eq!(third.size, whole.len() as u64);
    assert!(all((third.contents)(1000..100_000)).await.unwrap() == whole[1000..100_000]);
    files(folder.path(), 1).await;
}

#[tokio::test]
async fn a_reader_of_a_file_that_fails_gets_the_same_bytes_in_another_way() {
    let (folder, source) = (scratch("packed"), large());
    let (kept, alone) = (nars(Some(folder.path()), 1), nars(None, 1));
    let whole = coming(&alone, unpacked(&source, 0)).await.stream().await.unwrap();
    let whole = all(whole).await.unwrap();
    let allowed = Arc::new(Semaphore::new(30));
    let nar = unpacked(&source.at(Pace { chunk: 65_536, allowed: Arc::clone(&allowed) }), 0);
    let mut reader = coming(&kept, nar).await.stream().await.unwrap();
    while allowed.available_permits() > 0 {
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(5))).await.unwrap();
    }
    let begun = reader.next().await.unwrap().unwrap();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let link = entry.unwrap().path();
        if fs::read_link(&link).is_ok_and(|file| file.starts_with(folder.path())) {
            fs::OpenOptions::new().write(true).open(link).unwrap().set_len(0).unwrap();
        }
    }
    // It sees that before anybody writes on.
    let rest = tokio::spawn(all(reader));
    tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(300))).await.unwrap();
    allowed.add_permits(ENDLESS / 2);
    let rest = rest.await.unwrap().unwrap();
    assert!([&begun, &rest[..]].concat() == whole);
}

#[tokio::test]
async fn a_part_of_what_is_not_kept_is_the_same_bytes() {
    let (source, nars) = (source(1), nars(None, 1));
    let whole = coming(&nars, unpacked(&source, 0)).await.stream().await.unwrap();
    let whole = all(whole).await.unwrap();
    let size = whole.len() as u64;
    for range in [0..size, 1..size, 70_000..150_001, size - 1..size] {
        let stored = coming(&nars, unpacked(&source, 0)).await.whole().await.unwrap();
        assert_eq!(stored.size, size);
        let bounds = range.start as usize..range.end as usize;
        assert!(all((stored.contents)(range)).await.unwrap() == whole[bounds]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_nar_that_stands_still_keeps_nobody_for_ever() {
    let folder = scratch("packed");
    let nars = nars(Some(folder.path()), 1);
    let source = source(1).at(Pace { chunk: 65_536, allowed: Arc::new(Semaphore::new(4)) });
    let following = coming(&nars, unpacked(&source, 0)).await.stream().await.unwrap();
    let error = all(following).await.unwrap_err().to_string();
    assert!(error.contains("nothing came for too long"), "{error}");
    let whole = coming(&nars, unpacked(&source, 0)).await.whole().await;
    assert!(matches!(whole, Err(PackedError::Busy)));
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_waits_for_a_bounded_time() {
    let folder = scratch("packed");
    let (nars, others) = (nars(Some(folder.path()), 1), source(3));
    let stuck = source(1).at(Pace { chunk: 65_536, allowed: Arc::new(Semaphore::new(0)) });
    let held = coming(&nars, unpacked(&stuck, 0)).await;
    // The only turn is taken, so the others pack for themselves.
    let whole = coming(&nars, unpacked(&others, 1)).await.stream().await.unwrap();
    assert!(all(whole).await.unwrap().len() > 100_000);
    let readers = join_all(
        (0..16)
            .map(|_| async { coming(&nars, unpacked(&others, 2)).await.stream().await.unwrap() }),
    )
    .await;
    let one_more = coming(&nars, unpacked(&others, 1)).await.stream().await;
    assert!(matches!(one_more, Err(PackedError::Busy)));
    drop(readers);
    assert!(coming(&nars, unpacked(&others, 1)).await.stream().await.is_ok());
    drop(held);
}

#[tokio::test]
async fn what_everybody_left_before_it_was_begun_is_not_packed() {
    let (folder, others) = (scratch("packed"), source(3));
    let nars = nars(Some(folder.path()), 1);
    let allowed = Arc::new(Semaphore::new(0));
    let slow = others.at(Pace { chunk: 65_536, allowed: Arc::clone(&allowed) });
    let first = coming(&nars, unpacked(&slow, 0)).await;
    // Ours, its pace's twice, and one of the NAR that comes.
    while Arc::strong_count(&allowed) < 4 {
        tokio::task::yield_now().await;
    }
    drop(coming(&nars, unpacked(&others, 1)).await);
    let third = coming(&nars, unpacked(&others, 2)).await;
    allowed.add_permits(ENDLESS);
    let (first, third) = tokio::join!(first.whole(), third.whole());
    assert!(first.is_ok() && third.is_ok());
    files(folder.path(), 2).await;
    let second = coming(&nars, unpacked(&others, 1)).await.stream().await.unwrap();
    assert!(all(second).await.is_ok(), "it is packed for who comes again");
    files(folder.path(), 3).await;
}
