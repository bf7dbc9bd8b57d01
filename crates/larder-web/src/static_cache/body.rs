//! What a client sends, as long as it does.

use std::{io, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    http::{HeaderMap, header},
};
use bytes::BytesMut;
use futures::{StreamExt, stream};
use larder_cache::{compression, source::object_storage::Incoming};
use larder_formats::narinfo::Compression;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout},
};
use tokio_util::io::StreamReader;

use super::gate::UploadLimits;
use crate::error::WebError;

/// How long an upload may be slower than the slowest.
const HEAD_START: Duration = Duration::from_secs(60);

/// Bytes that are read of an upload at once, when it is unpacked.
const CHUNK: usize = 64 * 1024;

/// The bytes as they come. Who stalls or trickles gets an error of the kind `TimedOut`.
pub(super) fn incoming(body: Body, limits: &UploadLimits) -> Incoming {
    let UploadLimits { stall, slowest, .. } = *limits;
    let state = Some((body.into_data_stream(), Instant::now(), 0));
    Box::pin(stream::unfold(state, move |state| async move {
        let (mut body, began, before): (BodyDataStream, Instant, u64) = state?;
        let chunk = match timeout(stall, body.next()).await {
            Err(_) => return Some((Err(late("nothing came for too long")), None)),
            Ok(None) => return None,
            Ok(Some(Err(error))) => return Some((Err(io::Error::other(error)), None)),
            Ok(Some(Ok(chunk))) => chunk,
        };
        let come = before + chunk.len() as u64;
        let time = began.elapsed().saturating_sub(HEAD_START);
        if come < time.as_secs().saturating_mul(slowest) {
            return Some((Err(late("it comes too slowly")), None));
        }
        Some((Ok(chunk), Some((body, began, come))))
    }))
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// How many bytes are promised, where they are.
pub(super) fn promised(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A small body, whole, without its `Content-Encoding`.
pub(super) async fn whole(
    headers: &HeaderMap,
    bytes: Incoming,
    limit: usize,
) -> Result<Bytes, WebError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    let compression = match encoding {
        None | Some(b"identity" | b"") => Compression::None,
        Some(b"gzip" | b"x-gzip") => Compression::Gzip,
        Some(b"zstd") => Compression::Zstd,
        Some(b"br") => Compression::Br,
        Some(b"xz") => Compression::Xz,
        Some(b"bzip2") => Compression::Bzip2,
        Some(_) => return Err(WebError::Encoding),
    };
    let reader = StreamReader::new(bytes);
    let mut reader = compression::unpacked(compression, reader).map_err(|_| WebError::Encoding)?;
    let mut all = BytesMut::new();
    loop {
        all.reserve(CHUNK);
        match reader.read_buf(&mut all).await {
            Ok(0) => return Ok(all.freeze()),
            Ok(_) if all.len() > limit => return Err(WebError::TooLarge(limit as u64)),
            Ok(_) => {}
            Err(error) => return Err(WebError::broken_off(&error)),
        }
    }
}

/// Takes what comes, and keeps none of it.
pub(super) async fn dropped(mut bytes: Incoming, limit: u64) -> Result<(), WebError> {
    let mut come = 0;
    while let Some(chunk) = bytes.next().await {
        come += chunk.map_err(|error| WebError::broken_off(&error))?.len() as u64;
        if come > limit {
            return Err(WebError::TooLarge(limit));
        }
    }
    Ok(())
}
