//! `larder cache`

mod check;
mod repair;

use clap::Subcommand;
use larder_cache::{
    gc::check::{Checker, Found},
    push::Event,
};

use crate::{
    context::Context,
    report::{Done, Error},
    view::push::Board,
};

/// Find what is wrong with a cache, and mend it
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(check::Arguments),
    Repair(repair::Arguments),
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    match &arguments.action {
        Action::Check(arguments) => check::run(context, &config, arguments).await,
        Action::Repair(arguments) => repair::run(context, &config, arguments).await,
    }
}

/// What is wrong; NARs are read for it if that is wanted.
async fn found(checker: &Checker, contents: bool) -> Result<Found, Error> {
    let snapshot = checker.look().await?;
    let mut found = checker.check(&snapshot).await?;
    if contents {
        let board = Board::new("reading", snapshot.nars().iter().map(|nar| nar.size).sum());
        let observer = board.observer();
        let passed = |bytes| observer(Event::Passed(usize::try_from(bytes).unwrap_or(usize::MAX)));
        checker.read(&snapshot, &mut found, &|_, _| true, &passed).await;
    }
    Ok(found)
}
