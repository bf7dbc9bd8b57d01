//! `larder serve`

use std::sync::Arc;

use larder_web::{
    metrics::Metrics,
    server::{Limits, Listening, Place, Server, ServerError},
    static_cache::{Gate, StaticCache, UploadLimits},
};

use crate::{
    answering,
    config::Config,
    context::Context,
    heartbeat,
    keeper::Work,
    lifecycle, pusher,
    report::{Done, Error},
    scheduler::Scheduler,
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
    heartbeat::describe();
    let inherited = Listening::inherited()?;
    let activated = !inherited.is_empty();
    if activated {
        adopt(&mut server, inherited, &config);
    } else {
        listen(&mut server, &config).await?;
    }
    let work = work(context, config, caches, proxy);
    let reload = async |server: &mut Server| reload(context, server, &mut lasting, activated).await;
    Ok(answering::until_stopped(context, &metrics, server, work, reload).await)
}

fn work(
    context: &Context,
    config: Config,
    caches: Vec<Arc<StaticCache>>,
    asking: Option<Asking>,
) -> Work {
    let schedule = Scheduler::of(context, &config);
    let push = Some(config.clone()).filter(|config| !config.push.to.is_empty());
    Work { push, schedule, caches, asking, telling: Some(config) }
}

/// Reads the configuration again. Whatever is wrong with it changes nothing.
async fn reload(
    context: &Context,
    server: &mut Server,
    lasting: &mut Lasting,
    activated: bool,
) -> Result<Work, Error> {
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
    Ok(work(context, config, caches, proxy))
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
