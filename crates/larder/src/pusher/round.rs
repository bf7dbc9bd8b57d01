//! What waits for one cache, sent again and again until it is there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use larder_cache::{
    push::{Delivery, Event, Observer, Push},
    queue::Waiting,
    time::after,
};
use larder_formats::store_path::StorePath;
use larder_nix::command::CancellationToken;
use tokio::task::block_in_place;

use super::{POLL, State, Work, state::Trouble};
use crate::{
    clock,
    config::CacheConfig,
    report::Error,
    wiring::caches::{self, Target},
};

pub(super) const WAITING: &str = "larder_push_waiting_paths";
pub(super) const REFUSED: &str = "larder_push_refused_paths";
pub(super) const OLDEST: &str = "larder_push_oldest_timestamp_seconds";
pub(super) const PUSHED: &str = "larder_pushed_paths_total";
pub(super) const PUSHED_BYTES: &str = "larder_pushed_bytes_total";
pub(super) const FAILURES: &str = "larder_push_failures_total";

/// How long is waited after a failure, at first; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// And at most.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// Paths that are sent together. What is handed in meanwhile waits for them.
const TOGETHER: usize = 5_000;

/// The round of one cache.
pub(crate) struct Round {
    work: Arc<Work>,
    settings: CacheConfig,
    state: State,
}

/// What one pass came to.
pub(crate) enum Pass {
    /// Nothing waits.
    Idle,
    /// Something was sent, or refused, or failed.
    Did(Delivery),
}

impl Round {
    pub(super) fn of(work: Arc<Work>, settings: CacheConfig) -> Self {
        Self { work, settings, state: State::default() }
    }

    /// The cache.
    pub(crate) fn cache(&self) -> &CacheConfig {
        &self.settings
    }

    /// Goes on until told to stop.
    pub(super) async fn go_on(mut self, stop: CancellationToken) {
        // There from the beginning: who reads a page sees nothing happen before a series is there.
        let labels = [("cache", self.settings.name.to_string())];
        for name in [PUSHED, PUSHED_BYTES, FAILURES] {
            metrics::counter!(name, &labels).increment(0);
        }
        // What was refused is looked at anew: the configuration may allow it now.
        self.state.write(&self.work.config, &self.settings.name);
        tokio::select! {
            never = self.forever() => never,
            () = stop.cancelled() => {}
        }
    }

    async fn forever(&mut self) -> ! {
        let mut wait = FIRST_WAIT;
        let mut push = None;
        loop {
            let pass = self.pass(&mut push, &quiet()).await;
            let trouble = match pass {
                Ok(Pass::Idle) => {
                    // Connections and leases are not kept for nothing.
                    push = None;
                    tokio::time::sleep(POLL).await;
                    continue;
                }
                Ok(Pass::Did(delivery)) => self.tell(&delivery),
                Err(error) => {
                    push = None;
                    Some(error.to_string())
                }
            };
            match trouble {
                None => {
                    wait = FIRST_WAIT;
                    self.change(|state| state.trouble = None);
                }
                Some(error) => {
                    metrics::counter!(FAILURES, "cache" => self.settings.name.to_string())
                        .increment(1);
                    self.in_trouble(error, wait);
                    tokio::time::sleep(wait).await;
                    wait = LONGEST_WAIT.min(wait * 2);
                }
            }
        }
    }

    /// Sends what waits now. `push` is what sends, kept from one pass to the next.
    pub(crate) async fn pass(
        &mut self,
        push: &mut Option<(Target, Push)>,
        observer: &Observer,
    ) -> Result<Pass, Error> {
        let roots = block_in_place(|| self.due())?;
        if roots.is_empty() {
            return Ok(Pass::Idle);
        }
        let config = &self.work.config;
        let (target, push) = match push {
            Some(kept) => kept,
            None => {
                let target = caches::configured(config, &self.settings)?;
                let to = target.for_writing(config).await?;
                let made = target.push(config, to)?;
                push.insert((target, made))
            }
        };
        let allowed = match target.is_readable_by_others() {
            true => Some(target.allow_list(&[])?),
            false => None,
        };
        let delivery = push.deliver(&roots, allowed.as_ref(), clock::now(), observer).await?;
        let cache = self.settings.name.as_str();
        block_in_place(|| self.work.queue.remove(cache, &delivery.done))?;
        self.refuse(&delivery);
        Ok(Pass::Did(delivery))
    }

    /// What waits and may go. What is no longer in the store is forgotten.
    fn due(&self) -> Result<Vec<StorePath>, Error> {
        let cache = self.settings.name.as_str();
        let mut due = Vec::new();
        let mut gone = Vec::new();
        let waiting = self.work.queue.waiting(cache)?;
        self.measure(&waiting);
        for Waiting { path, .. } in waiting {
            if self.state.refused.contains_key(&path.to_string()) {
                continue;
            }
            if !self.work.database.is_valid(&path)? {
                tracing::warn!("{path} was to be pushed to {cache}, and is no longer in the store");
                gone.push(path);
            } else if due.len() < TOGETHER {
                due.push(path);
            }
        }
        self.work.queue.remove(cache, &gone)?;
        Ok(due)
    }

    fn refuse(&mut self, delivery: &Delivery) {
        if delivery.held_back.is_empty() {
            return;
        }
        let reason = |refused: &StorePath| {
            let of_it = delivery.refused.iter().filter(|it| &it.path == refused);
            let lines = of_it.flat_map(|it| &it.findings).map(ToString::to_string);
            lines.collect::<Vec<_>>().join("; ")
        };
        let refused: BTreeMap<_, _> = delivery
            .held_back
            .iter()
            .map(|(root, refused)| (root.to_string(), reason(refused)))
            .collect();
        for (root, reason) in &refused {
            tracing::error!(
                "{root} is not pushed to {}, which others can read: {reason}",
                self.settings.name
            );
        }
        self.change(|state| state.refused.extend(refused));
    }

    /// Logs what a pass came to. Says what failed, if anything did.
    fn tell(&self, delivery: &Delivery) -> Option<String> {
        let name = &self.settings.name;
        if delivery.sent > 0 {
            tracing::info!("{name}: {} paths pushed, {} bytes", delivery.sent, delivery.bytes);
        }
        let labels = [("cache", name.to_string())];
        metrics::counter!(PUSHED, &labels).increment(delivery.sent as u64);
        metrics::counter!(PUSHED_BYTES, &labels).increment(delivery.bytes);
        let first = delivery.failures.first()?;
        let more = delivery.failures.len() - 1;
        Some(if more > 0 { format!("{first}, and {more} more") } else { first.to_string() })
    }

    fn in_trouble(&mut self, error: String, wait: Duration) {
        let now = clock::now();
        let before = self.state.trouble.as_ref();
        if before.is_none_or(|before| before.error != error) {
            tracing::warn!("{}: {error}; what waits is kept and tried again", self.settings.name);
        }
        let since = before.map_or(now, |before| before.since);
        let next = after(now, SignedDuration::try_from(wait).unwrap_or_default());
        self.change(|state| state.trouble = Some(Trouble { since, error, next }));
    }

    fn change(&mut self, how: impl FnOnce(&mut State)) {
        let before = self.state.clone();
        how(&mut self.state);
        if self.state != before {
            self.state.write(&self.work.config, &self.settings.name);
        }
    }

    fn measure(&self, waiting: &[Waiting]) {
        let oldest = waiting.first().map_or(Timestamp::UNIX_EPOCH, |first| first.since);
        let labels = [("cache", self.settings.name.to_string())];
        // Paths and seconds are few enough.
        #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
        {
            metrics::gauge!(WAITING, &labels).set(waiting.len() as f64);
            metrics::gauge!(REFUSED, &labels).set(self.state.refused.len() as f64);
            metrics::gauge!(OLDEST, &labels).set(oldest.as_second() as f64);
        }
    }
}

/// Logs what is tried again, and nothing else.
fn quiet() -> Observer {
    Arc::new(|event| {
        if let Event::TriedAgain(path, reason) = event {
            tracing::debug!("{path}: {reason}; trying again");
        }
    })
}
