//! `larder config`

use clap::Subcommand;
use larder_fleet::night::FlakeSource;

use crate::{
    context::{Context, say},
    report::{Done, Error},
    wiring,
};

/// Look at the configuration
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read the configuration file and say everything that is wrong with it
    Check,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    match arguments.action {
        Action::Check => {
            let config = context.config()?;
            wiring::layout(&config)?;
            if let Some(flake) = &config.build.flake {
                FlakeSource::parse(flake.as_str())?;
            }
            let fleet_key = Some(&config.build.fleet_key).filter(|path| path.exists());
            let caches = config.caches.iter().flat_map(|cache| &cache.signing_keys);
            for path in config.serve.signing_keys.iter().chain(caches).chain(fleet_key) {
                crate::keys::read(path)?;
            }
            wiring::tls(&config)?;
            for receiver in &config.notify {
                wiring::notify::receiver(receiver)?;
            }
            say(&format!("{}: good", context.config_file().display()));
            Ok(Done::Well)
        }
    }
}
