//! `larder proxy`, answering.

use larder_web::{
    metrics::Metrics,
    server::{Limits, Server},
};

use crate::{
    answering,
    context::Context,
    keeper::Work,
    lifecycle,
    report::{Done, Error},
    wiring::proxy::{self as wiring, Asking},
};

pub(super) async fn run(context: &Context) -> Result<Done, Error> {
    let config = context.config_or_defaults()?;
    lifecycle::allow_many_open_files();
    let metrics = Metrics::install()?;
    let asking = wiring::asking(&config)?;
    let mut server = Server::new(wiring::serving(&asking, &metrics), Limits::default());
    for address in server.listen_on(&wiring::places(&config)).await? {
        tracing::info!("listening on {address}");
    }
    let reload = async |server: &mut Server| reload(context, server, &metrics).await;
    Ok(answering::until_stopped(context, &metrics, server, work(asking), reload).await)
}

fn work(asking: Asking) -> Work {
    Work { asking: Some(asking), ..Work::default() }
}

/// Reads the configuration again. Whatever is wrong with it changes nothing; who is being answered is so to the end.
async fn reload(context: &Context, server: &mut Server, metrics: &Metrics) -> Result<Work, Error> {
    let config = context.config_or_defaults()?;
    let asking = wiring::asking(&config)?;
    let serving = wiring::serving(&asking, metrics);
    for address in server.change(serving, &wiring::places(&config)).await? {
        tracing::info!("listening on {address}");
    }
    Ok(work(asking))
}
