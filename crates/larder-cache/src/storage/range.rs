//! Ranges that are answered whole or not at all.

use std::ops::Range;

use futures::{StreamExt, stream};

use super::{ObjectStream, StorageError, StorageErrorKind};

/// Refuses a range that does not lie in so many bytes.
pub(super) fn check(
    range: &Range<u64>,
    size: u64,
    what: impl FnOnce() -> String,
) -> Result<(), StorageError> {
    if range.start <= range.end && range.end <= size {
        return Ok(());
    }
    let reason = format!("bytes {} to {} of {size} were asked for", range.start, range.end);
    Err(StorageError::new(StorageErrorKind::Permanent, what(), reason))
}

/// The same bytes, with an error where they are not as many as they must be.
pub(super) fn exactly(bytes: ObjectStream, length: u64, what: String) -> ObjectStream {
    let state = Some((bytes, length, what));
    Box::pin(stream::unfold(state, |state| async {
        let (mut bytes, left, what) = state?;
        match bytes.next().await {
            None if left == 0 => None,
            None => {
                let reason = format!("it ended {left} bytes too early");
                let error = StorageError::new(StorageErrorKind::Permanent, what, reason);
                Some((Err(error), None))
            }
            Some(Err(error)) => Some((Err(error), None)),
            Some(Ok(chunk)) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Some((Ok(chunk), Some((bytes, left, what)))),
                None => {
                    let reason = "more bytes came than were asked for";
                    let error = StorageError::new(StorageErrorKind::Permanent, what, reason);
                    Some((Err(error), None))
                }
            },
        }
    }))
}

/// What lies in a range of all the bytes; nothing of what comes after it is read.
pub(super) fn cut(all: ObjectStream, range: Range<u64>) -> ObjectStream {
    let state = Some((all, 0, range));
    Box::pin(stream::unfold(state, |state| async {
        let (mut all, mut at, range) = state?;
        while at < range.end {
            let chunk = match all.next().await? {
                Ok(chunk) => chunk,
                Err(error) => return Some((Err(error), None)),
            };
            let start = range.start.saturating_sub(at).min(chunk.len() as u64);
            let end = (range.end - at).min(chunk.len() as u64);
            at += chunk.len() as u64;
            if start < end {
                // Both fit: they are no more than the chunk's own length.
                let bytes = usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
                return Some((Ok(chunk.slice(bytes)), Some((all, at, range))));
            }
        }
        None
    }))
}
