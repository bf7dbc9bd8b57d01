//! A host believes in a revision only if everything about it is as it must be there.

use larder_fleet::{
    host::HostName,
    revision::{Circumstances, PAYLOAD_TYPE, Refusal, Revision},
};
use larder_formats::{
    envelope::{Envelope, EnvelopeError},
    signature::{PublicKey, SecretKey},
    store_path::StoreDir,
};
use proptest::prelude::*;

use crate::samples::{fleet_key, revision, time};

/// What the host `pc` knows, in the middle of January.
struct Here {
    keys: Vec<PublicKey>,
    host: HostName,
    store_dir: StoreDir,
    accepted: Option<u64>,
    allow_older: bool,
    now: &'static str,
}

fn here() -> Here {
    Here {
        keys: vec![fleet_key().public()],
        host: "pc".parse().unwrap(),
        store_dir: StoreDir::default(),
        accepted: Some(11),
        allow_older: false,
        now: "2026-01-15T00:00:00Z",
    }
}

impl Here {
    fn accept(&self, envelope: &Envelope) -> Result<Revision, Refusal> {
        let circumstances = Circumstances {
            keys: &self.keys,
            host: &self.host,
            system: "x86_64-linux",
            store_dir: &self.store_dir,
            now: time(self.now),
            accepted: self.accepted,
            allow_older: self.allow_older,
        };
        Revision::accept(envelope, &circumstances)
    }
}

fn sealed(change: impl FnOnce(&mut Revision)) -> Envelope {
    let mut revision = revision();
    change(&mut revision);
    revision.seal(&fleet_key()).unwrap()
}

#[test]
fn a_revision_that_is_as_it_must_be_is_accepted_whole() {
    let envelope = Envelope::parse(&sealed(|_| ()).to_json()).unwrap();
    assert_eq!(here().accept(&envelope).unwrap(), revision());
}

#[test]
fn one_for_another_host_is_refused() {
    let refused = here().accept(&sealed(|it| it.host = "nuc".parse().unwrap())).unwrap_err();
    assert!(matches!(&refused, Refusal::OtherHost { .. }), "{refused}");
    assert!(refused.to_string().contains("`nuc`; this is `pc`"), "{refused}");
}

#[test]
fn one_for_another_kind_of_machine_is_refused() {
    let refused = here().accept(&sealed(|it| it.system = "aarch64-linux".to_owned())).unwrap_err();
    assert!(matches!(refused, Refusal::OtherSystem { number: 12, .. }), "{refused}");
}

#[test]
fn one_for_another_store_is_refused() {
    let refused = here().accept(&sealed(|it| it.store_dir = "/gnu/store".to_owned())).unwrap_err();
    assert!(matches!(refused, Refusal::OtherStore { number: 12, .. }), "{refused}");
}

#[test]
fn one_that_has_expired_is_refused_from_that_very_moment_on() {
    let envelope = sealed(|_| ());
    let mut here = here();
    here.now = "2026-02-01T02:59:59Z";
    assert!(here.accept(&envelope).is_ok());
    here.now = "2026-02-01T03:00:00Z";
    let refused = here.accept(&envelope).unwrap_err();
    assert!(matches!(refused, Refusal::Expired { number: 12, .. }), "{refused}");
}

#[test]
fn one_by_a_key_that_is_not_listed_is_refused_and_the_key_is_named() {
    let stranger = SecretKey::from_seed("stranger-1", [9; 32]).unwrap();
    let refused = here().accept(&revision().seal(&stranger).unwrap()).unwrap_err();
    assert!(matches!(refused, Refusal::Envelope(EnvelopeError::NoTrustedKey { .. })), "{refused}");
    assert!(refused.to_string().contains("stranger-1"), "{refused}");
}

#[test]
fn one_by_another_key_of_the_same_name_is_refused() {
    let impostor = SecretKey::from_seed("fleet-1", [9; 32]).unwrap();
    let refused = here().accept(&revision().seal(&impostor).unwrap()).unwrap_err();
    assert!(matches!(refused, Refusal::Envelope(EnvelopeError::BadSignature { .. })), "{refused}");
}

#[test]
fn without_listed_keys_nothing_is_accepted() {
    let mut here = here();
    here.keys.clear();
    assert!(matches!(here.accept(&sealed(|_| ())), Err(Refusal::Envelope(_))));
}

#[test]
fn one_without_a_signature_is_refused() {
    let mut envelope = sealed(|_| ());
    envelope.signatures.clear();
    assert!(matches!(here().accept(&envelope), Err(Refusal::Envelope(_))));
}

#[test]
fn of_two_keys_while_they_are_being_replaced_one_is_enough() {
    let new = SecretKey::from_seed("fleet-2", [8; 32]).unwrap();
    let mut envelope = sealed(|_| ());
    envelope.add_signature(&new);
    let mut here = here();
    here.keys = vec![new.public()];
    assert_eq!(here.accept(&envelope).unwrap(), revision());
}

#[test]
fn one_whose_payload_was_changed_is_refused() {
    let mut envelope = sealed(|_| ());
    envelope.payload = sealed(|it| it.number = 13).payload;
    let refused = here().accept(&envelope).unwrap_err();
    assert!(matches!(refused, Refusal::Envelope(EnvelopeError::BadSignature { .. })), "{refused}");
}

#[test]
fn something_else_that_the_fleet_signed_is_refused() {
    let payload = serde_json::to_vec(&revision()).unwrap();
    let other = Envelope::sign("application/vnd.larder.other+json", payload.clone(), &fleet_key());
    let refused = here().accept(&other).unwrap_err();
    assert!(matches!(refused, Refusal::Envelope(EnvelopeError::WrongType { .. })), "{refused}");
    // The signature covers the type, so it cannot be put right afterwards.
    let renamed = Envelope { payload_type: PAYLOAD_TYPE.to_owned(), ..other };
    let refused = here().accept(&renamed).unwrap_err();
    assert!(matches!(refused, Refusal::Envelope(EnvelopeError::BadSignature { .. })), "{refused}");
}

#[test]
fn a_signed_payload_that_is_no_revision_is_refused() {
    for payload in ["", "{}", "null", "[1]", "{\"host\":\"../..\"}"] {
        let envelope = Envelope::sign(PAYLOAD_TYPE, payload.into(), &fleet_key());
        assert!(matches!(here().accept(&envelope), Err(Refusal::Payload(_))), "{payload}");
    }
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let mut json = serde_json::to_value(revision()).unwrap();
    json["format"] = 2.into();
    json["added"] = "later".into();
    let envelope = Envelope::sign(PAYLOAD_TYPE, json.to_string().into(), &fleet_key());
    assert_eq!(here().accept(&envelope).unwrap().number, 12);
}

#[test]
fn one_older_than_what_was_accepted_is_refused() {
    let mut here = here();
    here.accepted = Some(13);
    let refused = here.accept(&sealed(|_| ())).unwrap_err();
    assert!(matches!(refused, Refusal::Older { offered: 12, accepted: 13 }), "{refused}");
    assert!(refused.to_string().contains("--allow-older"), "{refused}");
}

#[test]
fn the_one_that_was_accepted_last_is_accepted_again() {
    let mut here = here();
    here.accepted = Some(12);
    assert!(here.accept(&sealed(|_| ())).is_ok());
}

#[test]
fn an_older_one_is_accepted_by_who_allows_it_but_nothing_else_is_excused() {
    let mut here = here();
    (here.accepted, here.allow_older) = (Some(13), true);
    assert_eq!(here.accept(&sealed(|_| ())).unwrap().number, 12);
    here.now = "2026-03-01T00:00:00Z";
    assert!(matches!(here.accept(&sealed(|_| ())), Err(Refusal::Expired { .. })));
}

proptest! {
    #[test]
    fn no_byte_of_an_envelope_can_be_changed(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let original = sealed(|_| ());
        let mut bytes = original.to_json().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let parsed = String::from_utf8(bytes).ok().and_then(|text| Envelope::parse(&text).ok());
        // Another spelling of the same values is the same envelope.
        if let Some(changed) = parsed.filter(|changed| *changed != original) {
            prop_assert!(here().accept(&changed).is_err(), "byte {}", at);
        }
    }
}
