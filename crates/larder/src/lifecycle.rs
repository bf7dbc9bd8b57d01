//! Stopping when told to.

use larder_nix::command::CancellationToken;
use tokio::signal::unix::{SignalKind, signal};

/// Cancelled by SIGINT or SIGTERM. A second signal ends the program at once: whoever sends it does
/// not want to wait.
pub(crate) fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(130);
            }
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    Ok(token)
}
