//! Taking a NAR's file in: only what its name and its compression say it is, within the limits, and nothing of
//! it is left otherwise.

use std::io;

use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_cache::{
    compression::Packing,
    source::object_storage::{Limits, StageError, Staged},
};
use larder_formats::{
    hash::Sha256,
    nar_file::{NarFile, Suffix},
    narinfo::Compression,
};
use larder_testkit::tree::random_bytes;

use super::{empty, has, incoming, named, ours, upload};
use crate::{
    faulty::{Asked, Fate, Faulty},
    source::{cache_info, nar_of},
    storage::all_keys,
};

const LIMITS: Limits = Limits { file_size: 4_000_000, nar_size: 8_000_000 };

#[tokio::test]
async fn what_is_what_it_says_is_taken_in_whatever_its_compression() {
    for packing in [Packing::None, Packing::Zstd(3), Packing::Xz(1)] {
        let (place, cache) = empty();
        let it = upload(1, &random_bytes(1, 1_000_000), packing, &[]).await;
        let staged = cache.stage(it.file, incoming(&it.bytes), LIMITS).await.unwrap();
        let expected = Staged {
            compression: packing.compression(),
            file_size: it.bytes.len() as u64,
            nar_hash: it.info.nar_hash,
            nar_size: it.info.nar_size,
        };
        assert_eq!(staged, expected);
        assert!(has(&place, &it.file.url()));
        // Known at another server as well, and found out again where the record is lost.
        assert_eq!(cache.staged(it.file, LIMITS).await.unwrap(), Some(expected.clone()));
        crate::gc::forget(&place, ".larder/staged").await;
        assert_eq!(cache.staged(it.file, LIMITS).await.unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn compressions_that_only_others_write_are_read() {
    let nar = nar_of(b"contents");
    for (compression, packed) in [
        (Compression::Bzip2, piped("bzip2", &[], &nar)),
        (Compression::Gzip, piped("gzip", &["-n"], &nar)),
        (Compression::Xz, piped("xz", &["-9", "--extreme"], &nar)),
    ] {
        let (_, cache) = empty();
        let it = named(1, &nar, packed, compression, &[]);
        let staged = cache.stage(it.file, incoming(&it.bytes), LIMITS).await.unwrap();
        assert_eq!((staged.compression, staged.nar_hash), (compression, it.info.nar_hash));
    }
}

#[tokio::test]
async fn a_file_of_several_streams_is_read_to_its_end() {
    let nar = nar_of(&random_bytes(2, 100_000));
    let halves = nar.split_at(50_000);
    let bytes = [piped("xz", &[], halves.0), piped("xz", &[], halves.1)].concat();
    let (_, cache) = empty();
    let it = named(1, &nar, bytes, Compression::Xz, &[]);
    let staged = cache.stage(it.file, incoming(&it.bytes), LIMITS).await.unwrap();
    assert_eq!(staged.nar_size, nar.len() as u64);
}

#[tokio::test]
async fn a_lie_is_refused_and_leaves_nothing() {
    let honest = upload(1, &random_bytes(3, 100_000), Packing::Zstd(3), &[]).await;
    let other_hash = NarFile { hash: Sha256::of(b"other"), suffix: Suffix::Zst };
    let other_packing = NarFile { suffix: Suffix::Xz, ..honest.file };
    let not_packed = NarFile { suffix: Suffix::None, ..honest.file };
    let of = |bytes: &[u8], suffix| NarFile { hash: Sha256::of(bytes), suffix };
    let cut = honest.bytes[..honest.bytes.len() / 2].to_vec();
    let longer = [&honest.bytes[..], b"more"].concat();
    let (text, empty_file) = (b"not a NAR".to_vec(), Vec::new());
    let trailing = [nar_of(b"x"), vec![0; 8]].concat();
    let mut altered = honest.bytes.clone();
    altered[50_000] ^= 1;
    for (what, file, bytes) in [
        ("another hash", other_hash, &honest.bytes),
        ("another compression", other_packing, &honest.bytes),
        ("packed, but not said", not_packed, &honest.bytes),
        ("cut off", of(&cut, Suffix::Zst), &cut),
        ("something behind it", of(&longer, Suffix::Zst), &longer),
        ("no NAR", of(&text, Suffix::None), &text),
        ("nothing", of(&empty_file, Suffix::None), &empty_file),
        ("something behind the NAR", of(&trailing, Suffix::None), &trailing),
        ("altered", of(&altered, Suffix::Zst), &altered),
        ("not to be unpacked here", of(&text, Suffix::Lzip), &text),
    ] {
        let (place, cache) = empty();
        let refused = cache.stage(file, incoming(bytes), LIMITS).await;
        assert!(refused.is_err(), "{what}: {refused:?}");
        assert_eq!((all_keys(&place).await.len(), ours(&place).await.len()), (0, 0), "{what}");
    }
}

#[tokio::test]
async fn a_bomb_is_refused_before_it_is_unpacked() {
    // Some kilobytes of zstd that would be a gigabyte.
    let large = nar_of(&vec![0; 100_000_000]);
    let bomb = piped("xz", &["-1"], &large);
    assert!(bomb.len() < 100_000);
    let (place, cache) = empty();
    let it = named(1, &large, bomb, Compression::Xz, &[]);
    let refused = cache.stage(it.file, incoming(&it.bytes), LIMITS).await.unwrap_err();
    let limit = LIMITS.nar_size;
    assert!(matches!(refused, StageError::TooLarge { what: "the NAR", limit: it } if it == limit));
    // A dictionary of more memory than is granted.
    let huge = piped("xz", &["--lzma2=preset=1,dict=1GiB"], &nar_of(b"small"));
    let it = named(1, &nar_of(b"small"), huge, Compression::Xz, &[]);
    let refused = cache.stage(it.file, incoming(&it.bytes), LIMITS).await.unwrap_err();
    assert!(matches!(refused, StageError::Packed { .. }), "{refused}");
    assert_eq!(all_keys(&place).await, [""; 0]);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read_to_its_end() {
    let (place, cache) = empty();
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![7; 100_000])));
    let file = NarFile { hash: Sha256::of(b"x"), suffix: Suffix::None };
    let refused = cache.stage(file, Box::pin(endless), LIMITS).await.unwrap_err();
    // It is no NAR either, and that is seen first.
    assert!(matches!(refused, StageError::NotANar(_) | StageError::TooLarge { .. }), "{refused}");
    let header = nar_of(&[0; 4_200_000]);
    let refused = cache.stage(file, incoming(&header), LIMITS).await.unwrap_err();
    assert!(matches!(refused, StageError::TooLarge { what: "the file", .. }), "{refused}");
    assert_eq!(all_keys(&place).await, [""; 0]);
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_nothing() {
    let (place, cache) = empty();
    let it = upload(1, &random_bytes(4, 500_000), Packing::None, &[]).await;
    let broken = incoming(&it.bytes[..200_000])
        .chain(stream::iter([Err(io::Error::from(io::ErrorKind::ConnectionReset))]));
    let refused = cache.stage(it.file, Box::pin(broken), LIMITS).await.unwrap_err();
    assert!(matches!(refused, StageError::BrokeOff(_)), "{refused}");
    // One that stands still, and whose request is given up.
    let stalled = incoming(&it.bytes[..200_000]).chain(stream::pending());
    let waiting = cache.stage(it.file, Box::pin(stalled), LIMITS);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), waiting).await;
    assert!(waited.is_err());
    assert_eq!((all_keys(&place).await.len(), ours(&place).await.len()), (0, 0));
}

#[tokio::test]
async fn a_place_that_fails_at_any_step_leaves_no_nar_that_was_not_checked() {
    let it = upload(1, &random_bytes(5, 300_000), Packing::Zstd(1), &[]).await;
    for (asked, kind) in [Asked::Draft, Asked::Write, Asked::Publish, Asked::Put]
        .into_iter()
        .zip([larder_cache::storage::StorageErrorKind::Full].into_iter().cycle())
    {
        let (place, _) = empty();
        let faulty = Faulty::new(place.clone());
        faulty.obey(move |what, _| if what == asked { Fate::Fails(kind) } else { Fate::Done });
        let cache = larder_cache::source::ObjectStorage::new(
            std::sync::Arc::new(faulty.clone()),
            cache_info(),
        );
        let refused = cache.stage(it.file, incoming(&it.bytes), LIMITS).await;
        assert!(matches!(refused, Err(StageError::Storage(_))), "{asked:?}: {refused:?}");
        // What is there by then is whole: only its record may be missing.
        if let Some(bytes) = place.peek(&crate::storage::key(&it.file.url())) {
            assert_eq!((asked, bytes == it.bytes), (Asked::Put, true));
        }
        faulty.heal();
        cache.stage(it.file, incoming(&it.bytes), LIMITS).await.unwrap();
    }
}

/// What a program makes of some bytes.
fn piped(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let program = larder_testkit::process::Program::new(program).arg("-c").args(arguments);
    program.stdin(bytes).run().success().stdout_bytes
}
