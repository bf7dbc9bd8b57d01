//! `larder proxy`, answering.

use std::{sync::Arc, time::Duration};

use larder_cache::proxy::{Kept, Proxy};
use larder_nix::command::CancellationToken;
use larder_web::{
    metrics::Metrics,
    server::{Limits, Server},
};
use tokio::task::JoinSet;

use crate::{
    context::Context,
    lifecycle, network,
    report::{Done, Error},
    service_manager::{self, Notice},
    wiring::proxy::{self as wiring, Working},
};

/// Between two tries to hear from a kernel that does not tell.
const UNTOLD: Duration = Duration::from_secs(60);

pub(super) async fn run(context: &Context) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    lifecycle::allow_many_open_files();
    let metrics = Metrics::install()?;
    let Working { proxy, kept, serving } = wiring::working(&config, &metrics)?;
    let mut server = Server::new(serving, Limits::default());
    let mut keeper = Keeper::of(proxy, kept);
    for address in server.listen_on(&wiring::places(&config)).await? {
        tracing::info!("listening on {address}");
    }
    service_manager::tell(Notice::Ready);
    let alive = service_manager::stay_alive();
    let working = async {
        loop {
            tokio::select! {
                () = context.cancel.cancelled() => break,
                () = context.signals.reload_asked() => {}
            }
            service_manager::tell(Notice::Reloading);
            match reload(context, &mut server, &metrics).await {
                Ok((proxy, kept)) => {
                    keeper.end().await;
                    keeper = Keeper::of(proxy, kept);
                    tracing::info!("reloaded {}", context.config_file().display());
                }
                Err(error) => tracing::error!("not reloaded, all stays as it was: {error}"),
            }
            service_manager::tell(Notice::Ready);
        }
        service_manager::tell(Notice::Stopping);
        server.stop().await;
        keeper.end().await;
    };
    tokio::select! {
        () = working => {}
        () = alive => {}
        () = metrics.keep_up() => {}
    }
    Ok(Done::Well)
}

/// Reads the configuration again. Whatever is wrong with it changes nothing; who is being answered is so to the end.
async fn reload(
    context: &Context,
    server: &mut Server,
    metrics: &Metrics,
) -> Result<(Proxy, Option<Arc<Kept>>), Error> {
    let config = context.config_or_defaults()?;
    let Working { proxy, kept, serving } = wiring::working(&config, metrics)?;
    for address in server.change(serving, &wiring::places(&config)).await? {
        tracing::info!("listening on {address}");
    }
    Ok((proxy, kept))
}

/// What goes on beside the answers.
struct Keeper {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Keeper {
    fn of(proxy: Proxy, kept: Option<Arc<Kept>>) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let ending = stop.clone();
        tasks.spawn(async move {
            let keeping = async {
                match kept {
                    Some(kept) => kept.look_after().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ending.cancelled() => {}
                () = proxy.look_after_upstreams() => {}
                () = follow_the_network(&proxy) => {}
                () = keeping => {}
            }
        });
        Self { stop, tasks }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.join_all().await;
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
