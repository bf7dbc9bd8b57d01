//! `larder push`

mod cachix;
mod queue;
mod send;

use larder_formats::store_path::StorePath;

use crate::{
    config::Config,
    context::Context,
    report::{Done, Error},
    roots,
};

/// The running system.
const SYSTEM: &str = "/run/current-system";

/// Bring store paths to a cache, with all they refer to
///
/// What the cache has is not sent again, nor what the trusted upstreams have. A push that was
/// interrupted is simply begun again.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Store paths, links to some such as ./result, or installables such as .#hello
    paths: Vec<String>,

    /// Where to: the name of a configured cache, a URL, or cachix:NAME. Without it, all caches of `to` under [push]
    #[arg(long, value_name = "CACHE")]
    to: Vec<String>,

    /// Push the running system
    #[arg(long)]
    system: bool,

    /// Read store paths from standard input, one a line
    #[arg(long)]
    stdin: bool,

    /// Push only these paths, not what they refer to
    #[arg(long)]
    no_closure: bool,

    /// Push what these were built with, too, as far as it is in the store
    #[arg(long, conflicts_with = "no_closure")]
    build_closure: bool,

    /// Let this pass in the look for secrets; written as the message says that refuses it
    #[arg(long, value_name = "RULE")]
    allow_secret: Vec<String>,

    /// Say what would be sent; send nothing
    #[arg(long)]
    dry_run: bool,

    /// Send what builds and the hook hand in, as it comes, until told to stop
    #[arg(long, conflicts_with_all = ["paths", "to", "system", "stdin", "dry_run", "status", "forget"])]
    watch: bool,

    /// Say what waits to be sent, since when, and why
    #[arg(long, conflicts_with_all = ["paths", "to", "system", "stdin", "dry_run", "forget"])]
    status: bool,

    /// Forget what waits to be sent to the caches of `--to`: the paths, or all
    #[arg(long, requires = "to", conflicts_with_all = ["system", "stdin", "dry_run"])]
    forget: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    if arguments.watch {
        return queue::watch(context, &config).await;
    }
    if arguments.status {
        return queue::status(&config);
    }
    if arguments.forget {
        let paths = roots::find(context, &config, arguments.paths.clone()).await?;
        return queue::forget(&config, &arguments.to, &paths);
    }
    let targets = if arguments.to.is_empty() {
        config.push.to.iter().map(ToString::to_string).collect()
    } else {
        arguments.to.clone()
    };
    if targets.is_empty() {
        return Err(Error::NoTarget);
    }
    let roots = wanted(context, &config, arguments).await?;
    if roots.is_empty() {
        return Err(Error::NothingToPush);
    }
    let mut done = Done::Well;
    for target in targets {
        let one = match target.strip_prefix("cachix:") {
            Some(name) => cachix::push(context, &config, name, &roots, arguments).await?,
            None => send::push(context, &config, &target, &roots, arguments).await?,
        };
        if one != Done::Well {
            done = one;
        }
    }
    Ok(done)
}

async fn wanted(
    context: &Context,
    config: &Config,
    arguments: &Arguments,
) -> Result<Vec<StorePath>, Error> {
    let mut named = arguments.paths.clone();
    if arguments.system {
        named.push(SYSTEM.to_owned());
    }
    if arguments.stdin {
        named.extend(roots::from_standard_input()?);
    }
    let mut wanted = roots::find(context, config, named).await?;
    if arguments.build_closure {
        wanted.extend(roots::built_with(context, config, &wanted).await?);
        wanted.sort();
        wanted.dedup();
    }
    Ok(wanted)
}
