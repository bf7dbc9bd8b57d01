//! The words that builders are described with, each held to what cannot break out of its place.
//!
//! They stand in Nix's machines list (fields between white space, items between commas, entries ended by a line's
//! end or `;`, `#` beginning a comment, `-` alone meaning the default), in ssh's configuration and in its arguments.

use std::{fmt, path::Path, path::PathBuf, str::FromStr};

/// What cannot be such a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be {what}: {remedy}")]
pub struct WordError {
    /// The text.
    pub text: String,
    /// What it should have been.
    pub what: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
}

const LONGEST: usize = 255;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $remedy:literal, $good:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(text: &str) -> Result<Self, WordError> {
                let good: fn(&str) -> bool = $good;
                if (1..=LONGEST).contains(&text.len()) && good(text) {
                    return Ok(Self(text.to_owned()));
                }
                let text = text.chars().take(LONGEST).collect();
                Err(WordError { text, what: $what, remedy: $remedy })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

word!(
    /// What a builder is called here.
    BuilderName,
    "a builder's name",
    "use letters, digits and `_ . -`, beginning with a letter or a digit",
    |text| made_of(text, "_.-")
);

word!(
    /// A system type, such as `aarch64-linux`, or a feature, such as `kvm`.
    Word,
    "a system or a feature",
    "use letters, digits and `_ . + -`, beginning with a letter or a digit",
    |text| made_of(text, "_.+-")
);

word!(
    /// Whom ssh connects to: a name, an alias of ssh's configuration, or an address, without a port. Never `localhost`,
    /// where Nix leaves ssh out and builds as itself; lower-case, as ssh compares it.
    SshHost,
    "a builder's host",
    "use lower-case letters, digits and `_ . -`, beginning with a letter or a digit, and `127.0.0.1` for this machine; \
     other addresses (IPv6) need a `Host` of their own in ssh's configuration",
    |text| made_of(text, "_.-")
        && text != "localhost"
        && !text.chars().any(|c| c.is_ascii_uppercase())
);

word!(
    /// Whom ssh logs in as.
    SshUser,
    "a user's name",
    "use letters, digits and `_ . -`, beginning with a letter, a digit or `_`",
    |text| made_of(text.strip_prefix('_').unwrap_or(text), "_.-")
);

/// ASCII letters and digits and some more; one of the first begins it.
fn made_of(text: &str, more: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// The file of a private key of ssh's: an absolute path of characters that neither a machines list nor ssh's
/// configuration takes for anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for KeyFile {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        if is_plain_path(text) {
            return Ok(Self(PathBuf::from(text)));
        }
        Err(WordError {
            text: text.chars().take(LONGEST).collect(),
            what: "the file of a builder's key",
            remedy: "write an absolute path of letters, digits and `/ _ . + @ : -`",
        })
    }
}

/// An absolute path that stands in a machines list, in ssh's configuration and in NIX_SSHOPTS as it is.
pub(super) fn is_plain_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 4096
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_.+@:-".contains(c))
}

/// A host's public key: its type and its base64, as in `/etc/ssh/ssh_host_ed25519_key.pub`, without the comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey(String);

impl HostKey {
    /// `ssh-ed25519 AAAA…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostKey {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is_kind = made_of(kind, "@.-") && kind.len() <= 64;
        let is_key = key.starts_with("AAAA")
            && key.len() <= 4096
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c));
        if is_kind && is_key && !text.contains(char::is_control) {
            return Ok(Self(format!("{kind} {key}")));
        }
        Err(WordError {
            text: text.chars().take(LONGEST).collect(),
            what: "a host's public key",
            remedy: "write what `cat /etc/ssh/ssh_host_ed25519_key.pub` prints on the builder: `ssh-ed25519 AAAA…`",
        })
    }
}
