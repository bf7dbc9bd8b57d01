//! `/log/…`: the log of a build, by the derivation's name or its hash part, or by the hash part of
//! what it built.

use axum::{
    body::Body,
    extract::{Path, State},
    http::{Method, header},
    response::{IntoResponse, Response},
};

use crate::{cache_site::SharedCache, error::WebError, paced, request::info_file::LogName};

/// Sends a log as text.
pub(crate) async fn log(
    State(site): SharedCache,
    method: Method,
    Path(name): Path<String>,
) -> Result<Response, WebError> {
    let candidates = match LogName::parse(&name).ok_or(WebError::Absent)? {
        LogName::Derivation(path) => vec![path],
        LogName::Hash(hash) => site.cache.derivations(hash).await?,
    };
    for derivation in candidates {
        if let Some(log) = site.cache.log(&derivation).await? {
            let body = if method == Method::HEAD { Body::empty() } else { paced::body(log) };
            return Ok(
                ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
            );
        }
    }
    Err(WebError::Absent)
}
