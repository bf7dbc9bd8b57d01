//! The remote builders of the configuration.

use std::time::Duration;

use larder_fleet::builders::{Builders, Checker, Ssh};
use larder_nix::{command::CancellationToken, nix::Nix};

use crate::{clock, config::Config, environment, report::Error};

/// Longer than ssh itself waits for a connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// A build that waits for a slot is one that cannot be had now.
const BUILD_PATIENCE: Duration = Duration::from_secs(120);

/// How they are reached. Writes that down where Nix reads it.
fn ssh(config: &Config) -> Result<Ssh, Error> {
    let folder = config.state_dir.join("builders");
    Ok(Ssh::configure(&config.builders, &folder, &environment::nix_ssh_options())?)
}

/// Nix, which reaches them, and they, where there are any.
pub(crate) async fn with_nix(
    config: &Config,
    cancel: &CancellationToken,
) -> Result<(Nix, Option<Builders>), Error> {
    if config.builders.is_empty() {
        return Ok((super::nix(config, cancel).await?, None));
    }
    let environment = vec![("NIX_SSHOPTS".to_owned(), ssh(config)?.for_nix())];
    let nix = Nix::detect_with(super::layout(config)?, environment, cancel).await?;
    let builders = Builders::new(config.builders.clone(), &config.state_dir.join("builders"));
    Ok((nix, Some(builders)))
}

/// Who looks them over.
pub(crate) async fn checker(config: &Config, cancel: &CancellationToken) -> Result<Checker, Error> {
    let ssh = ssh(config)?;
    let (nix, _) = with_nix(config, cancel).await?;
    let roots = config.state_dir.join("builders/checked");
    std::fs::create_dir_all(&roots).map_err(|source| Error::Io { path: roots.clone(), source })?;
    Ok(Checker {
        nix,
        ssh,
        roots,
        clock: clock::now,
        patience: PATIENCE,
        build_patience: BUILD_PATIENCE,
    })
}
