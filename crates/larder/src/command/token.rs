//! `larder token`

mod create;
mod list;
mod revoke;

use std::sync::Arc;

use clap::Subcommand;
use larder_cache::token::Tokens;

use crate::{
    config::Config,
    context::Context,
    report::{Done, Error},
    wiring::caches,
};

/// Make, list and revoke the tokens by which others upload to a cache, or read a private one
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(create::Arguments),
    List(list::Arguments),
    Revoke(revoke::Arguments),
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    let work = async {
        match &arguments.action {
            Action::Create(arguments) => create::run(&config, arguments).await,
            Action::List(arguments) => list::run(&config, arguments).await,
            Action::Revoke(arguments) => revoke::run(&config, arguments).await,
        }
    };
    tokio::select! {
        done = work => done,
        () = context.cancel.cancelled() => Err(Error::Cancelled),
    }
}

/// The tokens of each of these caches, all of them for none, by the caches' names.
fn tokens(config: &Config, names: &[String]) -> Result<Vec<(String, Tokens)>, Error> {
    let all = || config.caches.iter().filter(|cache| !cache.url.is_a_server());
    let names: Vec<String> = match names {
        [] => all().map(|cache| cache.name.to_string()).collect(),
        some => some.to_vec(),
    };
    if names.is_empty() {
        return Err(Error::NoCaches);
    }
    let open = |name: &String| {
        let target = caches::target(config, name)?;
        if !target.is_ours() {
            return Err(Error::TokensElsewhere(name.clone()));
        }
        Ok((target.name.clone(), Tokens::new(Arc::clone(&target.storage))))
    };
    names.iter().map(open).collect()
}
