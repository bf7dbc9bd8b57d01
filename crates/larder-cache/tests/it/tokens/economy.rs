//! What it costs the place that people ask: nothing per guess, little per token, and least when it fails.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use jiff::SignedDuration;
use larder_cache::{
    storage::{Storage, StorageErrorKind},
    token::{Refusal, Tokens},
};
use tokio::time::sleep;

use super::{Clock, faulty, made, mixed, presented, record_key, refused, seconds, to_write};
use crate::faulty::{Fate, Faulty};

/// A place with a few good tokens in it, and a server that has not looked yet.
async fn place(clock: &Clock) -> (Arc<Faulty>, Tokens) {
    let storage = faulty();
    let maker = Tokens::new(storage.clone());
    for seed in 0..3 {
        maker.create(&made(seed), to_write(), clock.now()).await.unwrap();
    }
    (storage.clone(), Tokens::new(storage))
}

#[tokio::test(start_paused = true)]
async fn guessed_ids_cost_one_look_every_five_seconds_however_many_they_are() {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    for guess in 1000..7000 {
        let shown = presented(&made(guess));
        assert_eq!(refused(tokens.check(&shown, clock.now()).await), Refusal::Unknown);
        clock.pass(Duration::from_millis(10)).await;
    }
    assert_eq!(storage.asked(), (12, 0), "in a minute");
}

#[tokio::test(start_paused = true)]
async fn guesses_at_once_wait_for_one_look() {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    storage.listing(Fate::Takes(seconds(2)));
    let guesses = (1000..1500).map(|guess| {
        let (shown, tokens, clock) = (presented(&made(guess)), &tokens, &clock);
        async move {
            sleep(Duration::from_millis(guess - 1000)).await;
            refused(tokens.check(&shown, clock.now()).await)
        }
    });
    assert_eq!(join_all(guesses).await, vec![Refusal::Unknown; 500]);
    assert_eq!(storage.asked(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_that_overtake_each_other_by_a_moment_cost_nothing() {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    for number in 0..500 {
        // Each looked at the clock before the one that was answered before it.
        let looked = clock.now() - SignedDuration::from_millis(number);
        let guess = presented(&made(1000 + u64::try_from(number).unwrap()));
        assert_eq!(refused(tokens.check(&guess, looked).await), Refusal::Unknown);
        assert!(tokens.check(&presented(&made(1)), looked).await.is_ok());
    }
    assert_eq!(storage.asked(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn guessed_secrets_of_a_known_id_cost_no_more_than_its_use() {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    for guess in 1000..7000 {
        let shown = mixed(&made(1), &made(guess));
        assert_eq!(refused(tokens.check(&shown, clock.now()).await), Refusal::Unknown);
        clock.pass(Duration::from_millis(10)).await;
    }
    assert_eq!(storage.asked(), (1, 2), "in a minute");
}

#[tokio::test(start_paused = true)]
async fn guessed_secrets_of_a_damaged_record_cost_one_read_every_two_seconds() {
    for damage in [Bytes::from_static(b"{"), Bytes::from(vec![b' '; 1 << 20])] {
        let clock = Clock::new();
        let (storage, tokens) = place(&clock).await;
        storage.put(&record_key(&made(1)), damage).await.unwrap();
        for guess in 1000..2000 {
            let shown = mixed(&made(1), &made(guess));
            assert!(tokens.check(&shown, clock.now()).await.is_err());
            clock.pass(Duration::from_millis(20)).await;
        }
        assert_eq!(storage.asked(), (1, 10), "in twenty seconds");
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_show_a_damaged_token_at_once_wait_for_one_read() {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    storage.put(&record_key(&made(1)), Bytes::from_static(b"{")).await.unwrap();
    storage.getting(Fate::Takes(seconds(4)));
    join_all((0..100).map(|_| async {
        assert!(tokens.check(&presented(&made(1)), clock.now()).await.is_err());
    }))
    .await;
    assert_eq!(storage.asked(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_removed_costs_no_more_than_a_guess() {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    assert!(tokens.check(&presented(&made(1)), clock.now()).await.is_ok());
    storage.delete(&record_key(&made(1))).await.unwrap();
    clock.pass(seconds(30)).await;
    storage.asked();
    for _ in 0..600 {
        let checked = tokens.check(&presented(&made(1)), clock.now()).await;
        assert_eq!(refused(checked), Refusal::Unknown);
        clock.pass(seconds(1) / 10).await;
    }
    assert_eq!(storage.asked(), (12, 1), "in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_token_in_use_is_read_twice_a_minute() {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    for _ in 0..1200 {
        assert!(tokens.check(&presented(&made(1)), clock.now()).await.is_ok());
        clock.pass(seconds(1) / 10).await;
    }
    assert_eq!(storage.asked(), (1, 4), "in two minutes");
}

#[tokio::test(start_paused = true)]
async fn those_who_show_a_token_at_once_wait_for_one_read() {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    storage.everything(Fate::Takes(seconds(2)));
    let checks = (0..300).map(|_| async {
        assert!(tokens.check(&presented(&made(1)), clock.now()).await.is_ok());
    });
    join_all(checks).await;
    assert_eq!(storage.asked(), (1, 1));
}

/// Ten clients a second for a minute, who all show something else or all the same.
async fn a_minute_of_clients(fault: Fate, which: fn(&Faulty, Fate), same: bool) -> usize {
    let clock = Clock::new();
    let (storage, tokens) = place(&clock).await;
    which(&storage, fault);
    let clients = (0..600).map(|number| {
        let (tokens, clock) = (&tokens, &clock);
        async move {
            sleep(Duration::from_millis(100 * number)).await;
            let shown = presented(&made(if same { 1 } else { number }));
            assert!(tokens.check(&shown, clock.now()).await.is_err());
        }
    });
    join_all(clients).await;
    let (lists, gets) = storage.asked();
    lists + gets
}

#[tokio::test(start_paused = true)]
async fn a_failing_place_is_asked_every_two_seconds_at_most() {
    for kind in [StorageErrorKind::Transient, StorageErrorKind::Permanent] {
        for same in [true, false] {
            let lists = a_minute_of_clients(Fate::Fails(kind), Faulty::listing, same).await;
            assert!((20..=30).contains(&lists), "{lists} listings");
        }
        // The one listing before the reads is not what failed.
        let gets = a_minute_of_clients(Fate::Fails(kind), Faulty::getting, true).await;
        assert!((20..=31).contains(&gets), "{gets} reads");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_takes_long_to_fail_is_left_alone_after_it_did() {
    for which in [Faulty::listing, Faulty::getting] {
        for (fault, most) in [(Fate::FailsAfter(seconds(4)), 11), (Fate::STALLS, 7)] {
            let requests = a_minute_of_clients(fault, which, true).await;
            assert!((4..=most).contains(&requests), "{requests} requests, {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_come_at_once_to_a_failing_place_ask_it_once() {
    for which in [Faulty::listing, Faulty::getting] {
        for fault in [Fate::Fails(StorageErrorKind::Transient), Fate::FailsAfter(seconds(4))] {
            let clock = Clock::new();
            let (storage, tokens) = place(&clock).await;
            // It is known which tokens there are, where only reading fails.
            let _ = tokens.check(&presented(&made(1000)), clock.now()).await;
            clock.pass(seconds(10)).await;
            storage.asked();
            which(&storage, fault);
            let checks = (0..300).map(|number| {
                let (tokens, clock) = (&tokens, &clock);
                async move {
                    let shown = presented(&made(if number % 2 == 0 { 1 } else { 1000 + number }));
                    let _ = tokens.check(&shown, clock.now()).await;
                }
            });
            join_all(checks).await;
            let (lists, gets) = storage.asked();
            assert!(lists <= 1 && gets <= 1, "{lists} listings and {gets} reads");
        }
    }
}
