//! Which builders answer.
//!
//! Asked is what Nix's own hook asks first: that Nix over there says hello. So a host that is up without Nix, or whose
//! user may not log in, counts as one that is down. All are asked at once, each for a bounded time.

use std::time::Duration;

use futures::future::join_all;
use larder_nix::{
    command::{CancellationToken, CommandError},
    nix::{Nix, Version},
};

use super::builder::Builder;

/// Why a builder does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// It said nothing at all, or not enough.
    #[error("no answer in {} seconds", .0.as_secs())]
    Late(Duration),
    /// It, or ssh, said something else.
    #[error("{0}")]
    Refused(String),
}

/// Asks all of them; the answers come in their order.
pub(super) async fn all(
    nix: &Nix,
    builders: &[Builder],
    patience: Duration,
    cancel: &CancellationToken,
) -> Vec<Result<(), Silence>> {
    join_all(builders.iter().map(|builder| one(nix, builder, patience, cancel))).await
}

/// Asks one.
pub(super) async fn one(
    nix: &Nix,
    builder: &Builder,
    patience: Duration,
    cancel: &CancellationToken,
) -> Result<(), Silence> {
    let verb = if nix.version() < (Version { major: 2, minor: 19 }) { "ping" } else { "info" };
    let hello = nix.command("nix").args(["store", verb, "--store", &builder.uri()]);
    match tokio::time::timeout(patience, hello.output(cancel)).await {
        Err(_) => Err(Silence::Late(patience)),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(CommandError::Failed { message, .. })) => Err(Silence::Refused(reason(&message))),
        Ok(Err(error)) => Err(Silence::Refused(error.to_string())),
    }
}

/// What ssh and Nix said, on one line.
fn reason(said: &str) -> String {
    const BESIDES: [&str; 3] = ["warning:", "Warning:", "Store URL:"];
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !BESIDES.iter().any(|it| line.starts_with(it)));
    let all: Vec<&str> = lines.map(|line| line.strip_prefix("error: ").unwrap_or(line)).collect();
    match all.is_empty() {
        true => "it says nothing".to_owned(),
        false => all.join("; ").chars().take(300).collect(),
    }
}
