//! Reading a static cache: what is asked for is noted, and what a writer is told of is held.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Redirect, Response},
};
use larder_cache::{names::Names, source::object_storage::BuildId};
use larder_formats::nar_file::NarFile;

use super::{Shared, access::IsWriter};
use crate::{error::WebError, nar, narinfo, request::info_file::InfoFile};

/// How long a signed address leads to a NAR: longer than any download should take to begin, and to go on where it broke off.
const SIGNED_FOR: Duration = Duration::from_secs(60 * 60);

/// A narinfo, or a listing.
pub(crate) async fn narinfo_or_listing(
    State(cache): Shared,
    Extension(IsWriter(is_writer)): Extension<IsWriter>,
    Path(file): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, WebError> {
    let file = InfoFile::parse(&file, query.as_deref()).ok_or(WebError::Absent)?;
    let InfoFile::Narinfo(hash) = file else { return narinfo::answer(&cache.site, file).await };
    // A writer that is told of a path does not send it, so it has to stay until the writer is done. While a
    // collection may be removing it, it is better sent again.
    if is_writer && !cache.cache.try_hold(&Names::of_paths([hash])).await? {
        return Err(WebError::Absent);
    }
    narinfo::answer(&cache.site, file).await
}

/// Which NAR has the debug information of a build id.
pub(crate) async fn debuginfo(
    State(cache): Shared,
    Path(build_id): Path<String>,
) -> Result<Response, WebError> {
    let build_id = BuildId::parse(&build_id).ok_or(WebError::Absent)?;
    let link = cache.cache.debuginfo(build_id).await?.ok_or(WebError::Absent)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], link).into_response())
}

/// A NAR, or where to fetch it.
pub(crate) async fn nar(
    State(cache): Shared,
    method: Method,
    Path(file): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    if cache.served.redirect
        && method == Method::GET
        && let Some(name) = NarFile::parse(&file)
        && let Some(address) = cache.cache.signed_nar(&name, SIGNED_FOR).await?
    {
        return Ok(Redirect::temporary(&address).into_response());
    }
    nar::nar(State(Arc::clone(&cache.site)), method, Path(file), RawQuery(query), headers).await
}
