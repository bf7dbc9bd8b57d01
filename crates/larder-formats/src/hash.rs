//! SHA-256, the hash of NARs and of the files of a cache, in every spelling Nix reads.
//!
//! Promise: a [`Sha256`] is always 32 bytes, and is printed as `sha256:` and 52 characters of
//! Nix's base 32, the form of a narinfo. Other algorithms occur in content addresses only, which
//! [`crate::content_address`] keeps as text.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::nix32;

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

/// Computes a [`Sha256`] over bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Sha256Hasher(sha2::Sha256);

/// Why a text is not a SHA-256 hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// Neither `sha256:` nor `sha256-` leads the text.
    #[error("{0:?} is not a SHA-256 hash: it begins with neither `sha256:` nor `sha256-`")]
    Algorithm(String),
    /// The digits are in none of the three bases Nix uses.
    #[error(
        "{0:?} is not a SHA-256 hash: after the algorithm come 64 hexadecimal digits, \
         52 characters of Nix's base 32, or 44 of base 64"
    )]
    Digits(String),
}

impl Sha256 {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Takes the 32 bytes of a hash computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 52 characters of Nix's base 32, without a prefix.
    #[must_use]
    pub fn to_nix32(&self) -> String {
        nix32::encode(&self.0)
    }

    /// The 64 lower-case hexadecimal digits, without a prefix; `db.sqlite` has them.
    #[must_use]
    pub fn to_base16(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// `sha256-` and base 64, as lock files and the newer commands write it (Subresource Integrity).
    #[must_use]
    pub fn to_sri(&self) -> String {
        format!("sha256-{}", STANDARD.encode(self.0))
    }

    /// Reads 52 characters of Nix's base 32 without a prefix, as NAR URLs have it.
    ///
    /// # Errors
    /// [`HashError::Digits`].
    pub fn parse_nix32(text: &str) -> Result<Self, HashError> {
        nix32::decode_array(text).map(Self).map_err(|_| HashError::Digits(shown(text)))
    }
}

impl Sha256Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes taken.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

impl fmt::Debug for Sha256Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256Hasher")
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_nix32())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let (digits, sri) = match (text.strip_prefix("sha256:"), text.strip_prefix("sha256-")) {
            (Some(digits), _) => (digits, false),
            (None, Some(digits)) => (digits, true),
            (None, None) => return Err(HashError::Algorithm(shown(text))),
        };
        // Only base 64 is allowed after a dash; after a colon the length tells the base.
        match digits.len() {
            64 if !sri => decode_base16(digits),
            52 if !sri => nix32::decode_array(digits).ok(),
            44 => STANDARD.decode(digits).ok().and_then(|bytes| bytes.try_into().ok()),
            _ => None,
        }
        .map(Self)
        .ok_or_else(|| HashError::Digits(shown(text)))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn decode_base16(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut values = digits.chars().map(|digit| digit.to_digit(16));
    for byte in &mut bytes {
        let (high, low) = (values.next()??, values.next()??);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

/// As much of a hostile text as belongs in a message.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}
