//! `larder proxy`, answering.

use larder_web::{
    metrics::Metrics,
    server::{Limits, Server},
};

use crate::{
    context::Context,
    keeper::Keeper,
    lifecycle,
    report::{Done, Error},
    service_manager::{self, Notice},
    wiring::proxy::{self as wiring, Asking},
};

pub(super) async fn run(context: &Context) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    lifecycle::allow_many_open_files();
    let metrics = Metrics::install()?;
    let asking = wiring::asking(&config)?;
    let mut server = Server::new(wiring::serving(&asking, &metrics), Limits::default());
    let mut keeper = Keeper::of_proxy(asking);
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
                Ok(asking) => {
                    keeper.end().await;
                    keeper = Keeper::of_proxy(asking);
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
) -> Result<Asking, Error> {
    let config = context.config_or_defaults()?;
    let asking = wiring::asking(&config)?;
    let serving = wiring::serving(&asking, metrics);
    for address in server.change(serving, &wiring::places(&config)).await? {
        tracing::info!("listening on {address}");
    }
    Ok(asking)
}
