//! `larder pin prune`

use crate::{
    clock,
    config::Config,
    context::say,
    report::{Done, Error},
    wiring,
};

/// Let go of what was pinned in this machine's store for a time that has passed
///
/// That is pins with an end (`--for`), and what was built here or came back from a remote builder, `pin-built` after
/// that. What nothing else keeps goes with the next collection of Nix's.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Say what would be let go; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(config: &Config, arguments: &Arguments) -> Result<Done, Error> {
    ended(config, arguments.dry_run).await?;
    Ok(Done::Well)
}

/// Drops what has ended, and says what that is.
pub(crate) async fn ended(config: &Config, dry_run: bool) -> Result<(), Error> {
    let now = clock::now();
    let what = if dry_run { "would be" } else { "is" };
    let pins = wiring::local_pins(config)?;
    let ended = if dry_run { pins.ended(now).await? } else { pins.drop_ended(now).await? };
    for pin in ended {
        say(&format!("the pin {} has ended and {what} removed", pin.name));
    }
    for path in wiring::built_pins(config)?.prune(now, dry_run)?.ended {
        say(&format!("{path} was built long enough ago and {what} no longer kept"));
    }
    Ok(())
}
