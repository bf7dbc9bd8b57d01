//! What a scan says of a secret, which is everything but the secret.

use std::{fmt, str::FromStr};

use larder_formats::{
    hash::{HashError, Sha256},
    store_path::StorePath,
};

/// A secret in a file of a store path. It does not hold the secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The store path.
    pub path: StorePath,
    /// The file inside the store path, without a slash in front; empty where the store path is a file. Bytes
    /// that are not UTF-8 are replaced, and what is longer than any path can be is cut.
    pub file: String,
    /// Where the secret begins in the file, in bytes.
    pub offset: u64,
    /// What it is.
    pub kind: Kind,
    /// By which it can be allowed.
    pub fingerprint: Fingerprint,
}

impl fmt::Display for Finding {
    /// A line for people: kind, store path, file and place, and what to put into the allow-list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, file, offset, kind, fingerprint } = self;
        write!(f, "{kind} in {path}")?;
        if !file.is_empty() {
            // A name in a NAR is whatever somebody chose, and terminals obey control characters.
            write!(f, "/{}", file.escape_debug())?;
        }
        write!(f, " at byte {offset} ({fingerprint})")
    }
}

/// What kind of secret was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A private key in PEM (RSA, EC, DSA, PKCS #8, OpenSSH, PGP) or PuTTY's form, open to whoever reads it. One of
    /// PGP may yet be behind a passphrase, which is not looked for.
    PrivateKey,
    /// The same behind a passphrase.
    EncryptedPrivateKey,
    /// An identity of age or of one of its plugins.
    AgeIdentity,
    /// A key by which Nix signs store paths.
    NixSigningKey,
    /// A private or preshared key of WireGuard.
    WireGuardKey,
    /// What a service takes for an account, by the service's name.
    Token(&'static str),
    /// A password's hash in the form of crypt(5).
    PasswordHash,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrivateKey => f.write_str("private key"),
            Self::EncryptedPrivateKey => f.write_str("private key behind a passphrase"),
            Self::AgeIdentity => f.write_str("age identity"),
            Self::NixSigningKey => f.write_str("Nix signing key"),
            Self::WireGuardKey => f.write_str("WireGuard key"),
            Self::Token(service) => write!(f, "token for {service}"),
            Self::PasswordHash => f.write_str("password hash"),
        }
    }
}

/// The SHA-256 of a secret: says which one it is to those who have it, and nothing to others, since every kind
/// of secret that is found holds too much chance to be guessed. (A password's hash is one itself, with its salt.)
///
/// Line ends and quoting inside a PEM body do not count, so a key has one fingerprint however it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// The fingerprint of a secret.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::of(secret))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Fingerprint {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        text.parse().map(Self)
    }
}
