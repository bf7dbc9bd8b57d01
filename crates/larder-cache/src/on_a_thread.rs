//! Work that takes a processor for long, on a thread where nobody waits for one.

use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{JoinError, spawn_blocking},
};

/// The work did not end: it panicked, or the program is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the work was not finished: {0}")]
pub struct Lost(String);

impl From<JoinError> for Lost {
    fn from(error: JoinError) -> Self {
        Self(error.to_string())
    }
}

/// Runs it to its end; dropped, it ends where it next waits for something.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Lost> {
    let (wanted, dropped) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let thread = spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = dropped => None,
                done = work => Some(done),
            }
        })
    });
    let done = thread.await?;
    drop(wanted);
    done.ok_or_else(|| Lost("nobody waits for it".to_owned()))
}
