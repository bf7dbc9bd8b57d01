//! How others are spoken to by HTTP: patience for slow links, none for dead ones.

use std::{error::Error, time::Duration};

use reqwest::{ClientBuilder, redirect::Policy};

/// A connection whose other end confirms nothing of what was sent for so long is given up.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// Who speaks, to be told what else it is to do: it gives up dead connections, says who it is, and follows no redirect,
/// which may lead to whom a token is not for.
pub fn client() -> ClientBuilder {
    reqwest::Client::builder()
        .tcp_user_timeout(UNCONFIRMED)
        .tcp_keepalive(Duration::from_secs(15))
        .redirect(Policy::none())
        .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
}

/// The innermost reason, without the address: reqwest's own text stops at "error sending request".
#[must_use]
pub fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(source) = reason {
        text = source.to_string();
        reason = source.source();
    }
    text
}
