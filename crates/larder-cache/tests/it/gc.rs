//! Collection: what a plan takes and leaves, what the index knows, and what others do meanwhile.

mod apply;
mod buckets;
mod check;
mod damaged;
pub(crate) mod index;
mod interleaving;
mod plan;
mod repair;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use larder_cache::storage::Storage;
use larder_formats::{
    hash::Sha256,
    nar_file::{NarFile, Suffix},
    store_path::{StorePath, StorePathHash},
};

use proptest::prelude::ProptestConfig;

use crate::{memory::Memory, storage::key};

/// The hash part of the path with that number.
pub(crate) fn hash(number: usize) -> StorePathHash {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    StorePathHash::from_bytes(bytes)
}

/// The path with that number.
pub(crate) fn path(number: usize) -> StorePath {
    StorePath::new(hash(number), &format!("path-{number}")).unwrap()
}

/// A NAR's file with that number.
pub(crate) fn nar(number: usize) -> NarFile {
    NarFile { hash: Sha256::of(&number.to_le_bytes()), suffix: Suffix::Zst }
}

/// A time, in days after some day.
pub(crate) fn day(day: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + SignedDuration::from_hours(24 * day)
}

pub(crate) fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// So many cases of a property, unless somebody asks for another number.
#[expect(clippy::disallowed_methods, reason = "how a person asks for a soak, as proptest has it")]
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let is_asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if is_asked { config.cases } else { usual }, ..config }
}

/// Removes everything in a folder, as nobody should.
pub(crate) async fn forget(place: &Memory, folder: &str) {
    let entries: Vec<_> = place.list(Some(&key(folder))).try_collect().await.unwrap();
    for entry in entries {
        place.delete(&entry.key).await.unwrap();
    }
}
