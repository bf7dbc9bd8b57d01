//! Buckets: what a store refuses is told apart from what it does not have.

use std::time::Duration;

use bytes::Bytes;
use larder_cache::storage::StorageErrorKind;
use larder_testkit::{Garage, S3Server, s3, tree::random_bytes};

use super::{all_keys, bucket, bucket_by, drafted, key};

#[tokio::test(flavor = "multi_thread")]
async fn objects_lie_in_the_bucket_by_their_names() {
    let server = S3Server::start();
    let place = bucket(&server.url("pre/fix"));
    place.put(&key("nar/x.nar"), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(std::fs::read(server.files().join("pre/fix/nar/x.nar")).unwrap(), b"x");
    // Another prefix is another place.
    assert_eq!(all_keys(&*bucket(&server.url("pre"))).await, ["fix/nar/x.nar"]);
    assert_eq!(all_keys(&*bucket(&server.url("pre/fi"))).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_an_error_and_never_absence() {
    let server = S3Server::start();
    for (id, secret) in [(s3::ACCESS_KEY, "wrong"), ("nobody", s3::SECRET_KEY)] {
        let place = bucket_by(&server.url(""), id, secret);
        let at = key("x.narinfo");
        let failures = [
            place.stat(&at).await.map(drop),
            place.get(&at, 100).await.map(drop),
            place.read(&at, 0..1).await.map(drop),
            place.put(&at, Bytes::new()).await,
            place.delete(&at).await,
        ];
        for (n, failure) in failures.into_iter().enumerate() {
            let error = failure.unwrap_err();
            assert_eq!(error.kind, StorageErrorKind::Denied, "{n}: {error}");
            assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
            assert!(!error.to_string().contains(s3::SECRET_KEY), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_an_error_and_never_absence() {
    let server = S3Server::start();
    let url = server.url("");
    drop(server);
    let place = bucket(&url);
    let error = place.get(&key("x"), 10).await.unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Transient, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_signed_url_needs_no_keys() {
    let server = S3Server::start();
    let place = bucket(&server.url("a"));
    let bytes = random_bytes(1, 10_000);
    place.put(&key("nar/x.nar.zst"), Bytes::from(bytes.clone())).await.unwrap();
    let signed = place.signed_url(&key("nar/x.nar.zst"), Duration::from_secs(60)).await.unwrap();
    let signed = signed.unwrap();
    assert!(!signed.contains(s3::SECRET_KEY));
    let answer = reqwest::get(&signed).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), bytes);
    let bare = signed.split('?').next().unwrap();
    assert_eq!(reqwest::get(bare).await.unwrap().status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_finished_is_nowhere_to_be_seen() {
    let server = S3Server::start();
    let place = bucket(&server.url(""));
    let draft = drafted(&*place, &random_bytes(2, 20_000_000), 1_000_000).await;
    drop(server);
    let error = draft.publish(&key("nar/x.nar")).await.unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Transient, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Garage, which takes a quarter of an hour to build: ./dev garage"]
async fn garage_says_of_a_bucket_that_is_not_there_that_it_is_not() {
    let cluster = Garage::cluster();
    let (id, secret) = cluster.key();
    let place =
        bucket_by(&cluster.url(0).replace(larder_testkit::garage::BUCKET, "nothing"), id, secret);
    for failure in [
        place.get(&key("nix-cache-info"), 100).await.map(drop),
        place.put(&key("nix-cache-info"), Bytes::from_static(b"x")).await,
    ] {
        let error = failure.unwrap_err().to_string();
        assert!(error.contains("make the bucket first"), "{error}");
    }
}
