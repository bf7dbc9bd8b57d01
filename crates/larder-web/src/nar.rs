//! `/nar/…`: the bytes, whole or from where a download broke off.
//!
//! Three styles of name are understood, since clients remember a narinfo for up to 30 days and a server
//! that replaces another must go on answering what that one promised:
//!
//! - `<NAR hash>.nar?hash=<path hash>`: ours, and Harmonia's
//! - `<path hash>-<NAR hash>.nar`: nix-serve's
//! - `<path hash>.nar`: nix-serve's of old

use async_compression::tokio::bufread::ZstdEncoder;
use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use larder_cache::cache::{ByteStream, NarIdentity};
use larder_formats::{hash::Sha256, store_path::StorePathHash};
use serde::Deserialize;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::{error::WebError, paced, range, site::Shared};

/// What may follow the `?`.
#[derive(Debug, Deserialize)]
pub(crate) struct Parameters {
    hash: Option<String>,
}

/// Sends a NAR.
pub(crate) async fn nar(
    State(site): Shared,
    method: Method,
    Path(file): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    let (path, promised) = wanted(&file, parameters.hash.as_deref()).ok_or(WebError::Absent)?;
    let info = site.cache.narinfo(path).await?.ok_or(WebError::Absent)?;
    if promised.is_some_and(|promised| promised != info.nar_hash) {
        return Err(WebError::Absent);
    }
    let identity = NarIdentity { path, nar_hash: info.nar_hash };
    let size = info.nar_size;
    let etag = format!("\"{}\"", info.nar_hash.to_nix32());
    let part = range::requested(&headers, size, &etag)?;
    let encode = site.compress_nars && part.is_none() && accepts_zstd(&headers);
    let range = part.clone().unwrap_or(0..size);
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let stream = site.cache.nar(identity, range.clone()).await?.ok_or(WebError::Absent)?;
        if encode { zstd(stream) } else { paced::body(stream) }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-nix-nar"));
    if site.compress_nars {
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    if encode {
        // Without an ETag: that is the name of the bytes as they are, and parts of those do not fit.
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        return Ok(response);
    }
    range::describe(&mut response, part, size, &etag);
    Ok(response)
}

/// Which NAR a name means: of which path, and with which hash where the name says so.
fn wanted(file: &str, parameter: Option<&str>) -> Option<(StorePathHash, Option<Sha256>)> {
    let stem = file.strip_suffix(".nar")?;
    if let Some((path, nar)) = stem.split_once('-') {
        return Some((path.parse().ok()?, Some(Sha256::parse_nix32(nar).ok()?)));
    }
    match parameter {
        Some(path) => Some((path.parse().ok()?, Some(Sha256::parse_nix32(stem).ok()?))),
        None => Some((stem.parse().ok()?, None)),
    }
}

fn accepts_zstd(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            parts.next().is_some_and(|name| name.eq_ignore_ascii_case("zstd"))
                && !parts.any(|part| {
                    part.starts_with("q=0")
                        && !part.contains(['1', '2', '3', '4', '5', '6', '7', '8', '9'])
                })
        })
}

fn zstd(stream: ByteStream) -> Body {
    let reader = StreamReader::new(stream.map_err(std::io::Error::other));
    Body::from_stream(ReaderStream::with_capacity(ZstdEncoder::new(reader), 64 * 1024))
}
