//! Ed25519 keys and signatures as Nix writes them: `name:base64`.
//!
//! Promise: a secret key is wiped when dropped and never printed by accident; a public key
//! belongs to its secret key; a signature verifies only as libsodium, which Nix uses, would
//! accept it. Which keys are trusted is the caller's business.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::hash::Sha256;
use crate::store_path::{StoreDir, StorePath};

/// A key that signs. Wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

/// A key that signatures are checked against; printed as `name:base64(32 bytes)`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

/// A signature and the name of the key said to have made it; printed as `name:base64(64 bytes)`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    key_name: String,
    bytes: [u8; 64],
}

/// Why a text is not a key or a signature. Never contains key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is no colon.
    #[error("a {0} has the form `name:base64`, but there is no colon")]
    NoColon(&'static str),
    /// The name is empty or holds a colon, white space or control characters.
    #[error("{0:?} is not a key name: it must not be empty or hold colons or white space")]
    Name(String),
    /// What follows the colon is not base 64 of the right number of bytes.
    #[error("the {what} named {name:?} must have {expected} bytes in base 64 after the colon")]
    Payload {
        /// Which kind of text this should have been.
        what: &'static str,
        /// The key's name.
        name: String,
        /// How many bytes there should have been.
        expected: usize,
    },
    /// The second half of a secret key is not the public key of its first half.
    #[error("the secret key named {0:?} is damaged: its two halves do not belong together")]
    Mismatch(String),
    /// The bytes are no point of the curve, so nothing could ever verify.
    #[error("the public key named {0:?} is not an Ed25519 key")]
    NotAKey(String),
}

impl SecretKey {
    /// A key from 32 random bytes.
    ///
    /// # Errors
    /// [`SignatureError::Name`].
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, SignatureError> {
        let seed = Zeroizing::new(seed);
        Ok(Self { name: checked_name(name)?, key: SigningKey::from_bytes(&seed) })
    }

    /// Reads a secret key file: `name:base64(64 bytes)`, seed and public key. White space around
    /// it is ignored, since editors add a newline.
    ///
    /// # Errors
    /// [`SignatureError`], also when the two halves do not belong together.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let (name, bytes) = split::<64>("secret key", text.trim_ascii())?;
        let bytes = Zeroizing::new(bytes);
        let key = SigningKey::from_keypair_bytes(&bytes)
            .map_err(|_| SignatureError::Mismatch(name.clone()))?;
        Ok(Self { name, key })
    }

    /// The secret key in the form of Nix's key files (without a newline, as Nix writes them).
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.key.to_keypair_bytes());
        let mut text = Zeroizing::new(String::with_capacity(self.name.len() + 1 + 88));
        text.push_str(&self.name);
        text.push(':');
        STANDARD.encode_string(bytes.as_slice(), &mut text);
        text
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature { key_name: self.name.clone(), bytes: self.key.sign(message).to_bytes() }
    }
}

impl PublicKey {
    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether this key, under this name, made the signature over the message.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.key_name == self.name && self.key.verify_strict(message, &bytes).is_ok()
    }
}

impl Signature {
    /// Puts a signature together from the key's name and the 64 bytes.
    ///
    /// # Errors
    /// [`SignatureError::Name`].
    pub fn new(key_name: &str, bytes: [u8; 64]) -> Result<Self, SignatureError> {
        Ok(Self { key_name: checked_name(key_name)?, bytes })
    }

    /// The name of the key said to have made it.
    #[must_use]
    pub fn key_name(&self) -> &str {
        &self.key_name
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.bytes
    }
}

/// What a narinfo's `Sig` signs: `1;<path>;sha256:<nix32>;<NAR size in bytes>;<references>`, the
/// references as full paths, sorted and joined by commas.
#[must_use]
pub fn fingerprint(
    store_dir: &StoreDir,
    path: &StorePath,
    nar_hash: &Sha256,
    nar_size: u64,
    references: &BTreeSet<StorePath>,
) -> String {
    let references: Vec<_> = references.iter().map(|path| store_dir.display(path)).collect();
    format!("1;{};{nar_hash};{nar_size};{}", store_dir.display(path), references.join(","))
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}:<redacted>)", self.name)
    }
}

impl FromStr for PublicKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let (name, bytes) = split::<32>("public key", text)?;
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) => Ok(Self { name, key }),
            Err(_) => Err(SignatureError::NotAKey(name)),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.key.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.name, self.key.as_bytes()).cmp(&(&other.name, other.key.as_bytes()))
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let (key_name, bytes) = split::<64>("signature", text)?;
        Ok(Self { key_name, bytes })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key_name, STANDARD.encode(self.bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Splits `name:base64` at the first colon and decodes exactly `N` bytes.
fn split<const N: usize>(
    what: &'static str,
    text: &str,
) -> Result<(String, [u8; N]), SignatureError> {
    let (name, payload) = text.split_once(':').ok_or(SignatureError::NoColon(what))?;
    let name = checked_name(name)?;
    let bytes = match payload.len() == N.div_ceil(3) * 4 {
        true => Zeroizing::new(STANDARD.decode(payload).unwrap_or_default()),
        false => Zeroizing::default(),
    };
    match bytes.as_slice().try_into() {
        Ok(bytes) => Ok((name, bytes)),
        Err(_) => Err(SignatureError::Payload { what, name, expected: N }),
    }
}

fn checked_name(name: &str) -> Result<String, SignatureError> {
    let forbidden = |c: char| c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.contains(forbidden) {
        return Err(SignatureError::Name(name.chars().take(100).collect()));
    }
    Ok(name.to_owned())
}
