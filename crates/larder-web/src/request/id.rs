//! `x-request-id`: what a request may call itself.

use axum::http::HeaderValue;

/// Longer names than any proxy makes, in bytes.
const LONGEST: usize = 128;

/// The name of a request: 1 to 128 ASCII letters, digits and `-_.`, so that it can stand in a header and
/// in a line of a log without ending either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Takes what a client or a proxy in front calls its request; nothing, if that cannot be its name.
    pub fn parse(given: &[u8]) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let well_formed = (1..=LONGEST).contains(&given.len()) && given.iter().all(plain);
        well_formed.then(|| HeaderValue::from_bytes(given).ok()).flatten().map(Self)
    }

    /// The name as the value of a header.
    pub fn into_header(self) -> HeaderValue {
        self.0
    }
}
