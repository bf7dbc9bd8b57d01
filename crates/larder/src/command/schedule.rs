//! `larder schedule`

mod list;
mod run;

use clap::Subcommand;
use larder_cache::record::Name;

use crate::{
    context::Context,
    report::{Done, Error},
};

/// Say when the fleet is built by `larder serve`, and how the last runs ended
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,

    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Do now what a schedule says, as `larder serve` does at its times; for timers of your own
    Run {
        /// What the schedule is called
        name: Name,
    },
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    match &arguments.action {
        Some(Action::Run { name }) => run::run(context, &config, name).await,
        None => list::run(&config, arguments.json),
    }
}
