//! What opening a place may need beside its address: secrets, which no address holds, and choices of
//! the machine that opens it.

use std::{fmt, path::PathBuf, time::Duration};

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
    /// A certificate and its private key in PEM, by which a server by HTTPS knows who asks.
    pub client_certificate: Option<Secret>,
    /// How long servers are waited for.
    pub patience: Patience,
    /// Whether what is written can be had again, so that a folder need not wait for its disk.
    pub fleeting: bool,
}

/// How long a server or a bucket is waited for, and how often it is asked. The total time of a transfer has no
/// limit: a NAR may be large and a link slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until an answer begins, when nothing was sent that would take the server time.
    pub answer: Duration,
    /// Without a byte for so long, a transfer is given up.
    pub stalled: Duration,
    /// How often what may pass is tried again.
    pub retries: usize,
}

impl Default for Patience {
    /// For work that has time, and should not fail for a moment's trouble.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            stalled: Duration::from_secs(60),
            retries: 3,
        }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever needs it to do its work.
    pub fn reveal(&self) -> &str {
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
