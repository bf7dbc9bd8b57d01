//! What opening a place may need beside its address: secrets, which no address holds, and choices of
//! the machine that opens it.

use std::{fmt, path::PathBuf};

/// How to open a place. What is not given is found as each kind of place usually finds it.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Where objects under way to a place without temporary names lie, once they are too large for
    /// memory; the system's folder for temporary files by default.
    pub spool: Option<PathBuf>,
    /// What a binary cache server asks for.
    pub credentials: Option<Credentials>,
    /// Keys of a bucket. Otherwise the environment (`AWS_ACCESS_KEY_ID` and so on), `~/.aws` and what
    /// a cloud's machine is told by its cloud are asked, in this order.
    pub s3_keys: Option<S3Keys>,
    /// A configuration file for ssh, instead of the user's own.
    pub ssh_config: Option<PathBuf>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What shows a server who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A token, sent as `Authorization: Bearer`.
    Token(Secret),
    /// A user's name and password, as a netrc file has them.
    Basic {
        /// The user's name.
        user: String,
        /// The password; Larder's servers take a token here too.
        password: Secret,
    },
}

/// Keys of an S3 bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Keys {
    /// The access key's public half.
    pub id: String,
    /// Its secret half.
    pub secret: Secret,
    /// The token of temporary keys.
    pub session: Option<Secret>,
}
