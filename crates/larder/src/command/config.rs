//! `larder config`

use clap::Subcommand;

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
            for path in &config.serve.signing_keys {
                crate::keys::read(path)?;
            }
            say(&format!("{}: good", context.config_file().display()));
            Ok(Done::Well)
        }
    }
}
