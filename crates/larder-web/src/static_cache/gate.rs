//! How much of the server uploads may take.
//!
//! Promise: whoever sends slowly, or not at all any more, is sent away in time, so that the places are there for
//! others.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::error::WebError;

/// What an upload may cost, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// Uploads at once, over all caches. Each takes some memory to unpack, at most that of the highest levels of xz and
    /// zstd.
    pub at_once: usize,
    /// How long an upload waits until others are done.
    pub wait: Duration,
    /// How long nothing may come of it.
    pub stall: Duration,
    /// How many bytes a second have to come, over all the time since it began and one such minute.
    pub slowest: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            at_once: 32,
            wait: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            slowest: 1024,
        }
    }
}

/// Lets some uploads in at once.
#[derive(Debug)]
pub struct Gate {
    places: Semaphore,
    limits: UploadLimits,
}

impl Gate {
    /// A gate with these limits.
    #[must_use]
    pub fn new(limits: UploadLimits) -> Self {
        Self { places: Semaphore::new(limits.at_once), limits }
    }

    pub(super) fn limits(&self) -> &UploadLimits {
        &self.limits
    }

    /// Waits for a place; a client that is told to come again does.
    pub(super) async fn enter(&self) -> Result<SemaphorePermit<'_>, WebError> {
        match timeout(self.limits.wait, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(WebError::Busy),
        }
    }
}
