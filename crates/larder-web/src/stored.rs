//! NARs that lie in a file, and so have a size.

use axum::{
    body::Body,
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Response},
};
use larder_cache::cache::StoredNar;

use crate::{error::WebError, paced, range};

/// The kind of content that NARs are, packed or not.
pub(crate) const NAR: &str = "application/x-nix-nar";

/// Sends it, or the part that is asked for.
pub(crate) fn answer(
    nar: StoredNar,
    etag: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, WebError> {
    let StoredNar { size, contents } = nar;
    let part = range::requested(headers, size, etag)?;
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => paced::body(contents(part.clone().unwrap_or(0..size))),
    };
    let mut response = ([(header::CONTENT_TYPE, NAR)], body).into_response();
    range::describe(&mut response, part, size, etag);
    Ok(response)
}
