//! Starting with what many connections need, and stopping when told to.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_nix::command::CancellationToken;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::block_in_place,
};

/// What signals ask of a command.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// Cancelled by SIGINT, SIGTERM, or, where it does not ask for a reload, the loss of the terminal
    /// (SIGHUP). A second signal ends the program at once: whoever sends it does not want to wait.
    pub(crate) stop: CancellationToken,
    /// That it was SIGINT: a person's wish, by Ctrl-C or `larder build --cancel`, where SIGTERM and SIGHUP may be the
    /// system's, which goes down.
    interrupted: Arc<Mutex<Interrupted>>,
    reload: Arc<Notify>,
}

/// Whether SIGINT has come, and what is to be done then.
#[derive(Default)]
struct Interrupted {
    has_come: bool,
    then: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Interrupted").field("has_come", &self.has_come).finish()
    }
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
        let listening = signals.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => block_in_place(|| listening.interrupt()),
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => if meaning == HangUp::Reloads {
                        listening.reload.notify_one();
                        continue;
                    }
                }
                if listening.stop.is_cancelled() {
                    std::process::exit(130);
                }
                // First of all: nothing that goes wrong with the log may keep the program from stopping.
                listening.stop.cancel();
                tracing::info!("stopping");
            }
        });
        Ok(signals)
    }

    /// Whether a person wanted it to stop.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted().has_come
    }

    /// Has this done when a person wants it to stop, before a second signal can end the program.
    pub(crate) fn on_interrupt(&self, then: impl FnOnce() + Send + 'static) {
        let mut interrupted = self.interrupted();
        if interrupted.has_come {
            // What is done then may ask whether it has come.
            drop(interrupted);
            then();
        } else {
            interrupted.then = Some(Box::new(then));
        }
    }

    fn interrupt(&self) {
        let then = {
            let mut interrupted = self.interrupted();
            interrupted.has_come = true;
            interrupted.then.take()
        };
        if let Some(then) = then {
            then();
        }
    }

    fn interrupted(&self) -> MutexGuard<'_, Interrupted> {
        self.interrupted.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn signals() -> Signals {
        Signals {
            stop: CancellationToken::new(),
            interrupted: Arc::default(),
            reload: Arc::default(),
        }
    }

    #[test]
    fn what_is_done_at_an_interrupt_may_ask_whether_there_was_one() {
        let (said, heard) = mpsc::channel();
        for comes_first in [false, true] {
            let (signals, said) = (signals(), said.clone());
            // On a thread of its own, so that waiting for itself is a failure and no hang.
            std::thread::spawn(move || {
                let asking = signals.clone();
                let then = move || said.send(asking.was_interrupted()).unwrap();
                if comes_first {
                    signals.interrupt();
                    signals.on_interrupt(then);
                } else {
                    signals.on_interrupt(then);
                    signals.interrupt();
                }
            });
            let heard = heard.recv_timeout(std::time::Duration::from_secs(20));
            assert_eq!(heard, Ok(true), "comes first: {comes_first}");
        }
    }
}
