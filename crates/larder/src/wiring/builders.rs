//! The remote builders of the configuration.

use larder_fleet::builders::{Builders, Ssh};
use larder_nix::{command::CancellationToken, nix::Nix};

use crate::{config::Config, environment, report::Error};

/// How they are reached. Writes that down where Nix reads it.
pub(crate) fn ssh(config: &Config) -> Result<Ssh, Error> {
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
