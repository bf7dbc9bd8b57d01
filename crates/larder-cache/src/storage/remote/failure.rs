//! What the library's failures mean.

use std::fmt::Write;

use opendal::{Error, ErrorKind};

use super::super::{StorageError, StorageErrorKind};

/// What stores answer with "forbidden" when it is about who asks, and not about what is asked for.
const ABOUT_KEYS: &[&str] = &[
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "InvalidSecurity",
    "NotSignedUp",
    // Garage's words for a key that it does not know.
    "No such key",
];

/// What the library says where it finds no keys to sign with.
const NO_KEYS: &[&str] = &["failed to load signing credential"];

/// What stores say when they are full.
const FULL: &[&str] = &["status: 507", "QuotaExceeded", "StorageFull", "InsufficientStorage"];

/// Whether a failed read says that there is nothing.
pub(super) fn is_missing(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => true,
        ErrorKind::PermissionDenied => !says(error, ABOUT_KEYS),
        _ => false,
    }
}

/// The failure of an operation that was described so.
pub(super) fn failure(what: impl Into<String>, error: Error) -> StorageError {
    if says(&error, NO_KEYS) {
        let text = "there are no keys for the bucket: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write \
                    them to ~/.aws/credentials";
        return StorageError::new(StorageErrorKind::Denied, what, text.to_owned());
    }
    let kind = match error.kind() {
        _ if says(&error, FULL) => StorageErrorKind::Full,
        ErrorKind::PermissionDenied => StorageErrorKind::Denied,
        ErrorKind::Unsupported => StorageErrorKind::Unsupported,
        ErrorKind::RateLimited => StorageErrorKind::Transient,
        // Both what was not tried again, and what was in vain.
        _ if error.is_temporary() || error.is_persistent() => StorageErrorKind::Transient,
        _ => StorageErrorKind::Permanent,
    };
    let mut text = error.to_string();
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => {
            Some("check the keys (AWS_ACCESS_KEY_ID, ~/.aws/credentials) and what they may do")
        }
        ErrorKind::ConfigInvalid if says(&error, &["NoSuchBucket"]) => {
            Some("make the bucket first, or correct its name")
        }
        _ => None,
    };
    if let Some(remedy) = remedy {
        let _ = write!(text, " ({remedy})");
    }
    StorageError::new(kind, what, text)
}

fn says(error: &Error, words: &[&str]) -> bool {
    let text = error.to_string();
    words.iter().any(|word| text.contains(word))
}
