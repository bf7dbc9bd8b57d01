//! Whatever the bytes: tokens, texts and records are read as they were written, and in no other way.

use jiff::Timestamp;
use larder_cache::token::{
    Access, Presented, RANDOM_BYTES, Refusal, Scope, Terms, Token, TokenId, TokenName, TokenRecord,
    Tokens,
};
use proptest::{array::uniform, prelude::*, test_runner::RngSeed};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::{memory, presented, refused};

/// The same cases each time.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(2026), ..ProptestConfig::default() }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn tokens() -> impl Strategy<Value = Token> {
    uniform::<_, RANDOM_BYTES>(any::<u8>())
        .prop_map(|random| Token::from_random(&Zeroizing::new(random)))
}

fn times() -> impl Strategy<Value = Timestamp> {
    let nanoseconds = Timestamp::MIN.as_nanosecond()..=Timestamp::MAX.as_nanosecond();
    nanoseconds.prop_map(|nanosecond| Timestamp::from_nanosecond(nanosecond).unwrap())
}

fn terms() -> impl Strategy<Value = Terms> {
    let name = proptest::option::of("[A-Za-z0-9_.@+-]{1,64}");
    let scope = any::<(bool, bool)>();
    (name, scope, proptest::option::of(times())).prop_map(|(name, (read, write), expires)| Terms {
        name: name.map(|name| name.parse().unwrap()),
        scope: Scope { read, write },
        expires,
    })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn any_token_is_read_as_it_was_made(token in tokens()) {
        let shown = Presented::parse(token.expose());
        prop_assert_eq!(shown.map(|shown| shown.id()), Some(token.id()));
        prop_assert_eq!(token.id().to_string().parse::<TokenId>(), Ok(token.id()));
    }

    #[test]
    fn what_is_taken_for_a_token_has_its_three_parts(
        text in prop_oneof![
            any::<String>(),
            "(larder_)?[0-9a-z_]{0,90}",
            "larder_[0-9a-df-np-su-z]{15,17}_[01]?[0-9a-df-np-su-z]{51}_?",
            "larder_[0-9a-df-np-su-z]{16}_[0-3][0-9a-df-np-su-z]{51}",
            "larder_[0-9a-z]{16}_[01][0-9a-z]{51}",
        ]
    ) {
        let nix32 = |text: &str| text.bytes().all(|byte| {
            b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte)
        });
        let parts: Vec<&str> = text.split('_').collect();
        let is_token = match parts[..] {
            ["larder", id, secret] => {
                id.len() == 16 && secret.len() == 52 && nix32(id) && nix32(secret)
                    && matches!(secret.as_bytes()[0], b'0' | b'1')
            }
            _ => false,
        };
        let shown = Presented::parse(&text);
        prop_assert_eq!(shown.is_some(), is_token, "{}", text);
        if let Some(shown) = shown {
            prop_assert_eq!(shown.id().to_string(), parts[1]);
        }
    }

    #[test]
    fn what_is_taken_for_a_name_is_kept_as_it_is(text in "\\PC{0,70}|[A-Za-z0-9_.@+-]{0,66}") {
        if let Ok(name) = text.parse::<TokenName>() {
            prop_assert_eq!(name.to_string(), text.clone());
            prop_assert!((1..=64).contains(&text.len()) && text.is_ascii());
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn records_are_read_as_they_were_written(
        made in proptest::collection::vec((tokens(), terms(), times()), 0..5),
        now in times(),
    ) {
        runtime().block_on(async {
            let storage = memory();
            let (here, there) = (Tokens::new(storage.clone()), Tokens::new(storage));
            let mut expected: Vec<TokenRecord> = Vec::new();
            for (token, terms, created) in &made {
                expected.push(here.create(token, terms.clone(), *created).await.unwrap());
            }
            expected.sort_by_key(|record| (record.created, record.id));
            let listed = there.list().await.unwrap();
            assert!(listed.unreadable.is_empty(), "{:?}", listed.unreadable);
            assert_eq!(listed.tokens, expected);
            for (token, terms, created) in made {
                let record = expected.iter().find(|record| record.id == token.id()).unwrap();
                assert_eq!((record.created, record.expires), (created, terms.expires));
                let Terms { name, scope, expires } = terms;
                let checked = there.check(&presented(&token), now).await;
                match expires.is_some_and(|expires| expires <= now) {
                    true => assert_eq!(refused(checked), Refusal::Expired),
                    false => assert_eq!(checked.unwrap(), Access { id: token.id(), name, scope }),
                }
            }
        });
    }

    #[test]
    fn a_token_with_another_character_is_another(
        token in tokens(),
        at in 0..76_usize,
        letter in "[ -~]",
    ) {
        let mut text = token.expose().to_owned();
        text.replace_range(at..=at, &letter);
        prop_assume!(text != token.expose());
        runtime().block_on(async {
            let (tokens, now) = (Tokens::new(memory()), Timestamp::UNIX_EPOCH);
            tokens.create(&token, Terms::default(), now).await.unwrap();
            if let Some(shown) = Presented::parse(&text) {
                assert_eq!(refused(tokens.check(&shown, now).await), Refusal::Unknown);
            }
            assert!(tokens.check(&presented(&token), now).await.is_ok());
        });
    }
}
