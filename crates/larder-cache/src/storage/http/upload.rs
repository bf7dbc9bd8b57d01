//! Sending an object with its length, and noticing when nothing moves any more.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use reqwest::{
    Body, RequestBuilder, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use tokio::time::sleep;

use super::{super::spooled::Whole, failure::Failure};

/// Sends it, and gives up when neither a piece was taken nor an answer came for so long.
pub(super) async fn send(
    request: RequestBuilder,
    whole: &Whole,
    stalled: Duration,
) -> Result<Response, Failure> {
    let taken = Arc::new(AtomicU64::new(0));
    let broken = Arc::new(Mutex::new(None));
    let (counter, reason) = (Arc::clone(&taken), Arc::clone(&broken));
    let pieces = whole.stream().map_err(Failure::Ours)?.map(move |piece| {
        counter.fetch_add(1, Ordering::Relaxed);
        piece.map_err(|error| {
            let copy = std::io::Error::new(error.kind(), error.to_string());
            *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            copy
        })
    });
    let request = request
        .header(CONTENT_LENGTH, whole.len())
        .header(CONTENT_TYPE, "application/octet-stream")
        .body(Body::wrap_stream(pieces));
    let sending = request.send();
    tokio::pin!(sending);
    let mut seen = 0;
    let answer = loop {
        tokio::select! {
            answer = &mut sending => break answer,
            () = sleep(stalled) => {
                let now = taken.load(Ordering::Relaxed);
                if now == seen {
                    return Err(Failure::Silence);
                }
                seen = now;
            }
        }
    };
    answer.map_err(|error| {
        let ours = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        ours.map_or_else(|| error.into(), Failure::Ours)
    })
}
