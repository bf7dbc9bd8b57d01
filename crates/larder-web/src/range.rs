//! A part of a NAR or of a file: which one is asked for, and how an answer says which one it is.

use std::ops::Range;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use crate::{
    error::WebError,
    request::range::{self, Unsatisfiable},
};

/// The part of `size` bytes that is asked for; nothing for all of them.
pub(crate) fn requested(
    headers: &HeaderMap,
    size: u64,
    etag: &str,
) -> Result<Option<Range<u64>>, WebError> {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    let part = range::requested(value(header::RANGE), value(header::IF_RANGE), size, etag);
    part.map_err(|Unsatisfiable| WebError::Range { size })
}

/// Whether a part is asked for, of something whose size is not known yet.
pub(crate) fn is_requested(headers: &HeaderMap, etag: &str) -> bool {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    range::is_requested(value(header::RANGE), value(header::IF_RANGE), etag)
}

/// Says in a response which part of `size` bytes it holds, all of them for nothing, and that parts may
/// be asked for.
pub(crate) fn describe(response: &mut Response, part: Option<Range<u64>>, size: u64, etag: &str) {
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let length = part.as_ref().map_or(size, |part| part.end - part.start);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(part) = part {
        // Never empty: an empty range is not satisfiable.
        let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert(header::CONTENT_RANGE, text);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
}
