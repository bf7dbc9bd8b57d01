//! Before anything is written: what is a cache of this store, or nothing yet, and what is left alone.

use larder_cache::source::object_storage::RecogniseError;

use super::empty;
use crate::{gc::index::put, storage::all_keys};

#[tokio::test]
async fn an_empty_place_becomes_a_cache_and_stays_one() {
    let (place, cache) = empty();
    cache.prepare().await.unwrap();
    let written = place.peek(&crate::storage::key("nix-cache-info")).unwrap();
    assert_eq!(written, "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n");
    cache.prepare().await.unwrap();
    assert_eq!(all_keys(&place).await, ["nix-cache-info"]);
}

#[tokio::test]
async fn a_cache_that_somebody_else_made_is_written_to_as_it_is() {
    let (place, cache) = empty();
    let theirs = "StoreDir: /nix/store\nPriority: 10\nX-Odd: yes\n";
    put(&place, "nix-cache-info", theirs).await;
    put(&place, "README.html", "ours since 2019").await;
    cache.prepare().await.unwrap();
    assert_eq!(place.peek(&crate::storage::key("nix-cache-info")).unwrap(), theirs);
}

#[tokio::test]
async fn what_is_no_cache_of_this_store_is_left_alone_with_the_reason() {
    for (name, text, says) in [
        ("nix-cache-info", "StoreDir: /gnu/store\n", "is a cache of the store /gnu/store"),
        ("nix-cache-info", "hello", "nothing was written there"),
        ("holiday.jpg", "x", "holiday.jpg"),
        ("deep/er/file", "x", "deep/er/file"),
    ] {
        let (place, cache) = empty();
        put(&place, name, text).await;
        let refused = cache.prepare().await.unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
        assert!(!matches!(refused, RecogniseError::Storage(_)));
        assert_eq!(all_keys(&place).await, [name]);
    }
}
