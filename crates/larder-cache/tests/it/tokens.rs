//! Tokens let in whom they were made for, by every server of their cache and at no other cache; whoever has
//! another secret learns nothing, and where it cannot be told nobody is let in.

mod economy;
mod faults;
mod properties;
mod records;
mod replicas;

use std::{cell::Cell, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use larder_cache::{
    storage::{Directory, Key, Storage},
    token::{
        Access, CheckError, Presented, RANDOM_BYTES, Refusal, Scope, Terms, Token, TokenError,
        Tokens,
    },
};
use larder_testkit::scratch::scratch;
use tokio::time::{Instant, advance};
use zeroize::Zeroizing;

use crate::{faulty::Faulty, memory::Memory};

const WRITE: Scope = Scope { read: false, write: true };

/// The clock of whoever asks. It goes as the runtime's does, unless it is set.
struct Clock {
    begun: Instant,
    set: Cell<SignedDuration>,
}

impl Clock {
    fn new() -> Self {
        Self { begun: Instant::now(), set: Cell::default() }
    }

    /// Some day in 2026, and what has passed since.
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.begun.elapsed()).unwrap() + self.set.get();
        "2026-03-01T12:00:00Z".parse::<Timestamp>().unwrap() + passed
    }

    /// Lets time pass, for everybody.
    async fn pass(&self, time: Duration) {
        advance(time).await;
    }

    /// Sets it back, which is no time that passes.
    fn set_back(&self, by: SignedDuration) {
        self.set.set(self.set.get() - by);
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Bytes that look random and are the same for the same seed.
fn random(seed: u64) -> [u8; RANDOM_BYTES] {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
}

fn made(seed: u64) -> Token {
    Token::from_random(&Zeroizing::new(random(seed)))
}

fn presented(token: &Token) -> Presented {
    Presented::parse(token.expose()).unwrap()
}

fn secret(token: &Token) -> &str {
    token.expose().rsplit('_').next().unwrap()
}

/// The id of one token with the secret of another.
fn mixed(id: &Token, secret_of: &Token) -> Presented {
    Presented::parse(&format!("larder_{}_{}", id.id(), secret(secret_of))).unwrap()
}

fn to_write() -> Terms {
    Terms { scope: WRITE, ..Terms::default() }
}

/// Nothing yet. When it was written says nothing of a token.
fn objects() -> Memory {
    Memory::new(Arc::new(|| Timestamp::UNIX_EPOCH))
}

fn faulty() -> Arc<Faulty> {
    Arc::new(Faulty::new(objects()))
}

fn memory() -> Arc<dyn Storage> {
    Arc::new(objects())
}

/// Where the record of a token lies.
fn record_key(token: &Token) -> Key {
    Key::new(format!(".larder/tokens/{}.json", token.id())).unwrap()
}

/// Why a token was refused.
fn refused(checked: Result<Access, CheckError>) -> Refusal {
    match checked {
        Err(CheckError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Why it could not be told.
fn could_not_tell(checked: Result<Access, CheckError>) -> TokenError {
    match checked {
        Err(CheckError::CouldNotTell(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_allows_what_it_was_made_for_and_nothing_else() {
    let (clock, folder) = (Clock::new(), scratch("tokens"));
    let directory: Arc<dyn Storage> = Arc::new(Directory::new(&folder.path().join("cache")));
    for storage in [directory, memory()] {
        let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
        for seed in 0..8 {
            let scope = Scope { read: seed & 1 == 1, write: seed & 2 == 2 };
            let name = (seed & 4 == 4).then(|| "ci@forge".parse().unwrap());
            let token = made(seed);
            let terms = Terms { name: name.clone(), scope, expires: None };
            let record = here.create(&token, terms, clock.now()).await.unwrap();
            assert_eq!((record.id, record.scope), (token.id(), scope));
            clock.pass(seconds(5)).await;
            for tokens in [&here, &there] {
                let access = tokens.check(&presented(&token), clock.now()).await.unwrap();
                assert_eq!(access, Access { id: token.id(), name: name.clone(), scope });
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_cache_knows_no_token_of_this_one() {
    let (clock, token) = (Clock::new(), made(1));
    let (here, elsewhere) = (Tokens::new(memory()), Tokens::new(memory()));
    here.create(&token, to_write(), clock.now()).await.unwrap();
    elsewhere.create(&made(2), to_write(), clock.now()).await.unwrap();
    clock.pass(seconds(60)).await;
    let refusal = refused(elsewhere.check(&presented(&token), clock.now()).await);
    assert_eq!(refusal, Refusal::Unknown);
    assert!(here.check(&presented(&token), clock.now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_to_the_second_whether_it_was_remembered_or_not() {
    let (clock, token, storage) = (Clock::new(), made(1), memory());
    let remembering = Tokens::new(storage.clone());
    let expires = Some(clock.now() + SignedDuration::from_secs(20));
    remembering.create(&token, Terms { expires, ..to_write() }, clock.now()).await.unwrap();
    for passed in 0..40 {
        for tokens in [&remembering, &Tokens::new(storage.clone())] {
            match tokens.check(&presented(&token), clock.now()).await {
                Ok(_) => assert!(passed < 20),
                refusal => assert_eq!((refused(refusal), passed >= 20), (Refusal::Expired, true)),
            }
        }
        clock.pass(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_up_to_the_last_nanosecond_and_not_at_its_end() {
    let (clock, token, tokens) = (Clock::new(), made(1), Tokens::new(memory()));
    let expires = clock.now() + SignedDuration::new(7, 123_456_789);
    let terms = Terms { expires: Some(expires), ..to_write() };
    tokens.create(&token, terms, clock.now()).await.unwrap();
    let last = expires - SignedDuration::from_nanos(1);
    assert!(tokens.check(&presented(&token), last).await.is_ok());
    assert_eq!(refused(tokens.check(&presented(&token), expires).await), Refusal::Expired);
}

#[tokio::test(start_paused = true)]
async fn what_was_made_to_have_expired_is_never_good() {
    let (clock, token, tokens) = (Clock::new(), made(1), Tokens::new(memory()));
    let terms = Terms { expires: Some(Timestamp::MIN), ..to_write() };
    tokens.create(&token, terms, clock.now()).await.unwrap();
    assert_eq!(refused(tokens.check(&presented(&token), clock.now()).await), Refusal::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_and_an_unknown_id_are_refused_in_the_same_words() {
    let (clock, tokens) = (Clock::new(), Tokens::new(memory()));
    let (good, also_good, unknown) = (made(1), made(2), made(3));
    for token in [&good, &also_good] {
        tokens.create(token, to_write(), clock.now()).await.unwrap();
    }
    let mut answers = Vec::new();
    for wrong in [
        mixed(&good, &unknown),
        mixed(&good, &also_good),
        mixed(&unknown, &good),
        presented(&unknown),
    ] {
        // The first time it is looked up, and then remembered.
        for _ in 0..2 {
            let answer = tokens.check(&wrong, clock.now()).await;
            answers.push((format!("{answer:?}"), answer.unwrap_err().to_string()));
        }
    }
    let same = ("Err(Refused(Unknown))".to_owned(), "this cache knows no such token".to_owned());
    assert_eq!(answers, vec![same; 8]);
}

#[tokio::test(start_paused = true)]
async fn only_who_has_the_secret_learns_that_a_token_was_good_once() {
    let (clock, storage) = (Clock::new(), memory());
    let (expired, revoked, both) = (made(1), made(2), made(3));
    let tokens = Tokens::new(storage.clone());
    let over = Terms { expires: Some(clock.now() + SignedDuration::from_secs(1)), ..to_write() };
    for (token, terms) in [(&expired, &over), (&revoked, &to_write()), (&both, &over)] {
        tokens.create(token, terms.clone(), clock.now()).await.unwrap();
    }
    for token in [&revoked, &both] {
        tokens.revoke(token.id(), clock.now()).await.unwrap();
    }
    clock.pass(seconds(1)).await;
    for tokens in [tokens, Tokens::new(storage)] {
        let check = async |shown| refused(tokens.check(&shown, clock.now()).await);
        assert_eq!(check(presented(&expired)).await, Refusal::Expired);
        assert_eq!(check(presented(&revoked)).await, Refusal::Revoked);
        assert_eq!(check(presented(&both)).await, Refusal::Revoked);
        for token in [&expired, &revoked, &both] {
            assert_eq!(check(mixed(token, &made(9))).await, Refusal::Unknown);
        }
    }
}

#[test]
fn a_text_of_another_form_is_no_token() {
    let token = made(1);
    let good = token.expose();
    let (id, secret) = (token.id().to_string(), secret(&token));
    // Of the first character of a secret only one bit counts.
    let spilling = format!("larder_{id}_z{}", &secret[1..]);
    let mut odd = vec![
        String::new(),
        "larder_".to_owned(),
        "larder__".to_owned(),
        secret.to_owned(),
        id.clone(),
        format!("{id}_{secret}"),
        format!("larder_{id}"),
        format!("larder_{id}_"),
        format!("larder_{id}{secret}"),
        format!("larder_{secret}_{id}"),
        format!("larder__{id}_{secret}"),
        format!("larder_{id}__{secret}"),
        format!("larder_{id}_{secret}_"),
        format!("larder_{id}_{secret}\n"),
        format!(" larder_{id}_{secret}"),
        format!("larder_{id}_{secret}0"),
        format!("larder_{id}0_{secret}"),
        format!("larder_{}_{secret}", &id[1..]),
        format!("larder_{id}_{}", &secret[1..]),
        format!("Larder_{id}_{secret}"),
        good.to_uppercase(),
        spilling,
        format!("larder_{id}_{}\u{e9}", &secret[..50]),
        format!("larder_{id}_{}", "0".repeat(1_000_000)),
    ];
    odd.extend(["e", "o", "t", "u", "A", "-", "\0"].map(|it| good.replacen(&id[..1], it, 1)));
    odd.retain(|text| text != good);
    for text in odd {
        assert_eq!(Presented::parse(&text), None, "{text:?}");
    }
    assert!(Presented::parse(good).is_some());
}
