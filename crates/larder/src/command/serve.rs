//! `larder serve`

use larder_web::{
    router::router,
    server::{Limits, Listening, serve},
};

use crate::{
    config::Config,
    context::Context,
    lifecycle,
    report::{Done, Error},
    service_manager::{self, Notice},
    wiring,
};

/// Serve this machine's store as a binary cache, and what was built for the fleet
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) async fn run(context: &Context, _: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    let site = wiring::site(&config)?;
    if site.public_keys.is_empty() {
        tracing::warn!("no `signing-keys`: clients accept only what is signed already");
    }
    lifecycle::allow_many_open_files();
    let listening = listening(&config).await?;
    for address in listening.iter().filter_map(Listening::address) {
        tracing::info!("listening on {address}");
    }
    service_manager::tell(Notice::Ready);
    let alive = service_manager::stay_alive();
    let told = context.cancel.clone();
    let stopping = async move {
        told.cancelled().await;
        service_manager::tell(Notice::Stopping);
    };
    let served = serve(listening, router(site), Limits::default(), context.cancel.clone());
    tokio::select! {
        ((), ()) = async { tokio::join!(served, stopping) } => {}
        () = alive => {}
    }
    Ok(Done::Well)
}

/// The sockets of the service manager, when it passes some; otherwise those of the configuration.
async fn listening(config: &Config) -> Result<Vec<Listening>, Error> {
    let inherited = Listening::inherited()?;
    if !inherited.is_empty() {
        tracing::info!("listening where the service manager says; `listen` is not used");
        return Ok(inherited);
    }
    let mut listening = Vec::new();
    for address in wiring::addresses(config) {
        listening.push(Listening::on(&address).await?);
    }
    Ok(listening)
}
