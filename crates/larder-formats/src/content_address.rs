//! Content addresses: the `CA` field, by which a path proves itself without a signature.
//!
//! Promise: a [`ContentAddress`] is one Nix can read, kept in the text it came in. It can say
//! which store path it makes, so a narinfo that claims to be content-addressed can be held to it.
//!
//! The forms are `text:sha256:…` (files written by the evaluator, derivations among them),
//! `fixed:<algorithm>:…` (a flat file), `fixed:r:<algorithm>:…` (a NAR) and
//! `fixed:git:<algorithm>:…` (a git object).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::Sha256;
use crate::nix32;
use crate::store_path::{StoreDir, StorePath, StorePathHash};

/// A content address as Nix writes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentAddress(String);

/// Why a text is not a content address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a content address: expected text:sha256:… or fixed:[r:|git:]<algorithm>:… \
     with a hash of the algorithm's length"
)]
pub struct ContentAddressError(String);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Text,
    Flat,
    Nar,
    Git,
}

struct Parts<'a> {
    method: Method,
    algorithm: &'a str,
    digest: Vec<u8>,
}

impl ContentAddress {
    /// The text, `text:…` or `fixed:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The store path that content with this address, name and references has. `None` for
    /// combinations that Nix does not allow, such as references of a flat file.
    ///
    /// This is `makeStorePath` and its callers in Nix's libstore.
    #[must_use]
    pub fn store_path(
        &self,
        store_dir: &StoreDir,
        name: &str,
        references: &BTreeSet<StorePath>,
        refers_to_itself: bool,
    ) -> Option<StorePath> {
        let Parts { method, algorithm, digest } = parts(&self.0)?;
        let hex = base16(&digest);
        let (kind, inner) = match method {
            Method::Text if !refers_to_itself => (with("text", store_dir, references), hex),
            Method::Nar if algorithm == "sha256" => {
                let kind = with("source", store_dir, references);
                (if refers_to_itself { kind + ":self" } else { kind }, hex)
            }
            Method::Flat | Method::Nar | Method::Git
                if references.is_empty() && !refers_to_itself =>
            {
                let prefix = method.prefix();
                let inner = format!("fixed:out:{prefix}{algorithm}:{hex}:");
                ("output:out".to_owned(), Sha256::of(inner.as_bytes()).to_base16())
            }
            _ => return None,
        };
        let text = format!("{kind}:sha256:{inner}:{store_dir}:{name}");
        StorePath::new(folded(&Sha256::of(text.as_bytes())), name).ok()
    }
}

impl Method {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Text | Self::Flat => "",
            Self::Nar => "r:",
            Self::Git => "git:",
        }
    }
}

impl FromStr for ContentAddress {
    type Err = ContentAddressError;

    fn from_str(text: &str) -> Result<Self, ContentAddressError> {
        match parts(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(ContentAddressError(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parts(text: &str) -> Option<Parts<'_>> {
    let (method, hash) = if let Some(hash) = text.strip_prefix("text:") {
        (Method::Text, hash)
    } else {
        let rest = text.strip_prefix("fixed:")?;
        let nar = rest.strip_prefix("r:").map(|hash| (Method::Nar, hash));
        let git = || rest.strip_prefix("git:").map(|hash| (Method::Git, hash));
        nar.or_else(git).unwrap_or((Method::Flat, rest))
    };
    let (algorithm, digits) = hash.split_once(':')?;
    let bytes = match algorithm {
        "md5" if method != Method::Text => 16,
        "sha1" if method != Method::Text => 20,
        "sha256" => 32,
        "blake3" if method != Method::Text => 32,
        "sha512" if method != Method::Text => 64,
        _ => return None,
    };
    Some(Parts { method, algorithm, digest: digest(digits, bytes)? })
}

/// Reads a digest of `bytes` bytes in whichever base its length tells, as Nix does.
fn digest(digits: &str, bytes: usize) -> Option<Vec<u8>> {
    if digits.len() == nix32::encoded_len(bytes) {
        nix32::decode(digits).ok()
    } else if digits.len() == bytes * 2 {
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        let byte = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(value(high)? << 4 | value(low)?).ok(),
            _ => None,
        };
        digits.as_bytes().chunks(2).map(byte).collect()
    } else if digits.len() == bytes.div_ceil(3) * 4 {
        STANDARD.decode(digits).ok().filter(|decoded| decoded.len() == bytes)
    } else {
        None
    }
}

fn base16(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn with(kind: &str, store_dir: &StoreDir, references: &BTreeSet<StorePath>) -> String {
    references.iter().fold(kind.to_owned(), |mut text, path| {
        text.push(':');
        text.push_str(&store_dir.display(path));
        text
    })
}

/// Nix shortens a hash to 20 bytes by folding it: byte `i` is combined into byte `i mod 20`.
fn folded(hash: &Sha256) -> StorePathHash {
    let mut short = [0; 20];
    for (index, byte) in hash.as_bytes().iter().enumerate() {
        short[index % 20] ^= byte;
    }
    StorePathHash::from_bytes(short)
}
