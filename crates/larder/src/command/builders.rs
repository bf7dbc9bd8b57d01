//! `larder builders`

mod check;
mod keygen;
mod list;

use clap::Subcommand;
use larder_fleet::builders::Builder;

use crate::{
    config::Config,
    context::Context,
    report::{Done, Error},
};

/// See who builds for this machine, and what keeps them from it
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::Arguments),
    Check(check::Arguments),
    Keygen(keygen::Arguments),
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    match &arguments.action {
        Action::List(arguments) => list::run(context, arguments),
        Action::Check(arguments) => check::run(context, arguments).await,
        Action::Keygen(arguments) => keygen::run(context, arguments).await,
    }
}

/// Those of these names; all, if none is named.
fn named<'a>(config: &'a Config, names: &[String]) -> Result<Vec<&'a Builder>, Error> {
    if config.builders.is_empty() {
        return Err(Error::NoBuilders);
    }
    let find = |name: &String| {
        let found = config.builders.iter().find(|it| it.name.as_str() == name);
        found.ok_or_else(|| {
            let known = config.builders.iter().map(|it| it.name.to_string()).collect();
            Error::NoSuchBuilder { name: name.clone(), known }
        })
    };
    match names.is_empty() {
        true => Ok(config.builders.iter().collect()),
        false => names.iter().map(find).collect(),
    }
}
