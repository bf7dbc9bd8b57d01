//! How places are spoken to by HTTP: patience for slow links, none for dead ones.

use std::{error::Error, time::Duration};

use reqwest::{Identity, redirect::Policy};

use super::{StorageError, StorageErrorKind, options::OpenOptions};

/// A connection whose other end confirms nothing of what was sent for so long is given up.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// A client, which follows redirects as the policy says.
pub(super) fn client(
    redirects: Policy,
    options: &OpenOptions,
) -> Result<reqwest::Client, StorageError> {
    let failed =
        |what: &str, error| StorageError::new(StorageErrorKind::Permanent, what, root_cause(error));
    let mut builder = reqwest::Client::builder();
    if let Some(pem) = &options.client_certificate {
        let identity = Identity::from_pem(pem.reveal().as_bytes());
        builder = builder
            .identity(identity.map_err(|error| failed("reading the client certificate", error))?);
    }
    builder
        .connect_timeout(options.patience.connect)
        .tcp_user_timeout(UNCONFIRMED)
        .tcp_keepalive(Duration::from_secs(15))
        .redirect(redirects)
        .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| failed("preparing HTTPS", error))
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
