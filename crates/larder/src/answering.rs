//! What `larder serve` and `larder proxy` do until they are told to stop.

use larder_web::{metrics::Metrics, server::Server};

use crate::{
    context::Context,
    keeper::{Keeper, Work},
    report::{Done, Error},
    service_manager::{self, Notice},
};

/// Answers, does the work beside that, and reads the configuration again whenever that is asked for. `reload` has the
/// server answer by it, and changes nothing where something is wrong with it.
pub(crate) async fn until_stopped(
    context: &Context,
    metrics: &Metrics,
    mut server: Server,
    work: Work,
    mut reload: impl AsyncFnMut(&mut Server) -> Result<Work, Error>,
) -> Done {
    let mut keeper = Keeper::of(work);
    service_manager::tell(Notice::Ready);
    let alive = service_manager::stay_alive();
    let working = async {
        loop {
            tokio::select! {
                () = context.cancel.cancelled() => break,
                () = context.signals.reload_asked() => {}
            }
            service_manager::tell(Notice::Reloading);
            match reload(&mut server).await {
                Ok(work) => {
                    // One after the other: only one process and one keeper may send what waits.
                    keeper.end().await;
                    keeper = Keeper::of(work);
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
    Done::Well
}
