//! The index: says what is in a cache, reads only what is new, and can be thrown away at any time.

use std::{fs, path::Path};

use bytes::Bytes;
use jiff::SignedDuration;
use larder_cache::{
    gc::{
        index::{Index, IndexError, Refreshed},
        snapshot::{ObjectKind, Snapshot},
    },
    storage::{Storage, StorageErrorKind},
};
use larder_formats::{
    hash::Sha256,
    nar_file::NarFile,
    narinfo::{Compression, NarInfo},
    store_path::StoreDir,
};
use larder_testkit::scratch::scratch;

use super::{hash, nar, path};
use crate::{
    clock::Hand,
    faulty::{Asked, Fate, Faulty},
    memory::Memory,
    storage::key,
};

/// The narinfo of a path, whose NAR's file has 100 bytes.
pub(crate) fn narinfo(number: usize, file: NarFile, references: &[usize]) -> String {
    let info = NarInfo {
        store_path: path(number),
        url: file.url(),
        compression: Compression::Zstd,
        file_hash: Some(file.hash),
        file_size: Some(100),
        nar_hash: Sha256::of(b"nar"),
        nar_size: 200,
        references: references.iter().map(|number| path(*number)).collect(),
        deriver: Some("00000000000000000000000000000000-x.drv".parse().unwrap()),
        signatures: [].into(),
        ca: None,
    };
    info.to_text(&StoreDir::default())
}

pub(crate) async fn put(place: &dyn Storage, at: &str, bytes: impl Into<Vec<u8>>) {
    place.put(&key(at), Bytes::from(bytes.into())).await.unwrap();
}

/// A path with a NAR of its own.
pub(crate) async fn put_path(place: &dyn Storage, number: usize, references: &[usize]) {
    put(place, &nar(number).url(), vec![7; 100]).await;
    let text = narinfo(number, nar(number), references);
    put(place, &format!("{}.narinfo", hash(number)), text).await;
}

fn open(file: &Path) -> Result<Index, IndexError> {
    Index::open(file, "memory:", &StoreDir::default())
}

async fn refreshed(index: &Index, place: &Memory, hand: &Hand) -> (Refreshed, Snapshot) {
    index.refresh(place, hand.now(), 8).await.unwrap()
}

/// What a snapshot says, in an order of its own.
fn told(snapshot: &Snapshot) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (position, entry) in snapshot.paths().iter().enumerate() {
        let mut references: Vec<String> =
            snapshot.references(position).map(|to| snapshot.paths()[to].hash.to_string()).collect();
        references.sort();
        lines.push(format!("{entry:?} {references:?}"));
    }
    lines.extend(snapshot.nars().iter().map(|it| format!("{it:?}")));
    lines.extend(snapshot.objects().iter().map(|it| format!("{it:?}")));
    lines.sort();
    lines.join("\n")
}

async fn sample(hand: &Hand) -> Memory {
    let place = Memory::new(hand.clock());
    put(&place, "nix-cache-info", "StoreDir: /nix/store\n").await;
    put_path(&place, 1, &[]).await;
    put_path(&place, 2, &[1, 2]).await;
    put_path(&place, 3, &[2, 77]).await;
    place
}

#[tokio::test]
async fn a_snapshot_says_what_is_there() {
    let hand = Hand::new();
    let place = sample(&hand).await;
    for (at, text) in [
        (format!("{}.ls", hash(1)), "{}"),
        ("log/00000000000000000000000000000001-x.drv".to_owned(), "built"),
        ("debuginfo/00".to_owned(), &format!("{{\"archive\":\"../{}\"}}", nar(1).url())),
        ("realisations/sha256:00!out.doi".to_owned(), &format!("{{\"outPath\":\"{}\"}}", path(1))),
        ("realisations/sha256:01!out.doi".to_owned(), "nonsense"),
        (format!(".larder/staged/{}.json", nar(9)), "{}"),
        (".larder/drafts/draft-x".to_owned(), ""),
        (".larder/pins/x.json".to_owned(), "{}"),
        ("index.html".to_owned(), "<p>hello</p>"),
        ("nar/README".to_owned(), "hello"),
    ] {
        put(&place, &at, text).await;
    }
    let index = Index::in_memory(&StoreDir::default()).unwrap();
    let (_, snapshot) = refreshed(&index, &place, &hand).await;
    assert_eq!((snapshot.paths().len(), snapshot.nars().len()), (3, 3));
    let two = snapshot.position(&hash(2)).unwrap();
    let entry = &snapshot.paths()[two];
    assert_eq!((entry.path.as_ref(), entry.nar), (Some(&path(2)), Some(nar(2))));
    assert_eq!((entry.written, entry.deriver.is_some()), (hand.now(), true));
    // Itself is no reference, and neither is what is not there.
    let references: Vec<usize> = snapshot.references(two).collect();
    assert_eq!(references, [snapshot.position(&hash(1)).unwrap()]);
    assert_eq!(snapshot.references(snapshot.position(&hash(3)).unwrap()).count(), 1);
    assert_eq!(snapshot.nar(&nar(2)).unwrap().size, 100);
    let mut kinds: Vec<(String, ObjectKind)> =
        snapshot.objects().iter().map(|it| (it.key.to_string(), it.kind)).collect();
    kinds.sort_by(|one, other| one.0.cmp(&other.0));
    let derivation = "00000000000000000000000000000001".parse().unwrap();
    let expected = [
        (".larder/drafts/draft-x", ObjectKind::Draft),
        (&format!(".larder/staged/{}.json", nar(9)), ObjectKind::Staged(nar(9))),
        (&format!("{}.ls", hash(1)), ObjectKind::Listing(hash(1))),
        ("debuginfo/00", ObjectKind::Debuginfo(Some(nar(1)))),
        ("index.html", ObjectKind::Foreign),
        ("log/00000000000000000000000000000001-x.drv", ObjectKind::Log(derivation)),
        ("nar/README", ObjectKind::Foreign),
        ("realisations/sha256:00!out.doi", ObjectKind::Realisation(Some(hash(1)))),
        ("realisations/sha256:01!out.doi", ObjectKind::Realisation(None)),
    ];
    let mut expected = expected.map(|(key, kind)| (key.to_owned(), kind));
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn only_what_is_new_or_has_changed_is_read_again() {
    let hand = Hand::new();
    let place = sample(&hand).await;
    let index = Index::in_memory(&StoreDir::default()).unwrap();
    // What was just written may be written again within the clock's tick, so it is read twice.
    assert_eq!(refreshed(&index, &place, &hand).await.0.read, 3);
    assert_eq!(refreshed(&index, &place, &hand).await.0.read, 3);
    hand.turn(SignedDuration::from_mins(10));
    assert_eq!(refreshed(&index, &place, &hand).await.0.read, 3);
    assert_eq!(refreshed(&index, &place, &hand).await.0.read, 0);
    put_path(&place, 2, &[]).await;
    put_path(&place, 4, &[]).await;
    place.delete(&key(&format!("{}.narinfo", hash(1)))).await.unwrap();
    let (done, snapshot) = refreshed(&index, &place, &hand).await;
    assert_eq!(done, Refreshed { listed: 8, read: 2, gone: 1 });
    assert_eq!(snapshot.references(snapshot.position(&hash(2)).unwrap()).count(), 0);
    assert!(snapshot.position(&hash(1)).is_none() && snapshot.nar(&nar(1)).is_some());
}

#[tokio::test]
async fn an_index_that_was_thrown_away_or_damaged_is_made_again() {
    let (hand, folder) = (Hand::new(), scratch("index"));
    let place = sample(&hand).await;
    let file = folder.path().join("deep/er/main.sqlite");
    put(&place, "realisations/sha256:00!out.doi", format!("{{\"outPath\":\"{}\"}}", path(1))).await;
    hand.turn(SignedDuration::from_mins(10));
    let first = {
        let index = open(&file).unwrap();
        told(&refreshed(&index, &place, &hand).await.1)
    };
    // Kept between two collections.
    let (done, again) = refreshed(&open(&file).unwrap(), &place, &hand).await;
    assert_eq!((done.read, told(&again)), (0, first.clone()));
    let damage: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&file).unwrap(),
        &|| fs::write(&file, "not a database, but long enough to be looked at").unwrap(),
        &|| fs::write(&file, "").unwrap(),
        &|| {
            let mut bytes = fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle..].fill(0xff);
            fs::write(&file, bytes).unwrap();
        },
    ];
    for break_it in damage {
        break_it();
        let index = open(&file).unwrap();
        let (done, again) = refreshed(&index, &place, &hand).await;
        assert_eq!((done.read, told(&again)), (4, first.clone()));
    }
    let another = Index::open(&file, "s3://another", &StoreDir::default()).unwrap();
    let (done, again) = refreshed(&another, &place, &hand).await;
    assert_eq!((done.read, told(&again)), (4, first));
}

/// What a row says is looked at when it is opened, and nothing is guessed.
#[tokio::test]
async fn an_index_with_a_row_that_was_never_written_is_made_again() {
    let (hand, folder) = (Hand::new(), scratch("index"));
    let place = sample(&hand).await;
    put(&place, "debuginfo/00", format!("{{\"archive\":\"../{}\"}}", nar(1).url())).await;
    hand.turn(SignedDuration::from_mins(10));
    let file = folder.path().join("main.sqlite");
    let first = told(&refreshed(&open(&file).unwrap(), &place, &hand).await.1);
    for damage in [
        "UPDATE paths SET refs = x'00' WHERE id = 2",
        "UPDATE paths SET nar = 'nothing' WHERE id = 2",
        "UPDATE paths SET nar = CAST(x'ff' AS TEXT) WHERE id = 2",
        "UPDATE paths SET problem = CAST(x'ff' AS TEXT) WHERE id = 2",
        "UPDATE paths SET path = 'nothing' WHERE id = 2",
        "UPDATE paths SET deriver = x'00' WHERE id = 2",
        "UPDATE paths SET modified = 9223372036854775807 WHERE id = 2",
        "UPDATE objects SET kind = 'nothing'",
        "UPDATE objects SET target = 'nothing'",
        "INSERT INTO paths (hash, size, modified, settled, refs)
         SELECT hash, size, modified, settled, refs FROM paths WHERE id = 1",
        "ALTER TABLE objects RENAME COLUMN target TO other",
        "DROP TABLE about",
    ] {
        rusqlite::Connection::open(&file).unwrap().execute_batch(damage).unwrap();
        let (done, again) = refreshed(&open(&file).unwrap(), &place, &hand).await;
        assert_eq!((done.read, told(&again)), (4, first.clone()), "{damage}");
    }
}

#[tokio::test]
async fn an_index_that_cannot_be_opened_now_is_kept() {
    let (hand, folder) = (Hand::new(), scratch("index"));
    let place = sample(&hand).await;
    hand.turn(SignedDuration::from_mins(10));
    let file = folder.path().join("main.sqlite");
    refreshed(&open(&file).unwrap(), &place, &hand).await;
    let in_the_way = folder.path().join("main.sqlite-wal");
    fs::create_dir(&in_the_way).unwrap();
    let error = open(&file).unwrap_err();
    assert!(matches!(error, IndexError::Sqlite { .. }), "{error}");
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(refreshed(&open(&file).unwrap(), &place, &hand).await.0.read, 0);
}

#[tokio::test]
async fn what_is_listed_twice_is_one() {
    let (hand, folder) = (Hand::new(), scratch("index"));
    let place = sample(&hand).await;
    put(&place, "debuginfo/00", format!("{{\"archive\":\"../{}\"}}", nar(1).url())).await;
    hand.turn(SignedDuration::from_mins(10));
    let index = Index::in_memory(&StoreDir::default()).unwrap();
    let expected = told(&refreshed(&index, &place, &hand).await.1);
    let stuttering = Faulty::new(place.clone());
    stuttering.listing(Fate::Twice);
    let file = folder.path().join("main.sqlite");
    let index = open(&file).unwrap();
    let (done, snapshot) = index.refresh(&stuttering, hand.now(), 8).await.unwrap();
    assert_eq!((done.read, told(&snapshot)), (4, expected));
    place.delete(&key(&format!("{}.narinfo", hash(1)))).await.unwrap();
    place.delete(&key("debuginfo/00")).await.unwrap();
    let (done, snapshot) = refreshed(&index, &place, &hand).await;
    assert_eq!((done.gone, snapshot.position(&hash(1))), (2, None));
    assert_eq!(snapshot.objects(), []);
}

/// Nothing depends on them, so they stay for as long as that is so, and stop nobody.
#[tokio::test]
async fn what_is_no_narinfo_and_cannot_be_read_is_about_nothing_that_is_known() {
    let hand = Hand::new();
    let memory = sample(&hand).await;
    put(&memory, "debuginfo/00", format!("{{\"archive\":\"../{}\"}}", nar(1).url())).await;
    put(&memory, "realisations/sha256:00!out.doi", vec![b'x'; 5 << 20]).await;
    hand.turn(SignedDuration::from_mins(10));
    let place = Faulty::new(memory.clone());
    let failing = |part: &'static str, kind| {
        place.obey(move |asked, key| match (asked, key) {
            (Asked::Get, Some(key)) if key.as_str().contains(part) => Fate::Fails(kind),
            _ => Fate::Done,
        });
    };
    let index = Index::in_memory(&StoreDir::default()).unwrap();
    let refresh = async || index.refresh(&place, hand.now(), 8).await;
    let kinds =
        |snapshot: &Snapshot| snapshot.objects().iter().map(|it| it.kind).collect::<Vec<_>>();

    failing("debuginfo", StorageErrorKind::Denied);
    let (_, snapshot) = refresh().await.unwrap();
    assert_eq!(kinds(&snapshot), [ObjectKind::Debuginfo(None), ObjectKind::Realisation(None)]);
    // It is asked for again.
    place.heal();
    let (done, snapshot) = refresh().await.unwrap();
    assert_eq!(done.read, 1);
    assert_eq!(
        kinds(&snapshot),
        [ObjectKind::Debuginfo(Some(nar(1))), ObjectKind::Realisation(None)]
    );
    // A place that does not answer, and a narinfo that cannot be read, are another matter.
    for (part, kind) in
        [("debuginfo", StorageErrorKind::Transient), (".narinfo", StorageErrorKind::Denied)]
    {
        failing(part, kind);
        put_path(&memory, 1, &[]).await;
        put(&memory, "debuginfo/00", "{}").await;
        assert!(refresh().await.is_err(), "{part}");
    }
}

#[test]
fn two_collections_do_not_use_one_index() {
    let folder = scratch("index");
    let file = folder.path().join("main.sqlite");
    let first = open(&file).unwrap();
    let error = open(&file).unwrap_err();
    assert!(matches!(error, IndexError::InUse(_)), "{error}");
    drop(first);
    open(&file).unwrap();
}

#[tokio::test]
async fn what_a_broken_narinfo_refers_to_is_not_taken_from_under_it() {
    let hand = Hand::new();
    let place = sample(&hand).await;
    let about_another = narinfo(3, nar(3), &[1]);
    put(&place, &format!("{}.narinfo", hash(4)), about_another).await;
    let cut = narinfo(5, nar(5), &[2]);
    let cut = cut.replace("NarSize: 200\n", "");
    put(&place, &format!("{}.narinfo", hash(5)), cut).await;
    let index = Index::in_memory(&StoreDir::default()).unwrap();
    let (_, snapshot) = refreshed(&index, &place, &hand).await;
    for (number, to, file) in [(4, 1, 3), (5, 2, 5)] {
        let position = snapshot.position(&hash(number)).unwrap();
        let references: Vec<usize> = snapshot.references(position).collect();
        assert_eq!(references, [snapshot.position(&hash(to)).unwrap()]);
        assert_eq!(snapshot.paths()[position].nar, Some(nar(file)));
        assert_eq!(snapshot.paths()[position].path, None);
    }
    let known = index.known_paths(None).await.unwrap();
    assert_eq!(known.iter().filter(|it| it.problem.is_some()).count(), 2);
    let next = index.known_paths(Some(known[0].place)).await.unwrap();
    assert_eq!(next, known[1..]);
}
