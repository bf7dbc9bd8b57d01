//! From what was handed in to what waits for each cache.

use std::sync::Arc;

use larder_cache::queue::Waiting;
use larder_fleet::durable;
use larder_formats::store_path::StorePath;
use larder_nix::{command::CancellationToken, database::DatabaseError};
use tokio::task::block_in_place;

use super::{POLL, Work, state};
use crate::report::Error;

/// Hands out, and where it is asked for watches the store, until told to stop.
pub(super) async fn go_on(work: Arc<Work>, stop: CancellationToken) {
    let mut seen = Seen::default();
    let mut told = String::new();
    loop {
        let step = block_in_place(|| {
            if work.config.push.watch_store {
                seen.hand_in_new(&work)?;
            }
            hand_out(&work)
        });
        let text = step.err().map(|error: Error| error.to_string()).unwrap_or_default();
        if text != told && !text.is_empty() {
            tracing::error!("what is to be pushed cannot be handed out: {text}");
        }
        told = text;
        if tokio::time::timeout(POLL, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// Hands out what was handed in. One path that cannot be keeps none of the others waiting.
pub(super) fn hand_out(work: &Work) -> Result<(), Error> {
    let caches: Vec<&str> = work.config.push.to.iter().map(|name| name.as_str()).collect();
    let one = |Waiting { path, .. }: Waiting| {
        let stands_for = stands_for(work, &path)?;
        if stands_for.is_empty() {
            tracing::warn!("{path} was to be pushed, and is no longer in the store");
        }
        Ok(work.queue.hand_out(&path, &stands_for, &caches)?)
    };
    work.queue.handed_in()?.into_iter().map(one).fold(Ok(()), Result::and)
}

/// The path itself, or what a derivation has built.
fn stands_for(work: &Work, path: &StorePath) -> Result<Vec<StorePath>, DatabaseError> {
    let mut valid = Vec::new();
    let paths = match path.is_derivation() {
        true => work.database.outputs(path)?.into_values().collect(),
        false => vec![path.clone()],
    };
    for path in paths {
        if work.database.is_valid(&path)? {
            valid.push(path);
        }
    }
    Ok(valid)
}

/// How far the store was looked through for new paths.
#[derive(Default)]
struct Seen {
    generation: Option<u64>,
    last: Option<i64>,
}

impl Seen {
    /// Hands in what was registered since the last look, and remembers how far that was: in this order, so that
    /// what a crash makes it forget is seen again.
    fn hand_in_new(&mut self, work: &Work) -> Result<(), Error> {
        let generation = work.database.generation()?;
        if generation.is_some() && generation == self.generation {
            return Ok(());
        }
        let file = state::folder(&work.config).join("last-path");
        let end = work.database.last_id()?;
        // One that is further than the end is of another store.
        let known = self.last.or_else(|| std::fs::read_to_string(&file).ok()?.trim().parse().ok());
        let last = known.filter(|last| *last <= end).unwrap_or(end);
        let new = work.database.registered_after(last)?;
        let paths: Vec<_> =
            new.iter().map(|(_, path)| path).filter(|path| !path.is_derivation()).collect();
        if !paths.is_empty() {
            work.queue.add(paths)?;
        }
        let last = new.last().map_or(last, |(id, _)| *id);
        if self.last != Some(last) {
            durable::replace(&file, last.to_string().as_bytes(), 0o644)
                .map_err(|source| Error::Io { path: file, source })?;
        }
        self.last = Some(last);
        self.generation = generation;
        Ok(())
    }
}
