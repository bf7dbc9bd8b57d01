//! `/nix-cache-info`, `/<hash>.narinfo` (as JSON with `?json`) and `/<hash>.ls`.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use larder_cache::cache::CacheError;
use larder_formats::store_path::StorePathHash;
use moka::sync::Cache as Memory;

use crate::{
    cache_site::{CacheSite, SharedCache},
    error::WebError,
    metrics,
    request::info_file::InfoFile,
};

/// Bytes of narinfos that are remembered. One is some 1.2 kB, a system some thousands of them.
const REMEMBERED: u64 = 16 * 1024 * 1024;

/// What an entry costs beside its text.
const OVERHEAD: usize = 200;

/// The texts of narinfos, each with the cache's generation under which it was true. One that is of
/// another generation is not used, so nothing remembered is ever stale.
pub(crate) struct Remembered(Memory<StorePathHash, (u64, Option<Bytes>)>);

impl Remembered {
    pub(crate) fn new() -> Self {
        let weight = |_: &StorePathHash, (_, text): &(u64, Option<Bytes>)| {
            let length = text.as_ref().map_or(0, Bytes::len) + OVERHEAD;
            u32::try_from(length).unwrap_or(u32::MAX)
        };
        Self(Memory::builder().max_capacity(REMEMBERED).weigher(weight).build())
    }

    async fn narinfo(
        &self,
        site: &CacheSite,
        hash: StorePathHash,
    ) -> Result<Option<Bytes>, CacheError> {
        // Asked before the answer is read: what changes in between makes the entry old, not wrong.
        let generation = site.cache.generation();
        if let Some(generation) = generation
            && let Some((remembered, text)) = self.0.get(&hash)
            && remembered == generation
        {
            metrics::remembered();
            return Ok(text);
        }
        let info = site.cache.narinfo(hash).await?;
        // Boxed, since a text that was written piece by piece has room for more, which would be kept too.
        let text = info.map(|info| {
            let text = info.to_text(&site.cache.info().store_dir);
            Bytes::from(text.into_boxed_str().into_boxed_bytes())
        });
        if let Some(generation) = generation {
            self.0.insert(hash, (generation, text.clone()));
        }
        Ok(text)
    }
}

/// What the cache says of itself.
pub(crate) async fn cache_info(State(site): SharedCache) -> Response {
    ([(header::CONTENT_TYPE, "text/x-nix-cache-info")], site.cache.info().to_text()).into_response()
}

/// One path segment cannot be split by the router, so both kinds of file arrive here.
pub(crate) async fn narinfo_or_listing(
    State(site): SharedCache,
    Extension(remembered): Extension<Arc<Remembered>>,
    Path(file): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, WebError> {
    match InfoFile::parse(&file, query.as_deref()).ok_or(WebError::Absent)? {
        InfoFile::Narinfo(hash) => {
            let text = remembered.narinfo(&site, hash).await?.ok_or(WebError::Absent)?;
            Ok(narinfo(text))
        }
        file => answer(&site, file).await,
    }
}

/// What a file says, looked up now.
pub(crate) async fn answer(site: &CacheSite, file: InfoFile) -> Result<Response, WebError> {
    let store_dir = || site.cache.info().store_dir;
    match file {
        InfoFile::NarinfoAsJson(hash) => {
            let info = site.cache.narinfo(hash).await?.ok_or(WebError::Absent)?;
            let json = info.to_json(&store_dir());
            Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
        }
        InfoFile::Narinfo(hash) => {
            let info = site.cache.narinfo(hash).await?.ok_or(WebError::Absent)?;
            Ok(narinfo(Bytes::from(info.to_text(&store_dir()))))
        }
        InfoFile::Listing(hash) => {
            let listing = site.cache.listing(hash).await?.ok_or(WebError::Absent)?;
            Ok(([(header::CONTENT_TYPE, "application/json")], listing.to_json()).into_response())
        }
    }
}

fn narinfo(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "text/x-nix-narinfo")], text).into_response()
}
