//! Uploads, in the two steps of the protocol: a NAR is taken in and verified, a narinfo makes it a path.
//!
//! What can be made from a verified NAR is made here, and what a client sends of it is not believed: listings, and where
//! debug information is.

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use larder_cache::source::object_storage::{Committed, NARINFO_LIMIT};
use larder_formats::{
    cache_info::CacheInfo,
    nar_file::NarFile,
    narinfo::NarInfo,
    realisation::{Realisation, RealisationKey},
};

use super::{Shared, StaticCache, body};
use crate::{
    error::WebError,
    request::{
        info_file::{InfoFile, LogName},
        realisation_file,
    },
};

/// Bytes of a build log.
const LOG_LIMIT: usize = 64 * 1024 * 1024;

/// Bytes of a realisation, or of what a cache says of itself.
const SMALL_LIMIT: usize = 1024 * 1024;

/// Bytes of what is not kept.
const DISCARD_LIMIT: u64 = 256 * 1024 * 1024;

/// `PUT /nar/<file>`: the first step.
pub(crate) async fn put_nar(
    State(cache): Shared,
    Path(file): Path<String>,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, WebError> {
    let file = NarFile::parse(&file).ok_or_else(|| {
        WebError::refused(
            "a NAR is uploaded as nar/<hash of the file>.nar, with its compression's suffix",
        )
    })?;
    let limit = cache.served.terms.limits.file_size;
    if body::promised(&headers).is_some_and(|promised| promised > limit) {
        return Err(WebError::TooLarge(limit));
    }
    let _place = cache.gate.enter().await?;
    let bytes = body::incoming(sent, cache.gate.limits());
    cache.prepare().await?;
    let _ = cache.cache.stage(file, bytes, cache.served.terms.limits).await?;
    Ok(StatusCode::CREATED)
}

/// `PUT /<hash>.narinfo`, the second step; and `PUT /<hash>.ls`.
pub(crate) async fn put_file(
    State(cache): Shared,
    Path(file): Path<String>,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, WebError> {
    let hash = match InfoFile::parse(&file, None) {
        Some(InfoFile::Narinfo(hash)) => hash,
        Some(InfoFile::Listing(_)) => return discard(State(cache), sent).await,
        _ => return Err(WebError::refused("only narinfos and listings lie here: <hash>.narinfo")),
    };
    let text = small(&cache, &headers, sent, NARINFO_LIMIT).await?;
    let info = NarInfo::parse(&text, cache.cache.store_dir())
        .map_err(|error| WebError::refused(format!("the narinfo cannot be read: {error}")))?;
    if info.store_path.hash() != hash {
        let path = &info.store_path;
        return Err(WebError::refused(format!("the narinfo is about {path}, not about {hash}")));
    }
    cache.prepare().await?;
    Ok(match cache.cache.commit(info, &cache.served.terms).await? {
        Committed::New => StatusCode::CREATED,
        // The path is there; clients know the NAR that it has.
        Committed::Kept => StatusCode::OK,
    })
}

/// `PUT /nix-cache-info`: that of this cache is what it is.
pub(crate) async fn put_cache_info(
    State(cache): Shared,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, WebError> {
    let text = small(&cache, &headers, sent, SMALL_LIMIT).await?;
    let theirs = CacheInfo::parse(&text)
        .map_err(|error| WebError::refused(format!("nix-cache-info cannot be read: {error}")))?;
    let (theirs, ours) = (theirs.store_dir, cache.cache.store_dir());
    if theirs != *ours {
        let text = format!("this is a cache of the store {ours}, and yours is {theirs}");
        return Err(WebError::refused(text));
    }
    Ok(StatusCode::OK)
}

/// `PUT /log/<derivation>`.
pub(crate) async fn put_log(
    State(cache): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, WebError> {
    let Some(LogName::Derivation(derivation)) = LogName::parse(&name) else {
        return Err(WebError::refused("a log is uploaded under the name of its derivation"));
    };
    let _place = cache.gate.enter().await?;
    let bytes = body::incoming(sent, cache.gate.limits());
    let text = body::whole(&headers, bytes, LOG_LIMIT).await?;
    cache.prepare().await?;
    cache.cache.put_log(&derivation, text).await?;
    Ok(StatusCode::CREATED)
}

/// `PUT /realisations/sha256:<hash>!<output>.doi`.
pub(crate) async fn put_realisation_by_hash(
    State(cache): Shared,
    Path(file): Path<String>,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, WebError> {
    put_realisation(&cache, realisation_file::by_hash(&file), &headers, sent).await
}

/// `PUT /build-trace-v2/<derivation>/<output>.doi`.
pub(crate) async fn put_realisation_by_path(
    State(cache): Shared,
    Path((derivation, file)): Path<(String, String)>,
    headers: HeaderMap,
    sent: Body,
) -> Result<StatusCode, WebError> {
    put_realisation(&cache, realisation_file::by_path(&derivation, &file), &headers, sent).await
}

async fn put_realisation(
    cache: &StaticCache,
    key: Option<RealisationKey>,
    headers: &HeaderMap,
    sent: Body,
) -> Result<StatusCode, WebError> {
    let key = key.ok_or_else(|| WebError::refused("this is not the name of a realisation"))?;
    let text = small(cache, headers, sent, SMALL_LIMIT).await?;
    let realisation = Realisation::parse(&key, &text)
        .map_err(|error| WebError::refused(format!("the realisation cannot be read: {error}")))?;
    cache.prepare().await?;
    cache.cache.commit_realisation(realisation, &cache.served.terms).await?;
    Ok(StatusCode::CREATED)
}

/// `PUT /debuginfo/<build id>` and listings: taken, as clients send them before anything can be checked, and not
/// kept, since they are made here from what was verified.
pub(crate) async fn discard(State(cache): Shared, sent: Body) -> Result<StatusCode, WebError> {
    let _place = cache.gate.enter().await?;
    let bytes = body::incoming(sent, cache.gate.limits());
    body::dropped(bytes, DISCARD_LIMIT).await?;
    Ok(StatusCode::OK)
}

/// A small text, for which nobody waits long.
async fn small(
    cache: &StaticCache,
    headers: &HeaderMap,
    sent: Body,
    limit: usize,
) -> Result<String, WebError> {
    let bytes = body::incoming(sent, cache.gate.limits());
    let bytes = body::whole(headers, bytes, limit).await?;
    String::from_utf8(bytes.into()).map_err(|_| WebError::refused("this is not UTF-8"))
}
