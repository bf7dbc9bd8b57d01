//! Starting with what many connections need, and stopping when told to.

use larder_nix::command::CancellationToken;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Cancelled by SIGINT, SIGTERM, or the loss of the terminal (SIGHUP). A second signal ends the program at once: whoever sends it does
/// not want to wait.
pub(crate) fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
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

/// Raises the number of files that may be open to what the administrator allows: each connection is
/// one, and each NAR under way holds the folders it is in open. The lower limit that programs start
/// with is for those that use `select`, which this one does not.
pub(crate) fn allow_many_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "raised the limit of open files"),
        Err(error) => tracing::warn!("cannot raise the limit of open files: {error}"),
    }
}
