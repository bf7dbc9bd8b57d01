//! Pushing to Cachix, through the user's own program, which has the login.

use larder_cache::push::{inspect, not_upstream};
use larder_formats::store_path::StorePath;
use larder_nix::command::{CommandError, Invocation};

use super::Arguments;
use crate::{
    clock,
    config::Config,
    context::{Context, say},
    report::{Done, Error},
    view::{self, push::Board},
    wiring::{self, caches},
};

/// Runs `cachix push NAME PATH…`, which finds the closure itself and skips what is there.
pub(super) async fn push(
    context: &Context,
    config: &Config,
    name: &str,
    roots: &[StorePath],
    arguments: &Arguments,
) -> Result<Done, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(plain) {
        return Err(Error::CachixName(name.to_owned()));
    }
    if arguments.no_closure {
        return Err(Error::CachixClosure);
    }
    look_for_secrets(config, name, roots, arguments).await?;
    let layout = wiring::layout(config)?;
    let paths = roots.iter().map(|path| layout.store_dir.display(path));
    let command = Invocation::new("cachix").args(["push", name]).args(paths);
    if arguments.dry_run {
        say(&format!("cachix:{name}: would run `{command}`"));
        return Ok(Done::Well);
    }
    view::note(&format!("cachix:{name}: {} paths and what they refer to", roots.len()));
    match command.output(&context.cancel).await {
        Ok(_) => {
            say(&format!("cachix:{name}: pushed"));
            Ok(Done::Well)
        }
        Err(CommandError::NotFound { .. }) => Err(Error::NoCachix),
        Err(error) => Err(error.into()),
    }
}

/// A Cachix cache is public unless its owner pays for more, and from here nobody can tell.
async fn look_for_secrets(
    config: &Config,
    name: &str,
    roots: &[StorePath],
    arguments: &Arguments,
) -> Result<(), Error> {
    let store = caches::store(config)?;
    let hashes: Vec<_> = roots.iter().map(StorePath::hash).collect();
    let plan = not_upstream(&*store, &caches::upstreams(config)?, &hashes).await?;
    let board = Board::new("looking for secrets", plan.nar_size());
    let allowed = caches::allow_list(arguments.allow_secret.iter())?;
    let found = inspect(&store, &plan, (&allowed, clock::now()), &board.observer()).await?;
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::Secrets { target: format!("cachix:{name}"), found })
}
