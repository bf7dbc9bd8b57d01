//! Where it cannot be told whether a token is good, the answer is an error, in time, and never a permission.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use larder_cache::{
    storage::{Storage, StorageErrorKind},
    token::{RecordError, Refusal, Token, TokenError, Tokens},
};
use tokio::time::Instant;

use super::{
    Clock, could_not_tell, faulty, made, presented, record_key, refused, seconds, to_write,
};
use crate::faulty::{Fate, Faulty};

/// A place with a good token in it, and another server of it that has not looked yet.
async fn place(clock: &Clock) -> (Arc<Faulty>, Token, Tokens) {
    let (storage, token) = (faulty(), made(1));
    let maker = Tokens::new(storage.clone());
    maker.create(&token, to_write(), clock.now()).await.unwrap();
    (storage.clone(), token, Tokens::new(storage))
}

const KINDS: [StorageErrorKind; 5] = [
    StorageErrorKind::Transient,
    StorageErrorKind::Denied,
    StorageErrorKind::Full,
    StorageErrorKind::Unsupported,
    StorageErrorKind::Permanent,
];

#[tokio::test(start_paused = true)]
async fn a_failing_place_lets_nobody_in_and_says_why() {
    for kind in KINDS {
        for which in [Faulty::listing, Faulty::getting] {
            let clock = Clock::new();
            let (storage, token, tokens) = place(&clock).await;
            which(&storage, Fate::Fails(kind));
            for _ in 0..20 {
                let error = could_not_tell(tokens.check(&presented(&token), clock.now()).await);
                assert!(matches!(&error, TokenError::Storage(error) if error.kind == kind));
                assert_eq!(error.to_string(), "a faulty place: on purpose");
                clock.pass(seconds(1)).await;
            }
            which(&storage, Fate::Done);
            clock.pass(seconds(3)).await;
            assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_breaks_off_tells_nothing_of_what_it_did_not_show_or_did() {
    let clock = Clock::new();
    let (storage, token, tokens) = place(&clock).await;
    storage.listing(Fate::BreaksOff);
    for shown in [presented(&token), presented(&made(2))] {
        could_not_tell(tokens.check(&shown, clock.now()).await);
    }
    assert!(tokens.list().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_failure_is_believed_for_less_than_a_minute() {
    let clock = Clock::new();
    let (storage, token, tokens) = place(&clock).await;
    assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
    storage.everything(Fate::Fails(StorageErrorKind::Transient));
    clock.pass(seconds(9)).await;
    // That a stranger cannot be told changes nothing.
    could_not_tell(tokens.check(&presented(&made(2)), clock.now()).await);
    assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
    clock.pass(seconds(60)).await;
    for _ in 0..100 {
        could_not_tell(tokens.check(&presented(&token), clock.now()).await);
        clock.pass(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_never_answers_is_waited_for_ten_seconds_by_everybody() {
    for which in [Faulty::listing, Faulty::getting] {
        let clock = Clock::new();
        let (storage, token, tokens) = place(&clock).await;
        which(&storage, Fate::STALLS);
        let begun = Instant::now();
        let shown = presented(&token);
        let error = could_not_tell(tokens.check(&shown, clock.now()).await);
        assert_eq!(error.to_string(), "memory: did not answer within 10 seconds");
        assert_eq!(begun.elapsed().as_secs(), 10);
        clock.pass(seconds(30)).await;
        // Those that come while others wait, too.
        let waits = join_all((0..100).map(|number| {
            let (tokens, clock) = (&tokens, &clock);
            async move {
                tokio::time::sleep(Duration::from_millis(100 * number)).await;
                let begun = Instant::now();
                could_not_tell(tokens.check(&shown, clock.now()).await);
                begun.elapsed()
            }
        }));
        let longest = waits.await.into_iter().max().unwrap();
        assert!(longest < Duration::from_millis(10_100), "{longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_a_place_did_not_answer_is_told_at_once() {
    for which in [Faulty::listing, Faulty::getting] {
        for fault in [Fate::STALLS, Fate::FailsAfter(seconds(5))] {
            let clock = Clock::new();
            let (storage, token, tokens) = place(&clock).await;
            which(&storage, fault);
            could_not_tell(tokens.check(&presented(&token), clock.now()).await);
            let begun = Instant::now();
            could_not_tell(tokens.check(&presented(&token), clock.now()).await);
            assert!(begun.elapsed() < seconds(1), "waited {:?}", begun.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_round_is_believed_again_within_seconds() {
    for fault in [Fate::STALLS, Fate::Fails(StorageErrorKind::Transient)] {
        let clock = Clock::new();
        let (storage, token, tokens) = place(&clock).await;
        storage.everything(fault);
        could_not_tell(tokens.check(&presented(&token), clock.now()).await);
        storage.everything(Fate::Done);
        clock.pass(seconds(2)).await;
        assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_could_not_be_written_is_not_known() {
    let (clock, token, storage) = (Clock::new(), made(1), faulty());
    let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage.clone()));
    storage.putting(Fate::Fails(StorageErrorKind::Full));
    assert!(here.create(&token, to_write(), clock.now()).await.is_err());
    for tokens in [&here, &there] {
        assert_eq!(refused(tokens.check(&presented(&token), clock.now()).await), Refusal::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_could_not_be_written_is_an_error() {
    let clock = Clock::new();
    let (storage, token, tokens) = place(&clock).await;
    for which in [Faulty::putting, Faulty::getting] {
        which(&storage, Fate::Fails(StorageErrorKind::Denied));
        assert!(tokens.revoke(token.id(), clock.now()).await.is_err());
        which(&storage, Fate::Done);
    }
    assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
    assert!(tokens.revoke(token.id(), clock.now()).await.unwrap().is_some());
    assert_eq!(refused(tokens.check(&presented(&token), clock.now()).await), Refusal::Revoked);
}

/// Replaces the record of a token, and says how a server that has not seen it answers.
async fn with_record(record: &[u8]) -> RecordError {
    let clock = Clock::new();
    let (storage, token, tokens) = place(&clock).await;
    let key = record_key(&token);
    storage.put(&key, Bytes::copy_from_slice(record)).await.unwrap();
    let error = could_not_tell(tokens.check(&presented(&token), clock.now()).await);
    let TokenError::Record(place, reason) = &error else { panic!("{error:?}") };
    assert_eq!(*place, format!("memory:/{key}"));
    assert_eq!(error.to_string(), format!("the token's record memory:/{key}: {reason}"));
    // Nobody who does not have its secret, either.
    could_not_tell(tokens.check(&super::mixed(&token, &made(2)), clock.now()).await);
    // It cannot be called back before it is whole.
    assert!(tokens.revoke(token.id(), clock.now()).await.is_err());
    // And the others are as good as before.
    tokens.create(&made(3), to_write(), clock.now()).await.unwrap();
    assert!(tokens.check(&presented(&made(3)), clock.now()).await.is_ok());
    reason.clone()
}

/// The record of the token in question, as it should be.
async fn sound() -> String {
    let (storage, token, _) = place(&Clock::new()).await;
    let bytes = storage.get(&record_key(&token), 4096).await.unwrap().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_lets_nobody_in() {
    let sound = sound().await;
    let mut damaged: Vec<Vec<u8>> = vec![b"{}".to_vec(), b"null".to_vec(), vec![0; 4096]];
    // Cut off anywhere, up to its last brace.
    let whole = sound.trim_end().len();
    damaged.extend((0..whole).map(|length| sound.as_bytes()[..length].to_vec()));
    for (from, to) in [
        ("\"version\": 1", "\"version\": -1"),
        ("\"version\": 1", "\"version\": \"1\""),
        ("\"version\": 1,", ""),
        ("\"name\": null", "\"name\": \"a b\""),
        ("\"name\": null", "\"name\": \"\""),
        ("\"sha256\": \"", "\"sha256\": \"0"),
        ("\"scopes\": [", "\"scopes\": [1,"),
        ("\"id\": \"", "\"id\": \"0"),
        // What is lost must not make it good for ever.
        ("\"expires\": null,", ""),
        (",\n  \"revoked\": null", ""),
        ("\"expires\"", "\"expiry\""),
        ("\"expires\": null", "\"expires\": \"tomorrow\""),
        ("\"revoked\": null", "\"revoked\": false"),
        ("\"revoked\": null", "\"revoked\": null, \"revoked\": null"),
        ("}", "} }"),
    ] {
        assert!(sound.contains(from), "{from}: {sound}");
        damaged.push(sound.replacen(from, to, 1).into_bytes());
    }
    for record in damaged {
        let reason = with_record(&record).await;
        let text = String::from_utf8_lossy(&record);
        assert!(matches!(reason, RecordError::Malformed(_)), "{text}: {reason}");
        assert!(reason.to_string().ends_with("; remove it, and make a new token"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_later_version_lets_nobody_in() {
    let later = sound().await.replace("\"version\": 1", "\"version\": 2");
    // Whatever else is in it.
    for record in [later.as_str(), "{\"version\": 2}"] {
        let reason = with_record(record.as_bytes()).await;
        assert_eq!(reason, RecordError::Version(2));
        assert!(reason.to_string().ends_with("update this one"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_of_one_token_is_not_believed_in_the_place_of_another() {
    let other = made(2);
    let record = sound().await.replace(&made(1).id().to_string(), &other.id().to_string());
    assert_eq!(with_record(record.as_bytes()).await, RecordError::OtherToken(other.id()));
}

#[tokio::test(start_paused = true)]
async fn a_scope_of_a_later_version_allows_nothing() {
    let clock = Clock::new();
    let (storage, token, tokens) = place(&clock).await;
    let record = sound().await.replace("\"write\"", "\"write-once\", \"READ\", \"\"");
    storage.put(&record_key(&token), Bytes::from(record)).await.unwrap();
    let access = tokens.check(&presented(&token), clock.now()).await.unwrap();
    assert!(!access.scope.read && !access.scope.write);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_far_too_long_says_nothing_of_the_other_tokens() {
    let clock = Clock::new();
    let (storage, token, tokens) = place(&clock).await;
    storage.put(&record_key(&token), Bytes::from(vec![b' '; 1 << 20])).await.unwrap();
    could_not_tell(tokens.check(&presented(&token), clock.now()).await);
    tokens.create(&made(3), to_write(), clock.now()).await.unwrap();
    assert!(tokens.check(&presented(&made(3)), clock.now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_mended_is_believed_within_seconds() {
    let clock = Clock::new();
    let (storage, token, tokens) = place(&clock).await;
    let (key, sound) = (record_key(&token), sound().await);
    storage.put(&key, Bytes::from_static(b"{")).await.unwrap();
    could_not_tell(tokens.check(&presented(&token), clock.now()).await);
    storage.put(&key, Bytes::from(sound)).await.unwrap();
    clock.pass(seconds(2)).await;
    assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
}
