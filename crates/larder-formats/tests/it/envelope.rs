//! DSSE envelopes.

use larder_formats::envelope::{Envelope, EnvelopeError, pre_authentication_encoding};
use larder_formats::signature::SecretKey;
use proptest::prelude::*;

const TYPE: &str = "application/vnd.example+json";

fn key(name: &str, seed: u8) -> SecretKey {
    SecretKey::from_seed(name, [seed; 32]).unwrap()
}

#[test]
fn the_encoding_that_is_signed_is_the_example_of_the_specification() {
    // The test vector in DSSE's protocol.md.
    let encoding = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
    assert_eq!(encoding, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn a_payload_comes_back_only_under_its_type_and_a_listed_key() {
    let envelope = Envelope::sign(TYPE, b"{}".to_vec(), &key("fleet-1", 1));
    let fleet = key("fleet-1", 1).public();
    assert_eq!(envelope.verify(TYPE, &[key("other", 2).public(), fleet.clone()]).unwrap(), b"{}");
    assert!(matches!(envelope.verify("other", &[fleet]), Err(EnvelopeError::WrongType { .. })));
    let found = match envelope.verify(TYPE, &[key("other", 2).public()]) {
        Err(EnvelopeError::NoTrustedKey { found }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(found, ["fleet-1"]);
}

#[test]
fn an_altered_payload_and_another_key_of_the_same_name_are_bad_signatures() {
    let envelope = Envelope::sign(TYPE, b"{}".to_vec(), &key("fleet-1", 1));
    let altered = Envelope { payload: b"[]".to_vec(), ..envelope.clone() };
    let bad = |envelope: &Envelope, seed| {
        let result = envelope.verify(TYPE, &[key("fleet-1", seed).public()]);
        matches!(result, Err(EnvelopeError::BadSignature { keyids }) if keyids == ["fleet-1"])
    };
    assert!(bad(&altered, 1));
    assert!(bad(&envelope, 2));
    let mut short = envelope.clone();
    short.signatures[0].sig.pop();
    assert!(bad(&short, 1));
}

#[test]
fn one_good_signature_among_several_suffices() {
    let mut envelope = Envelope::sign(TYPE, b"{}".to_vec(), &key("unknown", 3));
    envelope.add_signature(&key("fleet-1", 9));
    envelope.add_signature(&key("fleet-2", 2));
    let keys = [key("fleet-1", 1).public(), key("fleet-2", 2).public()];
    assert!(envelope.verify(TYPE, &keys).is_ok());
    // A key that was replaced under the same name: both are tried.
    let keys = [key("fleet-2", 5).public(), key("fleet-2", 2).public()];
    assert!(envelope.verify(TYPE, &keys).is_ok());
}

#[test]
fn without_signatures_nothing_is_trusted() {
    let json = format!(r#"{{"payload":"e30=","payloadType":"{TYPE}","signatures":[]}}"#);
    let envelope = Envelope::parse(&json).unwrap();
    let result = envelope.verify(TYPE, &[key("a", 1).public()]);
    assert!(matches!(result, Err(EnvelopeError::NoTrustedKey { found }) if found.is_empty()));
}

#[test]
fn the_json_is_that_of_the_specification() {
    let envelope = Envelope::sign(TYPE, vec![0xfb, 0xff], &key("fleet-1", 1));
    insta::assert_snapshot!(
        envelope.to_json(),
        @r#"{"payload":"+/8=","payloadType":"application/vnd.example+json","signatures":[{"keyid":"fleet-1","sig":"2CXKCIvFxmUntsODOlMCfJGH3W74vGG/b5oOpeZ131xCJJ2aEQMd2UpswQhoZK6XUsSY+98vOU8yWM1n851QBg=="}]}"#
    );
    assert_eq!(Envelope::parse(&envelope.to_json()).unwrap(), envelope);
    // Either alphabet of base 64 may be used; keyid is optional.
    let json = r#"{"payload":"-_8=","payloadType":"t","signatures":[{"sig":"AA=="}],"x":1}"#;
    let parsed = Envelope::parse(json).unwrap();
    assert_eq!((parsed.payload, parsed.signatures[0].keyid.as_str()), (vec![0xfb, 0xff], ""));
}

#[test]
fn what_is_no_envelope_is_malformed() {
    assert!(matches!(Envelope::parse("<html>"), Err(EnvelopeError::Malformed(_))));
    assert!(matches!(Envelope::parse("{}"), Err(EnvelopeError::Malformed(_))));
    let json = r#"{"payload":"!","payloadType":"t","signatures":[]}"#;
    assert!(matches!(Envelope::parse(json), Err(EnvelopeError::Base64("the payload"))));
}

proptest! {
    #[test]
    fn envelopes_round_trip(payload: Vec<u8>, payload_type: String, seed: [u8; 32]) {
        let key = SecretKey::from_seed("k", seed).unwrap();
        let envelope = Envelope::sign(&payload_type, payload.clone(), &key);
        let again = Envelope::parse(&envelope.to_json()).unwrap();
        prop_assert_eq!(&again, &envelope);
        prop_assert_eq!(again.verify(&payload_type, &[key.public()]).unwrap(), payload);
    }
}
