//! JSON Web Tokens, Cachix's and many others'.

use std::ops::Range;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use larder_formats::hash::Sha256;
use serde_json::Value;

use super::{
    finding::Kind,
    randomness::is_random_mix,
    shape::Letters,
    view::{AHEAD, Found, View},
};

/// What documentation signs its samples with: whoever reads it can make such tokens.
const KNOWN_KEYS: &[&[u8]] = &[
    b"secret",
    b"your-256-bit-secret",
    b"a-string-secret-at-least-256-bits-long",
    b"super-secret-jwt-token-with-at-least-32-characters-long",
    b"your-secret-key",
    b"secret-key",
    b"key",
    b"password",
    b"changeme",
    b"shhhhh",
    b"test",
    b"",
];

/// A JSON Web Token which does not say that it ran out before `now`.
pub(super) fn any(view: View<'_>, now: Timestamp) -> Option<Found> {
    if !view.begins_a_word() {
        return None;
    }
    let part = |from: usize| Letters::Base64Url.run(view.past(from), AHEAD);
    let header = part(0);
    let payload = part(header + 1);
    let signature = part(header + payload + 2);
    let whole = header + payload + signature + 2;
    let dots = [header, header + payload + 1];
    if dots.iter().any(|dot| view.after.get(*dot) != Some(&b'.')) || signature < 43 {
        return None;
    }
    let json = |range: Range<usize>| -> Option<Value> {
        let bytes = URL_SAFE_NO_PAD.decode(view.after.get(range)?).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    json(0..header)?.get("alg")?.as_str()?;
    let claims = json(header + 1..header + 1 + payload)?;
    let expires = claims.as_object()?.get("exp").and_then(Value::as_f64);
    let is_live = expires.is_none_or(|expires| expires > now.as_second() as f64);
    let (said, signature) =
        (view.after.get(..header + 1 + payload)?, view.after.get(header + payload + 2..whole)?);
    let is_secret = is_live
        && !is_public(&claims)
        && is_random_mix(signature, 64)
        && !KNOWN_KEYS.iter().any(|key| is_signed(said, signature, key));
    is_secret.then(|| Found::new(Kind::Token("a web service"), 0, &view.after[..whole]))
}

/// What jwt.io shows to everybody, and what Supabase has browsers send.
fn is_public(claims: &Value) -> bool {
    let says = |name: &str, value: &str| claims.get(name).is_some_and(|it| it == value);
    says("name", "John Doe") || says("sub", "1234567890") || says("role", "anon")
}

/// Whether this is the HMAC by SHA-256 (RFC 2104), with a key no longer than a block.
fn is_signed(said: &[u8], signature: &[u8], key: &[u8]) -> bool {
    let Some(signature) = URL_SAFE_NO_PAD.decode(signature).ok().filter(|it| it.len() == 32) else {
        return false;
    };
    let padded = |filler: u8| {
        let mut block = vec![filler; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::of(&[&padded(0x36), said].concat());
    let outer = Sha256::of(&[padded(0x5c).as_slice(), inner.as_bytes()].concat());
    signature == outer.as_bytes()
}
