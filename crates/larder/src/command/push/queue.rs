//! What waits to be pushed: shown, sent, or forgotten.

use std::collections::BTreeSet;

use larder_cache::queue::Queue;
use larder_formats::store_path::StorePath;
use larder_nix::database::Database;

use crate::{
    config::{CacheName, Config},
    context::{Context, say},
    pusher::{self, State},
    report::{Done, Error},
    view::queue::{self as view, Row},
    wiring,
};

/// Sends what waits until told to stop.
pub(super) async fn watch(context: &Context, config: &Config) -> Result<Done, Error> {
    if config.push.to.is_empty() {
        return Err(Error::NowhereToPush);
    }
    let names: Vec<&str> = config.push.to.iter().map(CacheName::as_str).collect();
    tracing::info!("pushing what waits to {}", names.join(", "));
    pusher::watch(config, context.cancel.clone()).await?;
    Ok(Done::Well)
}

/// Says what waits, for whom, and why.
pub(super) fn status(config: &Config) -> Result<Done, Error> {
    let queue = wiring::queue(config)?;
    let database = Database::open(&wiring::layout(config)?)?;
    let at_work = pusher::is_at_work(config)?;
    let mut is_good = true;
    let mut lines = Vec::new();
    for name in caches(config, &queue)? {
        let waiting = queue.waiting(&name)?;
        let known = config.push.to.iter().find(|known| known.as_str() == name);
        let state = known.map(|known| State::read(config, known)).unwrap_or_default();
        let bytes = size(&database, waiting.iter().map(|it| &it.path))?;
        is_good &= waiting.is_empty() || (at_work && known.is_some() && state == State::default());
        let is_target = known.is_some();
        lines.push(view::row(&Row {
            name: &name,
            is_target,
            waiting: &waiting,
            bytes,
            state: &state,
        }));
    }
    let handed_in = queue.handed_in()?;
    is_good &= handed_in.is_empty() || at_work;
    lines.extend(view::handed_in(handed_in.len()));
    if !at_work {
        lines.push(view::nobody_at_work(is_good));
    }
    say(&lines.join("\n"));
    Ok(if is_good { Done::Well } else { Done::SomeFailed })
}

/// Drops what waits for these caches: all, or these paths.
pub(super) fn forget(
    config: &Config,
    caches: &[String],
    paths: &[StorePath],
) -> Result<Done, Error> {
    let queue = wiring::queue(config)?;
    for cache in caches {
        let waiting = queue.waiting(cache)?.into_iter().map(|it| it.path);
        let dropped: Vec<StorePath> =
            waiting.filter(|path| paths.is_empty() || paths.contains(path)).collect();
        queue.remove(cache, &dropped)?;
        say(&view::forgotten(cache, &dropped));
    }
    Ok(Done::Well)
}

/// Those of the configuration first, in its order; then those that something still waits for.
fn caches(config: &Config, queue: &Queue) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = config.push.to.iter().map(ToString::to_string).collect();
    let known: BTreeSet<String> = names.iter().cloned().collect();
    for other in queue.caches()?.difference(&known) {
        if !queue.waiting(other)?.is_empty() {
            names.push(other.clone());
        }
    }
    Ok(names)
}

fn size<'a>(database: &Database, paths: impl Iterator<Item = &'a StorePath>) -> Result<u64, Error> {
    let mut bytes = 0;
    for path in paths {
        bytes += database.path_info(path.hash())?.map_or(0, |info| info.nar_size);
    }
    Ok(bytes)
}
