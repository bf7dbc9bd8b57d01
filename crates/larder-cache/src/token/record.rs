//! What is kept of a token: `.larder/tokens/<id>.json`.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use larder_formats::hash::Sha256;
use serde::{Deserialize, Serialize};

use super::text::{TokenId, TokenIdError};

/// The version of the format that is written, and the newest that is read.
const VERSION: u32 = 1;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;

/// What a token allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// To read the cache, if it is private; others need no token.
    pub read: bool,
    /// To upload to it.
    pub write: bool,
}

/// What people call a token: 1 to 64 letters, digits and `_ . @ + -` of ASCII.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName(String);

/// A text that is no token's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token's name is 1 to {LONGEST_NAME} letters, digits and `_ . @ + -`")]
pub struct TokenNameError;

/// A token as it is kept, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Which one it is.
    pub id: TokenId,
    /// What it is called.
    pub name: Option<TokenName>,
    /// What it allows.
    pub scope: Scope,
    /// The hash of the whole token.
    pub hash: Sha256,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is no good any more. Nothing where it stays good.
    pub expires: Option<Timestamp>,
    /// When it was called back.
    pub revoked: Option<Timestamp>,
}

/// A text that is no record of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not the JSON that belongs there.
    #[error("it is damaged ({0}); remove it, and make a new token")]
    Malformed(String),
    /// Of a later version of the format.
    #[error("it was written by a later version of Larder (format {0}): update this one")]
    Version(u32),
    /// Of another token.
    #[error("it is that of the token {0}; remove it, and make a new token")]
    OtherToken(TokenId),
}

/// Only to know how to read the rest.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    id: String,
    name: Option<String>,
    scopes: Vec<String>,
    /// nix32
    sha256: String,
    created: Timestamp,
    // Must be there, if only as null: what is lost must not make a token good for ever.
    #[serde(deserialize_with = "Option::deserialize")]
    expires: Option<Timestamp>,
    #[serde(deserialize_with = "Option::deserialize")]
    revoked: Option<Timestamp>,
}

impl Scope {
    const READ: &str = "read";
    const WRITE: &str = "write";

    fn names(self) -> impl Iterator<Item = &'static str> {
        [(self.read, Self::READ), (self.write, Self::WRITE)]
            .into_iter()
            .filter_map(|(allowed, name)| allowed.then_some(name))
    }

    /// Names that are not known allow nothing.
    fn of(names: &[String]) -> Self {
        let has = |name| names.iter().any(|it| it == name);
        Self { read: has(Self::READ), write: has(Self::WRITE) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(text: &str) -> Result<Self, TokenNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@+-".contains(&byte);
        let sound = (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(plain);
        if sound { Ok(Self(text.to_owned())) } else { Err(TokenNameError) }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TokenRecord {
    /// Reads the record that lies where that of this token should.
    pub(super) fn parse(bytes: &[u8], id: TokenId) -> Result<Self, RecordError> {
        let malformed = |error: serde_json::Error| RecordError::Malformed(error.to_string());
        let Versioned { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let written: Written = serde_json::from_slice(bytes).map_err(malformed)?;
        let damaged = |what: &str| RecordError::Malformed(what.to_owned());
        let found: TokenId = written
            .id
            .parse()
            .map_err(|error: TokenIdError| RecordError::Malformed(error.to_string()))?;
        if found != id {
            return Err(RecordError::OtherToken(found));
        }
        let name = written.name.map(|name| name.parse()).transpose();
        Ok(Self {
            id,
            name: name.map_err(|error: TokenNameError| damaged(&error.to_string()))?,
            scope: Scope::of(&written.scopes),
            hash: Sha256::parse_nix32(&written.sha256).map_err(|_| damaged("no hash"))?,
            created: written.created,
            expires: written.expires,
            revoked: written.revoked,
        })
    }

    /// The record's text.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(&Written {
            version: VERSION,
            id: self.id.to_string(),
            name: self.name.as_ref().map(TokenName::to_string),
            scopes: self.scope.names().map(str::to_owned).collect(),
            sha256: self.hash.to_nix32(),
            created: self.created,
            expires: self.expires,
            revoked: self.revoked,
        })?;
        text.push(b'\n');
        Ok(text)
    }
}
