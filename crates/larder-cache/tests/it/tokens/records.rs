//! What lies in a place: no secret, in a form that stays, and listed as far as it can be read.

use std::{fs, path::Path};

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::SignedDuration;
use larder_cache::{
    storage::{Directory, Key, Storage, StorageErrorKind},
    token::{Refusal, Scope, Terms, TokenError, TokenId, TokenName, Tokens},
};
use larder_testkit::scratch::scratch;

use super::{
    Clock, could_not_tell, faulty, made, memory, presented, record_key, refused, seconds, secret,
    to_write,
};
use crate::faulty::Fate;

/// Every file below a folder, with its path in front.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let name = path.display().to_string().into_bytes();
            found.push([name, fs::read(path).unwrap()].concat());
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn what_lies_in_a_place_holds_no_secret() {
    let (clock, folder) = (Clock::new(), scratch("tokens"));
    let storage = std::sync::Arc::new(Directory::new(folder.path()));
    let tokens = Tokens::new(storage);
    for seed in 0..5 {
        let terms = Terms { name: Some("ci".parse().unwrap()), ..to_write() };
        tokens.create(&made(seed), terms, clock.now()).await.unwrap();
    }
    tokens.revoke(made(1).id(), clock.now()).await.unwrap();
    let files = files(folder.path());
    assert_eq!(files.len(), 5);
    for (seed, file) in (0..5).flat_map(|seed| files.iter().map(move |file| (seed, file))) {
        let (text, token) = (String::from_utf8_lossy(file), made(seed));
        let raw = &super::random(seed)[10..];
        assert!(!text.contains(token.expose()) && !text.contains(secret(&token)), "{text}");
        assert!(!file.windows(raw.len()).any(|window| window == raw));
    }
}

#[test]
fn neither_a_token_nor_what_is_shown_as_one_says_its_secret_when_it_is_logged() {
    let token = made(1);
    for logged in [
        format!("{token:?} {token:#?}"),
        format!("{:?}", presented(&token)),
        format!("{:?} {}", token.id(), token.id()),
    ] {
        assert!(logged.contains(&token.id().to_string()));
        assert!(!logged.contains(secret(&token)), "{logged}");
        assert!(!logged.contains(&secret(&token)[..8]), "{logged}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_wrong_is_told_without_the_secret() {
    let (clock, token, storage) = (Clock::new(), made(1), faulty());
    let tokens = Tokens::new(storage.clone());
    tokens.create(&token, to_write(), clock.now()).await.unwrap();
    storage.put(&record_key(&token), Bytes::from_static(b"{")).await.unwrap();
    let error = could_not_tell(tokens.check(&presented(&token), clock.now()).await);
    for text in [format!("{error:?}"), error.to_string(), format!("{tokens:?}")] {
        assert!(!text.contains(secret(&token)), "{text}");
    }
}

/// A token of the first version, and its record; both were made by another program.
const TOKEN: &str = "larder_fjzq02ggjjls2y12_1bhi29sr6b30056ldh8lni8p5a4sq8drjw8vz5jd7iwylg0kv4zx";
const RECORD: &str = r#"{
  "version": 1,
  "id": "fjzq02ggjjls2y12",
  "name": "ci@forge",
  "scopes": [
    "read",
    "write"
  ],
  "sha256": "1v43hflbz93zsx40qp09f5s0y2kn0d2mhpij0bhybc9jn5cnhml4",
  "created": "2026-03-01T12:00:00Z",
  "expires": "2027-01-01T00:00:00Z",
  "revoked": null
}
"#;

#[tokio::test(start_paused = true)]
async fn records_stay_as_the_first_version_wrote_them() {
    let (clock, token, storage) = (Clock::new(), made(1), memory());
    let terms = Terms {
        name: Some("ci@forge".parse().unwrap()),
        scope: Scope { read: true, write: true },
        expires: Some("2027-01-01T00:00:00Z".parse().unwrap()),
    };
    assert_eq!(token.expose(), TOKEN);
    let created = "2026-03-01T12:00:00Z".parse().unwrap();
    Tokens::new(storage.clone()).create(&token, terms, created).await.unwrap();
    let written = storage.get(&record_key(&token), 4096).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&written), RECORD);
    // What another program wrote to the same effect is as good.
    let compact = RECORD.replace(['\n', ' '], "").replace("null}", "null,\"note\":[1]}");
    storage.put(&record_key(&token), Bytes::from(compact)).await.unwrap();
    let tokens = Tokens::new(storage);
    assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn tokens_are_listed_oldest_first_with_those_that_are_over() {
    let (clock, tokens) = (Clock::new(), Tokens::new(memory()));
    assert!(tokens.list().await.unwrap().tokens.is_empty());
    let mut expected = Vec::new();
    for (seed, age) in [(1, 7), (2, 300), (3, 0), (4, 7), (5, -5)] {
        let created = clock.now() - SignedDuration::from_secs(age);
        let expires = (seed == 2).then_some(clock.now() - SignedDuration::from_secs(100));
        let terms = Terms { expires, ..to_write() };
        expected.push(tokens.create(&made(seed), terms, created).await.unwrap());
    }
    expected[2] = tokens.revoke(made(3).id(), clock.now()).await.unwrap().unwrap();
    // Those of one moment by their ids, so that no listing differs from the one before.
    expected.sort_by_key(|record| (record.created, record.id));
    let listed = tokens.list().await.unwrap();
    assert_eq!((listed.tokens, listed.unreadable.len()), (expected, 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_listed_apart_in_the_order_of_the_ids() {
    let (clock, storage) = (Clock::new(), memory());
    let tokens = Tokens::new(storage.clone());
    let mut damaged = Vec::new();
    for seed in 0..40 {
        tokens.create(&made(seed), to_write(), clock.now()).await.unwrap();
        if seed % 2 == 0 {
            storage.put(&record_key(&made(seed)), Bytes::from_static(b"{}")).await.unwrap();
            damaged.push(made(seed).id());
        }
    }
    damaged.sort();
    let listed = tokens.list().await.unwrap();
    assert_eq!(listed.tokens.len(), 20);
    let places: Vec<String> = listed.unreadable.iter().map(ToString::to_string).collect();
    assert_eq!(places.len(), 20);
    for (place, id) in places.iter().zip(damaged) {
        let record = format!("the token's record memory:/.larder/tokens/{id}.json: it is damaged");
        assert!(place.starts_with(&record), "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_fails_is_not_listed_as_empty() {
    let (clock, storage) = (Clock::new(), faulty());
    let tokens = Tokens::new(storage.clone());
    tokens.create(&made(1), to_write(), clock.now()).await.unwrap();
    for fault in [Fate::Fails(StorageErrorKind::Denied), Fate::BreaksOff] {
        storage.listing(fault);
        assert!(matches!(tokens.list().await, Err(TokenError::Storage(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn files_of_others_among_the_records_are_left_alone() {
    let (clock, storage) = (Clock::new(), memory());
    let tokens = Tokens::new(storage.clone());
    tokens.create(&made(1), to_write(), clock.now()).await.unwrap();
    let record = storage.get(&record_key(&made(1)), 4096).await.unwrap().unwrap();
    let id = made(2).id().to_string();
    let names = [
        "README".to_owned(),
        ".json".to_owned(),
        "abc.json".to_owned(),
        id.clone(),
        format!("{id}.json.tmp"),
        format!("{id}.JSON"),
        format!("{}.json", id.to_uppercase()),
        format!("{}.json", &id[1..]),
        format!("0{id}.json"),
        format!("below/{id}.json"),
        format!("far/below/{id}.json"),
    ];
    for name in &names {
        let key = Key::new(format!(".larder/tokens/{name}")).unwrap();
        storage.put(&key, record.clone()).await.unwrap();
    }
    let listed = tokens.list().await.unwrap();
    assert_eq!((listed.tokens.len(), listed.unreadable.len()), (1, 0));
    clock.pass(seconds(60)).await;
    assert_eq!(refused(tokens.check(&presented(&made(2)), clock.now()).await), Refusal::Unknown);
    assert!(tokens.check(&presented(&made(1)), clock.now()).await.is_ok());
    let folder = Key::new(".larder/tokens").unwrap();
    let left: Vec<_> = storage.list(Some(&folder)).try_collect().await.unwrap();
    assert_eq!(left.len(), names.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn more_tokens_than_anybody_made_on_purpose_are_an_error() {
    let (clock, storage) = (Clock::new(), memory());
    let put = async |seed| storage.put(&record_key(&made(seed)), Bytes::new()).await.unwrap();
    for seed in 0..10_000 {
        put(seed).await;
    }
    let unknown = presented(&made(20_000));
    let most = Tokens::new(storage.clone());
    assert_eq!(refused(most.check(&unknown, clock.now()).await), Refusal::Unknown);
    put(10_000).await;
    let too_many = Tokens::new(storage.clone());
    let error = could_not_tell(too_many.check(&unknown, clock.now()).await);
    assert!(matches!(error, TokenError::TooMany(_)));
    assert_eq!(
        error.to_string(),
        "memory: has more than 10000 tokens: remove those that are over from .larder/tokens"
    );
    assert!(matches!(too_many.list().await, Err(TokenError::TooMany(_))));
}

#[test]
fn names_are_short_and_plain() {
    for good in ["a", "CI@forge-2", "laptop.alice_x+1", &"n".repeat(64)] {
        assert_eq!(good.parse::<TokenName>().unwrap().to_string(), good);
    }
    for odd in ["", " ", "a b", "a\n", "a/b", "\u{e9}", "a\0", "\"", &"n".repeat(65)] {
        assert!(odd.parse::<TokenName>().is_err(), "{odd:?}");
    }
}

#[test]
fn an_id_is_sixteen_characters_of_nix32() {
    let id = made(1).id();
    assert_eq!(id.to_string().parse::<TokenId>().unwrap(), id);
    let text = id.to_string();
    for odd in ["", &text[1..], &format!("{text}0"), &text.to_uppercase(), "eeeeeeeeeeeeeeee"] {
        assert!(odd.parse::<TokenId>().is_err(), "{odd:?}");
    }
}

#[test]
fn a_scope_is_told_by_its_names() {
    let told = |read, write| Scope { read, write }.to_string();
    assert_eq!(told(true, true), "read, write");
    assert_eq!((told(true, false), told(false, true)), ("read".to_owned(), "write".to_owned()));
}
