//! What goes on beside the answers of a server, and ends after them.

use std::{sync::Arc, time::Duration};

use larder_nix::command::CancellationToken;
use larder_web::static_cache::StaticCache;
use tokio::task::JoinSet;

use crate::{config::Config, pusher};

/// How often it is written down what was asked for. A crash forgets no more than that.
const NOTE_USES: Duration = Duration::from_secs(5 * 60);

/// Keeps static caches while they are served, and sends what waits to be pushed.
pub(crate) struct Keeper {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Keeper {
    /// Begins with these.
    pub(crate) fn of(config: &Config, caches: &[Arc<StaticCache>]) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for cache in caches {
            tasks.spawn(note_uses(Arc::clone(cache), stop.clone()));
        }
        if !config.push.to.is_empty() {
            tasks.spawn(pusher::stand_by(config.clone(), stop.clone()));
        }
        Self { stop, tasks }
    }

    /// Ends, with what is still to be written down.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.join_all().await;
    }
}

async fn note_uses(cache: Arc<StaticCache>, stop: CancellationToken) {
    loop {
        let stopped = tokio::time::timeout(NOTE_USES, stop.cancelled()).await.is_ok();
        if let Err(error) = cache.note_uses().await {
            tracing::warn!(%error, cache = cache.name(), "what was asked for could not be written down");
        }
        if stopped {
            return;
        }
    }
}
