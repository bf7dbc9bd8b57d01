//! `/realisations/…` and `/build-trace-v2/…`: which path an output of a content-addressed derivation
//! turned out to be, asked for by Nix up to 2.34 and by Nix from 2.35 on.

use axum::{
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use larder_formats::realisation::RealisationKey;

use crate::{
    cache_site::{CacheSite, SharedCache},
    error::WebError,
    request::realisation_file,
};

/// `sha256:<hash>!<output>.doi`: the derivation by its hash modulo its inputs.
pub(crate) async fn by_hash(
    State(site): SharedCache,
    Path(file): Path<String>,
) -> Result<Response, WebError> {
    answer(&site, realisation_file::by_hash(&file)).await
}

/// `<derivation>/<output>.doi`: the derivation by its base name.
pub(crate) async fn by_path(
    State(site): SharedCache,
    Path((derivation, file)): Path<(String, String)>,
) -> Result<Response, WebError> {
    answer(&site, realisation_file::by_path(&derivation, &file)).await
}

async fn answer(site: &CacheSite, key: Option<RealisationKey>) -> Result<Response, WebError> {
    let key = key.ok_or(WebError::Absent)?;
    let realisation = site.cache.realisation(&key).await?.ok_or(WebError::Absent)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], realisation.to_json()).into_response())
}
