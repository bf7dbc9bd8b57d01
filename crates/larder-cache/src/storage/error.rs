//! What can go wrong in a place for objects.

use std::{error::Error, io, sync::Arc, time::Duration};

use super::key::KeyError;

/// A place did not do what it was asked, or did not say what it did.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct StorageError {
    /// What kind of failure it is.
    pub kind: StorageErrorKind,
    /// How long the place asks to be left alone, if it does.
    pub pause: Option<Duration>,
    what: String,
    source: Arc<dyn Error + Send + Sync>,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// Worth trying again: the network, a busy server.
    Transient,
    /// The place refuses this to us.
    Denied,
    /// There is no room left.
    Full,
    /// The place cannot do this at all.
    Unsupported,
    /// Anything else, which trying again would not mend.
    Permanent,
}

impl StorageError {
    /// A failure, and what was being done with which object.
    pub fn new(
        kind: StorageErrorKind,
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, pause: None, what: what.into(), source: Arc::from(source.into()) }
    }

    /// The same of a place that asks to be left alone for so long.
    pub(super) fn with_pause(self, pause: Option<Duration>) -> Self {
        Self { pause, ..self }
    }

    /// A failure of the system.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StorageErrorKind::Denied
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => StorageErrorKind::Full,
            io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::StaleNetworkFileHandle => StorageErrorKind::Transient,
            io::ErrorKind::Unsupported => StorageErrorKind::Unsupported,
            _ => StorageErrorKind::Permanent,
        };
        Self::new(kind, what, source)
    }

    /// An object is larger than its reader takes it to be.
    pub(super) fn too_large(what: impl Into<String>, limit: usize) -> Self {
        let reason = format!("it has more than the {limit} bytes that are expected at most");
        Self::new(StorageErrorKind::Permanent, what, reason)
    }

    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind == StorageErrorKind::Transient
    }
}

impl From<KeyError> for StorageError {
    fn from(error: KeyError) -> Self {
        Self::new(StorageErrorKind::Permanent, "naming an object", error)
    }
}
