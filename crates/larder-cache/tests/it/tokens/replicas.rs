//! What one server does to a token, the others know in time, whatever the clock does.

use jiff::SignedDuration;
use larder_cache::token::{Refusal, Terms, TokenRecord, Tokens};

use super::{Clock, faulty, made, memory, presented, record_key, refused, seconds, to_write};
use crate::faulty::Fate;

#[tokio::test(start_paused = true)]
async fn its_maker_accepts_a_token_at_once_that_it_had_just_refused() {
    let (clock, token, tokens) = (Clock::new(), made(1), Tokens::new(memory()));
    assert_eq!(refused(tokens.check(&presented(&token), clock.now()).await), Refusal::Unknown);
    tokens.create(&token, to_write(), clock.now()).await.unwrap();
    assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_had_just_looked_accepts_a_new_token_within_five_seconds() {
    let (clock, storage) = (Clock::new(), memory());
    let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
    for seed in 0..20 {
        let token = made(seed);
        // At every distance from its last look.
        clock.pass(seconds(5) + seconds(1) / 4 * u32::try_from(seed).unwrap()).await;
        let _ = there.check(&presented(&token), clock.now()).await;
        here.create(&token, to_write(), clock.now()).await.unwrap();
        let created = clock.now();
        while there.check(&presented(&token), clock.now()).await.is_err() {
            clock.pass(seconds(1) / 2).await;
            let waited = clock.now().duration_since(created);
            assert!(waited <= SignedDuration::from_secs(5), "not after {waited:#}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_takes_long_does_not_delay_what_was_made_meanwhile() {
    let (clock, token, storage) = (Clock::new(), made(1), faulty());
    let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage.clone()));
    storage.listing(Fate::Takes(seconds(8)));
    let shown = presented(&token);
    let looking = there.check(&shown, clock.now());
    let creating = async {
        clock.pass(seconds(1)).await;
        here.create(&token, to_write(), clock.now()).await.unwrap();
    };
    let (looked, ()) = tokio::join!(biased; looking, creating);
    assert_eq!(refused(looked), Refusal::Unknown);
    storage.listing(Fate::Done);
    assert!(there.check(&presented(&token), clock.now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_look_that_began_before_a_token_was_made_does_not_make_its_maker_forget_it() {
    let (clock, token, storage) = (Clock::new(), made(1), faulty());
    let tokens = Tokens::new(storage.clone());
    storage.listing(Fate::Takes(seconds(3)));
    let (shown, guessed) = (presented(&token), presented(&made(2)));
    let looking = tokens.check(&guessed, clock.now());
    let creating = async {
        clock.pass(seconds(1)).await;
        tokens.create(&token, to_write(), clock.now()).await.unwrap();
        for _ in 0..100 {
            assert!(tokens.check(&shown, clock.now()).await.is_ok());
            clock.pass(seconds(1) / 10).await;
        }
    };
    let (looked, ()) = tokio::join!(biased; looking, creating);
    assert_eq!(refused(looked), Refusal::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_holds_at_once_where_it_was_made_and_elsewhere_within_a_minute() {
    for used in 1..40 {
        let (clock, token, storage) = (Clock::new(), made(1), memory());
        let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
        here.create(&token, to_write(), clock.now()).await.unwrap();
        let good = async |tokens: &Tokens| tokens.check(&presented(&token), clock.now()).await;
        for _ in 0..used {
            assert!(good(&here).await.is_ok() && good(&there).await.is_ok());
            clock.pass(seconds(1)).await;
        }
        let revoked = here.revoke(token.id(), clock.now()).await.unwrap().unwrap();
        assert_eq!((revoked.id, revoked.revoked), (token.id(), Some(clock.now())));
        for waited in 0..90 {
            assert_eq!(refused(good(&here).await), Refusal::Revoked);
            match good(&there).await {
                Ok(_) => assert!(waited < 60, "still good after {waited} s"),
                answer => assert_eq!(refused(answer), Refusal::Revoked),
            }
            clock.pass(seconds(1)).await;
        }
        assert_eq!(refused(good(&there).await), Refusal::Revoked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_revoked_once_and_what_is_not_there_not_at_all() {
    let (clock, token, storage) = (Clock::new(), made(1), memory());
    let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
    assert_eq!(here.revoke(token.id(), clock.now()).await.unwrap(), None);
    let expires = Some(clock.now() + SignedDuration::from_hours(1));
    let terms = Terms { name: Some("ci".parse().unwrap()), expires, ..to_write() };
    let made = here.create(&token, terms, clock.now()).await.unwrap();
    let first = here.revoke(token.id(), clock.now()).await.unwrap().unwrap();
    assert_eq!(first, TokenRecord { revoked: Some(clock.now()), ..made });
    clock.pass(seconds(100)).await;
    for tokens in [&here, &there] {
        let again = tokens.revoke(token.id(), clock.now()).await.unwrap().unwrap();
        assert_eq!(again, first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_overtakes_a_revocation_is_not_believed_after_it() {
    let (clock, token, storage) = (Clock::new(), made(1), faulty());
    let tokens = Tokens::new(storage.clone());
    tokens.create(&token, to_write(), clock.now()).await.unwrap();
    storage.getting(Fate::Takes(seconds(3)));
    let shown = presented(&token);
    let checking = tokens.check(&shown, clock.now());
    let revoking = async {
        clock.pass(seconds(1)).await;
        storage.getting(Fate::Done);
        tokens.revoke(token.id(), clock.now()).await.unwrap();
        tokens.check(&presented(&token), clock.now()).await
    };
    // Who came before may be let in still; who comes after may not, now or later.
    let (_, after) = tokio::join!(biased; checking, revoking);
    assert_eq!(refused(after), Refusal::Revoked);
    assert_eq!(refused(tokens.check(&presented(&token), clock.now()).await), Refusal::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_keep_a_revoked_token_good() {
    for (idle, back) in [(1, 3600), (29, 3600), (31, 31), (3600, 3590), (86_400, 86_395)] {
        let (clock, token, storage) = (Clock::new(), made(1), memory());
        let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
        here.create(&token, to_write(), clock.now()).await.unwrap();
        assert!(there.check(&presented(&token), clock.now()).await.is_ok());
        here.revoke(token.id(), clock.now()).await.unwrap();
        clock.pass(seconds(idle)).await;
        clock.set_back(SignedDuration::from_secs(back));
        for waited in idle.. {
            let checked = there.check(&presented(&token), clock.now()).await;
            if checked.is_err() {
                assert_eq!(refused(checked), Refusal::Revoked);
                break;
            }
            assert!(waited < 60, "good {waited} s after it was revoked, {back} s set back");
            clock.pass(seconds(1)).await;
        }
        assert_eq!(refused(here.check(&presented(&token), clock.now()).await), Refusal::Revoked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_again_and_again_does_not_keep_a_revoked_token_good() {
    let (clock, token, storage) = (Clock::new(), made(1), memory());
    let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
    here.create(&token, to_write(), clock.now()).await.unwrap();
    assert!(there.check(&presented(&token), clock.now()).await.is_ok());
    here.revoke(token.id(), clock.now()).await.unwrap();
    for _ in 0..60 {
        clock.pass(seconds(1)).await;
        clock.set_back(SignedDuration::from_secs(1));
        let _ = there.check(&presented(&token), clock.now()).await;
    }
    assert_eq!(refused(there.check(&presented(&token), clock.now()).await), Refusal::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_bring_back_a_token_that_was_removed() {
    let (clock, token, storage) = (Clock::new(), made(1), memory());
    let (maker, tokens) = (Tokens::new(storage.clone()), Tokens::new(storage.clone()));
    maker.create(&token, to_write(), clock.now()).await.unwrap();
    assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
    storage.delete(&record_key(&token)).await.unwrap();
    clock.pass(seconds(60)).await;
    for back in [0, 45, 10, 3600] {
        clock.set_back(SignedDuration::from_secs(back));
        let checked = tokens.check(&presented(&token), clock.now()).await;
        assert_eq!(refused(checked), Refusal::Unknown, "{back} s set back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leapt_either_way_makes_a_server_look_again() {
    // The first as after a sleep of the machine, through which its other clock stood still.
    for back in [-60, 60, 3600] {
        let (clock, token, storage) = (Clock::new(), made(1), memory());
        let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
        here.create(&token, to_write(), clock.now()).await.unwrap();
        assert!(there.check(&presented(&token), clock.now()).await.is_ok());
        here.revoke(token.id(), clock.now()).await.unwrap();
        clock.set_back(SignedDuration::from_secs(back));
        let checked = there.check(&presented(&token), clock.now()).await;
        assert_eq!(refused(checked), Refusal::Revoked, "{back} s set back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_does_not_keep_a_new_token_out() {
    for back in [-3600, -1, 1, 4, 3600] {
        let (clock, token, storage) = (Clock::new(), made(1), memory());
        let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
        let _ = there.check(&presented(&token), clock.now()).await;
        clock.set_back(SignedDuration::from_secs(back));
        here.create(&token, to_write(), clock.now()).await.unwrap();
        clock.pass(seconds(5)).await;
        assert!(there.check(&presented(&token), clock.now()).await.is_ok(), "{back} s set back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_removed_is_unknown_within_a_minute_and_at_once_where_it_was_revoked() {
    let (clock, token, storage) = (Clock::new(), made(1), memory());
    let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage.clone()));
    here.create(&token, to_write(), clock.now()).await.unwrap();
    for tokens in [&here, &there] {
        assert!(tokens.check(&presented(&token), clock.now()).await.is_ok());
    }
    storage.delete(&record_key(&token)).await.unwrap();
    assert_eq!(here.revoke(token.id(), clock.now()).await.unwrap(), None);
    assert_eq!(refused(here.check(&presented(&token), clock.now()).await), Refusal::Unknown);
    clock.pass(seconds(59)).await;
    assert_eq!(refused(there.check(&presented(&token), clock.now()).await), Refusal::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_does_not_find_a_token_ends_the_belief_in_it() {
    let (clock, token, storage) = (Clock::new(), made(1), memory());
    let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage.clone()));
    here.create(&token, to_write(), clock.now()).await.unwrap();
    assert!(there.check(&presented(&token), clock.now()).await.is_ok());
    storage.delete(&record_key(&token)).await.unwrap();
    clock.pass(seconds(5)).await;
    for shown in [presented(&made(2)), presented(&token)] {
        assert_eq!(refused(there.check(&shown, clock.now()).await), Refusal::Unknown);
    }
}
