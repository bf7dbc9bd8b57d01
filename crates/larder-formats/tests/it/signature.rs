//! Keys and signatures.

use larder_formats::signature::{PublicKey, SecretKey, Signature, SignatureError};
use proptest::prelude::*;

fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(name, [7; 32]).unwrap()
}

#[test]
fn a_signature_counts_only_for_its_message_key_and_name() {
    let signature = key("one").sign(b"message");
    assert_eq!(signature.key_name(), "one");
    assert!(key("one").public().verify(b"message", &signature));
    assert!(!key("one").public().verify(b"massage", &signature));
    assert!(!key("two").public().verify(b"message", &signature), "the same key, another name");
    let other = SecretKey::from_seed("one", [8; 32]).unwrap();
    assert!(!other.public().verify(b"message", &signature), "another key, the same name");
}

#[test]
fn a_secret_key_whose_halves_do_not_belong_together_is_refused() {
    use base64::Engine as _;
    let mut bytes = [7; 64];
    bytes[32..].copy_from_slice(SecretKey::from_seed("a", [8; 32]).unwrap().public().as_bytes());
    let text = format!("a:{}", base64::engine::general_purpose::STANDARD.encode(bytes));
    assert_eq!(SecretKey::parse(&text).unwrap_err(), SignatureError::Mismatch("a".to_owned()));
}

#[test]
fn a_secret_key_is_not_printed_by_accident() {
    let secret = key("fleet-1");
    assert_eq!(format!("{secret:?}"), "SecretKey(fleet-1:<redacted>)");
    let mut damaged = secret.expose().to_string();
    damaged.truncate(damaged.len() - 4);
    let error = SecretKey::parse(&damaged).unwrap_err();
    let payload = damaged.split_once(':').unwrap().1;
    assert!(!format!("{error} {error:?}").contains(&payload[..8]));
}

#[test]
fn white_space_around_a_key_file_is_no_matter() {
    let text = format!("{}\n", *key("a").expose());
    assert_eq!(SecretKey::parse(&text).unwrap().public(), key("a").public());
}

#[test]
fn malformed_keys_say_what_is_wrong() {
    let error = |text: &str| text.parse::<PublicKey>().unwrap_err();
    assert_eq!(error("abc"), SignatureError::NoColon("public key"));
    assert_eq!(error(":abc"), SignatureError::Name(String::new()));
    assert_eq!(error("a b:abc"), SignatureError::Name("a b".to_owned()));
    let payload = |text: &str| matches!(error(text), SignatureError::Payload { .. });
    assert!(payload("a:"));
    assert!(payload("a:AAAA"));
    assert!(payload(&key("a").sign(b"").to_string()));
    assert!(payload(&format!("a:{}", "!".repeat(44))));
    // 43 characters where 44 are due: the padding is missing.
    assert!(payload(key("a").public().to_string().trim_end_matches('=')));
}

#[test]
fn a_weak_public_key_verifies_nothing() {
    // The neutral element of the curve: with it, a signature can be made that fits every message.
    let weak: PublicKey = format!("a:AQ{}=", "A".repeat(41)).parse().unwrap();
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let signature = Signature::new("a", bytes).unwrap();
    assert!(!weak.verify(b"anything", &signature));
}

proptest! {
    #[test]
    fn keys_and_signatures_round_trip(seed: [u8; 32], name in "[a-z0-9.-]{1,20}", message: Vec<u8>) {
        let secret = SecretKey::from_seed(&name, seed).unwrap();
        let again = SecretKey::parse(&secret.expose()).unwrap();
        let signature: Signature = again.sign(&message).to_string().parse().unwrap();
        let public: PublicKey = secret.public().to_string().parse().unwrap();
        prop_assert!(public.verify(&message, &signature));
    }

    #[test]
    fn no_text_is_read_other_than_it_is_written(text in "[a-z]{0,2}:?[A-Za-z0-9+/=]{0,90}") {
        if let Ok(signature) = text.parse::<Signature>() {
            prop_assert_eq!(signature.to_string(), text.clone());
        }
        if let Ok(public) = text.parse::<PublicKey>() {
            prop_assert_eq!(public.to_string(), text);
        }
    }
}
