//! `larder serve`

use larder_web::{
    router::router,
    server::{Listening, serve},
};

use crate::{
    context::Context,
    report::{Done, Error},
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
    let mut listening = Vec::new();
    for address in wiring::addresses(&config) {
        let listener = Listening::on(&address).await?;
        if let Some(address) = listener.address() {
            tracing::info!("listening on {address}");
        }
        listening.push(listener);
    }
    serve(listening, router(site), context.cancel.clone()).await?;
    Ok(Done::Well)
}
