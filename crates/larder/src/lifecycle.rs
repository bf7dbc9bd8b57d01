//! Starting with what many connections need, and stopping when told to.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use larder_nix::command::CancellationToken;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

/// What signals ask of a command.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// Cancelled by SIGINT, SIGTERM, or, where it does not ask for a reload, the loss of the terminal
    /// (SIGHUP). A second signal ends the program at once: whoever sends it does not want to wait.
    pub(crate) stop: CancellationToken,
    /// That it was SIGINT: a person's wish, by Ctrl-C or `larder build --cancel`, where SIGTERM and SIGHUP may be the
    /// system's, which goes down.
    interrupted: Arc<AtomicBool>,
    reload: Arc<Notify>,
}

/// What SIGHUP means to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HangUp {
    /// To stop: whoever waited for it at a terminal is gone.
    Stops,
    /// To read the configuration again.
    Reloads,
}

impl Signals {
    /// Listens to them from now on.
    pub(crate) fn listen(meaning: HangUp) -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let signals = Self {
            stop: CancellationToken::new(),
            interrupted: Arc::default(),
            reload: Arc::default(),
        };
        let Self { stop, interrupted, reload } = signals.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => interrupted.store(true, Ordering::Relaxed),
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => if meaning == HangUp::Reloads {
                        reload.notify_one();
                        continue;
                    }
                }
                if stop.is_cancelled() {
                    std::process::exit(130);
                }
                // First of all: nothing that goes wrong with the log may keep the program from stopping.
                stop.cancel();
                tracing::info!("stopping");
            }
        });
        Ok(signals)
    }

    /// Whether a person wanted it to stop.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Waits until a reload is asked for. Several that come while nobody waits are one.
    pub(crate) async fn reload_asked(&self) {
        self.reload.notified().await;
    }
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
