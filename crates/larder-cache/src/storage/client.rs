//! How places are spoken to by HTTP: patience for slow links, none for dead ones.

use std::{error::Error, time::Duration};

use reqwest::redirect::Policy;

use super::{StorageError, StorageErrorKind};

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection whose other end confirms nothing of what was sent for so long is given up. The total
/// time of a transfer has no limit: a NAR may be large and a link slow.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// A client, which follows redirects as the policy says.
pub(super) fn client(redirects: Policy) -> Result<reqwest::Client, StorageError> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .tcp_user_timeout(UNCONFIRMED)
        .tcp_keepalive(Duration::from_secs(15))
        .redirect(redirects)
        .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| {
            StorageError::new(StorageErrorKind::Permanent, "preparing HTTPS", root_cause(error))
        })
}

/// The innermost reason, without the URL: reqwest's own text stops at "error sending request".
pub(super) fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(source) = reason {
        text = source.to_string();
        reason = source.source();
    }
    text
}
