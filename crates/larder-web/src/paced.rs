//! Bodies whose next chunk is handed out when the one before has been sent.
//!
//! Promise: of each answer under way, one chunk waits to be sent, whatever the reader's pace. Left to
//! itself, hyper asks for more until some 400 kB wait, which over many slow readers is more memory than
//! all else. It rests on hyper's dropping what it has written; who keeps a chunk gets no other.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::StreamExt;
use larder_cache::cache::ByteStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body of these bytes.
pub(crate) fn body(stream: ByteStream) -> Body {
    let turn = Arc::new(Semaphore::new(1));
    Body::from_stream(futures::stream::unfold((stream, turn), |(mut stream, turn)| async move {
        // It is never closed, so this only ever waits.
        let permit = Arc::clone(&turn).acquire_owned().await.ok()?;
        let chunk = stream.next().await?;
        let lent = chunk.map(|bytes| Bytes::from_owner(Lent { bytes, _turn: permit }));
        Some((lent, (stream, turn)))
    }))
}

/// Bytes that make room for the next when they are dropped.
struct Lent {
    bytes: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
