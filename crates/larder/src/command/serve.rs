//! `larder serve`

use std::sync::Arc;

use larder_web::{
    metrics::Metrics,
    server::{Limits, Listening, Place, Server, ServerError},
    static_cache::{Gate, StaticCache, UploadLimits},
};

use crate::{
    config::Config,
    context::Context,
    keeper::Keeper,
    lifecycle, pusher,
    report::{Done, Error},
    service_manager::{self, Notice},
    wiring::{self, Lasting, Served, proxy::Asking},
};

/// Serve this machine's store as a binary cache, and what was built for the fleet
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) async fn run(context: &Context, _: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    lifecycle::allow_many_open_files();
    let metrics = Metrics::install()?;
    let gate = Arc::new(Gate::new(UploadLimits::default()));
    let packed = wiring::packed_nars(&config, None);
    let mut lasting = Lasting { metrics: metrics.clone(), gate, packed };
    let Served { serving, caches, proxy } = wiring::serving(&config, &lasting)?;
    let mut server = Server::new(serving, Limits::default());
    pusher::describe();
    let mut keeper = Keeper::of(&config, &caches, proxy);
    let inherited = Listening::inherited()?;
    let activated = !inherited.is_empty();
    if activated {
        adopt(&mut server, inherited, &config);
    } else {
        listen(&mut server, &config).await?;
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
            match reload(context, &mut server, &mut lasting, activated).await {
                Ok((config, caches, proxy)) => {
                    // One after the other: only one process and one keeper may send what waits.
                    keeper.end().await;
                    keeper = Keeper::of(&config, &caches, proxy);
                    tracing::info!("reloaded {}", context.config_file().display());
                }
                Err(error) => {
                    tracing::error!("not reloaded, all stays as it was: {error}");
                }
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

/// Reads the configuration again. Whatever is wrong with it changes nothing.
async fn reload(
    context: &Context,
    server: &mut Server,
    lasting: &mut Lasting,
    activated: bool,
) -> Result<(Config, Vec<Arc<StaticCache>>, Option<Asking>), Error> {
    let config = context.config()?;
    let packed = wiring::packed_nars(&config, Some(&lasting.packed));
    let next = Lasting { packed, ..lasting.clone() };
    let Served { serving, caches, proxy } = wiring::serving(&config, &next)?;
    if activated {
        server.answer_by(serving);
    } else {
        for address in server.change(serving, &wiring::places(&config)).await? {
            tracing::info!("listening on {address}");
        }
    }
    *lasting = next;
    Ok((config, caches, proxy))
}

async fn listen(server: &mut Server, config: &Config) -> Result<(), ServerError> {
    for address in server.listen_on(&wiring::places(config)).await? {
        tracing::info!("listening on {address}");
    }
    Ok(())
}

/// Takes the sockets of the service manager in the place of those of the configuration, which only
/// says on which ports TLS is spoken.
fn adopt(server: &mut Server, sockets: Vec<Listening>, config: &Config) {
    tracing::info!("listening where the service manager says; `listen` is not used");
    let places = wiring::places(config);
    for socket in sockets {
        let Some(address) = socket.address() else {
            tracing::warn!("a socket of the service manager has no address, and is not used");
            continue;
        };
        let port = address.port();
        let secure = port.is_some()
            && places.iter().any(|place| place.secure && place.address.port() == port);
        tracing::info!("listening on {address}");
        server.listen(Place { address, secure }, socket);
    }
}
