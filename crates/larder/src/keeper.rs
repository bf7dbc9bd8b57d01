//! What goes on beside the answers of a server or a proxy, and ends after them.

use std::{sync::Arc, time::Duration};

use larder_cache::proxy::Proxy;
use larder_nix::command::CancellationToken;
use larder_web::static_cache::StaticCache;
use tokio::task::JoinSet;

use crate::{
    config::Config, heartbeat, network, pusher, scheduler::Scheduler, wiring::proxy::Asking, word,
};

/// Between two tries to hear from a kernel that does not tell of the network.
const UNTOLD: Duration = Duration::from_secs(60);

/// How often it is written down what was asked for. A crash forgets no more than that.
const NOTE_USES: Duration = Duration::from_secs(5 * 60);

/// What there is to do.
#[derive(Default)]
pub(crate) struct Work {
    /// The configuration by which what waits is pushed, where anything is.
    pub(crate) push: Option<Config>,
    /// The configuration by whose schedules the fleet is built, where there are any.
    pub(crate) schedule: Option<Scheduler>,
    /// Static caches that are served.
    pub(crate) caches: Vec<Arc<StaticCache>>,
    /// What is asked of others.
    pub(crate) asking: Option<Asking>,
    /// The configuration of a server that tells how the fleet is.
    pub(crate) telling: Option<Config>,
}

/// Does it meanwhile.
pub(crate) struct Keeper {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Keeper {
    /// Begins.
    pub(crate) fn of(work: Work) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        if let Some(asking) = work.asking {
            tasks.spawn(ask(asking, stop.clone()));
        }
        for cache in work.caches {
            tasks.spawn(note_uses(cache, stop.clone()));
        }
        if let Some(scheduler) = work.schedule {
            tasks.spawn(scheduler.stand_by(stop.clone()));
        }
        if let Some(config) = work.telling {
            tasks.spawn(heartbeat::go_on(config.clone(), stop.clone()));
            if !config.notify.is_empty() {
                tasks.spawn(word::stand_by(config, stop.clone()));
            }
        }
        if let Some(config) = work.push {
            tasks.spawn(pusher::stand_by(config, stop.clone()));
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

/// Finds out how the upstreams are, and removes what is kept too much.
async fn ask(asking: Asking, stop: CancellationToken) {
    let keeping = async {
        match asking.kept {
            Some(kept) => kept.look_after().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = asking.proxy.look_after_upstreams() => {}
        () = follow_the_network(&asking.proxy) => {}
        () = keeping => {}
    }
}

/// Never ends.
async fn follow_the_network(proxy: &Proxy) {
    let mut changes = match network::Changes::listen() {
        Ok(changes) => changes,
        Err(error) => {
            tracing::warn!(%error, "that the network changed is found out a minute later at most");
            return std::future::pending().await;
        }
    };
    loop {
        match changes.next().await {
            Ok(()) => {
                tracing::debug!("the network has changed");
                proxy.network_changed();
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel does not tell of the network");
                tokio::time::sleep(UNTOLD).await;
            }
        }
    }
}
