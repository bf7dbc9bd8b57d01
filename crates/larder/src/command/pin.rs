//! `larder pin`

mod add;
mod list;
pub(super) mod prune;
mod remove;

use std::sync::Arc;

use clap::Subcommand;
use larder_cache::pin::Pins;

use crate::{
    config::Config,
    context::Context,
    report::{Done, Error},
    wiring::caches::{self, Target},
};

/// Keep store paths, with all they refer to, from being collected: here, or in a cache
///
/// A pin of this machine's store is a garbage-collector root, so Nix itself keeps what it names.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Add(add::Arguments),
    List(list::Arguments),
    Remove(remove::Arguments),
    Prune(prune::Arguments),
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    let work = async {
        match &arguments.action {
            Action::Add(arguments) => add::run(context, &config, arguments).await,
            Action::List(arguments) => list::run(&config, arguments).await,
            Action::Prune(arguments) => prune::run(&config, arguments).await,
            Action::Remove(arguments) => remove::run(&config, arguments).await,
        }
    };
    tokio::select! {
        done = work => done,
        () = context.cancel.cancelled() => Err(Error::Cancelled),
    }
}

/// A cache that is there, and its pins.
async fn of_cache(config: &Config, name: &str) -> Result<(Target, Pins), Error> {
    let target = caches::target(config, name)?.looked_after(config).await?;
    let pins = Pins::new(Arc::clone(&target.storage), caches::clock());
    Ok((target, pins))
}
