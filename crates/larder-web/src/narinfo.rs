//! `/nix-cache-info`, `/<hash>.narinfo` and `/<hash>.ls`.

use axum::{
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use larder_formats::store_path::StorePathHash;

use crate::{error::WebError, site::Shared};

/// What the cache says of itself.
pub(crate) async fn cache_info(State(site): Shared) -> Response {
    ([(header::CONTENT_TYPE, "text/x-nix-cache-info")], site.cache.info().to_text()).into_response()
}

/// One path segment cannot be split by the router, so both kinds of file arrive here.
pub(crate) async fn narinfo_or_listing(
    State(site): Shared,
    Path(file): Path<String>,
) -> Result<Response, WebError> {
    let (stem, ending) = file.split_once('.').ok_or(WebError::Absent)?;
    let hash: StorePathHash = stem.parse().map_err(|_| WebError::Absent)?;
    match ending {
        "narinfo" => {
            let info = site.cache.narinfo(hash).await?.ok_or(WebError::Absent)?;
            let text = info.to_text(&site.cache.info().store_dir);
            Ok(([(header::CONTENT_TYPE, "text/x-nix-narinfo")], text).into_response())
        }
        "ls" => {
            let listing = site.cache.listing(hash).await?.ok_or(WebError::Absent)?;
            Ok(([(header::CONTENT_TYPE, "application/json")], listing.to_json()).into_response())
        }
        _ => Err(WebError::Absent),
    }
}
