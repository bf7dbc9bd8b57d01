//! Tokens as people and programs carry them: `larder_<id>_<secret>`.
//!
//! The prefix lets scanners for secrets know one where it should not be. The id is public: it is in lists
//! and logs. Only who made a token ever has its text; what is kept is a hash of it.

use std::{fmt, str::FromStr};

use larder_formats::{hash::Sha256, nix32};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What every token begins with.
const PREFIX: &str = "larder_";

/// Bytes of an id: 16 characters of nix32.
const ID: usize = 10;

/// Bytes of a secret: 52 characters of nix32. More than anybody can try.
const SECRET: usize = 32;

/// Random bytes that a token is made of.
pub const RANDOM_BYTES: usize = ID + SECRET;

/// Which token it is: 16 characters of nix32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; ID]);

/// A text that is no token's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no token's id, which is the middle part of `larder_<id>_<secret>`: 16 characters")]
pub struct TokenIdError;

/// A new token, with its secret.
pub struct Token {
    id: TokenId,
    text: Zeroizing<String>,
}

/// What somebody shows as a token: its id, and the hash of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    id: TokenId,
    hash: Sha256,
}

impl TokenId {
    /// A number below `parts` that is the same for the same id.
    pub(super) fn spread(self, parts: usize) -> usize {
        usize::from(self.0[0]) % parts
    }
}

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        nix32::decode_array(text).map(Self).map_err(|_| TokenIdError)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&nix32::encode(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Token {
    /// The token that those bytes make, which nobody else may be able to know.
    #[must_use]
    pub fn from_random(random: &Zeroizing<[u8; RANDOM_BYTES]>) -> Self {
        let mut id = [0; ID];
        let (public, secret) = random.split_at(ID);
        id.copy_from_slice(public);
        let id = TokenId(id);
        let secret = Zeroizing::new(nix32::encode(secret));
        Self { id, text: Zeroizing::new(format!("{PREFIX}{id}_{}", *secret)) }
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The whole token, for the one who will use it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What is kept of it. A secret of 256 random bits cannot be guessed by trying, so a fast hash does:
    /// slow ones are for what people make up.
    pub(super) fn hash(&self) -> Sha256 {
        Sha256::of(self.text.as_bytes())
    }
}

/// Without the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.id).finish()
    }
}

impl Presented {
    /// Reads what should be a token. Nothing where it has another form, so that no place need be asked.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = id.parse().ok()?;
        nix32::decode_array::<SECRET>(secret).map(Zeroizing::new).ok()?;
        Some(Self { id, hash: Sha256::of(text.as_bytes()) })
    }

    /// Which token it says it is.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// Whether it is the token of that hash. Takes as long whether it is or not.
    pub(super) fn is(&self, hash: &Sha256) -> bool {
        self.hash.as_bytes().ct_eq(hash.as_bytes()).into()
    }
}
