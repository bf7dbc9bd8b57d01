//! `/nar/…`: the bytes, whole or from where a download broke off.

use async_compression::tokio::bufread::ZstdEncoder;
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use larder_cache::cache::{ByteStream, NarIdentity};
use larder_formats::nar_file::NarFile;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::{
    cache_site::SharedCache,
    error::WebError,
    paced, packed_nar, range,
    request::{encoding, nar_name::NarName, packed_name::PackedName},
    stored,
};

/// Sends a NAR.
pub(crate) async fn nar(
    State(site): SharedCache,
    method: Method,
    Path(file): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    let Some(NarName { path, nar_hash }) = NarName::parse(&file, query.as_deref()) else {
        if let Some(packed) = &site.packed
            && let Some(name) = PackedName::parse(&file, query.as_deref())
        {
            return packed_nar::answer(&site.cache, packed, name, (&method, &headers)).await;
        }
        let name = NarFile::parse(&file).ok_or(WebError::Absent)?;
        let nar = site.cache.nar_file(&name).await?.ok_or(WebError::Absent)?;
        // What lies under such a name never changes.
        return stored::answer(nar, &format!("\"{}\"", name.hash.to_nix32()), &method, &headers);
    };
    let info = match nar_hash {
        Some(nar_hash) => site.cache.narinfo_of(NarIdentity { path, nar_hash }).await?,
        None => site.cache.narinfo(path).await?,
    };
    let info = info.ok_or(WebError::Absent)?;
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
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(stored::NAR));
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

fn accepts_zstd(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT_ENCODING).iter();
    values.any(|value| encoding::accepts_zstd(value.as_bytes()))
}

fn zstd(stream: ByteStream) -> Body {
    let reader = StreamReader::new(stream.map_err(std::io::Error::other));
    Body::from_stream(ReaderStream::with_capacity(ZstdEncoder::new(reader), 64 * 1024))
}
