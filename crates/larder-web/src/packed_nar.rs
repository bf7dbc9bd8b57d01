//! `/nar/<NAR hash>.nar.zst?…`: a NAR of the store, packed when it is first asked for.
//!
//! One that is packed as its name says has ranges, and a tag: whoever has the beginning of it may ask for the rest.
//! Where the name says another way of packing, which the server had before, there is the whole and no part of it.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use larder_cache::{
    cache::{ByteStream, Cache, NarIdentity},
    packed::{PackedNar, PackedNars, Unpacked},
};

use crate::{error::WebError, paced, range, request::packed_name::PackedName, stored};

/// Sends it.
pub(crate) async fn answer(
    cache: &Arc<dyn Cache>,
    packed: &PackedNars,
    name: PackedName,
    (method, headers): (&Method, &HeaderMap),
) -> Result<Response, WebError> {
    let PackedName { path, nar_hash, recipe } = name;
    let info = cache.narinfo(path).await?.ok_or(WebError::Absent)?;
    if info.nar_hash != nar_hash {
        return Err(WebError::Absent);
    }
    let nar = NarIdentity { path, nar_hash };
    let unpacked = Unpacked { cache: Arc::clone(cache), nar, size: info.nar_size };
    if *method == Method::HEAD {
        return Ok(head(packed, &name));
    }
    let found = match recipe {
        Some(recipe) => packed.nar(unpacked.clone(), recipe).await,
        None => None,
    };
    let etag = etag(&name);
    match found {
        Some(PackedNar::Whole(nar)) => stored::answer(nar, &etag, method, headers),
        Some(PackedNar::Coming(nar)) if range::is_requested(headers, &etag) => {
            stored::answer(nar.whole().await?, &etag, method, headers)
        }
        Some(PackedNar::Coming(nar)) => Ok(resumable(coming(nar.stream().await?), &etag)),
        None => {
            let now = packed.nar(unpacked, packed.recipe()).await.ok_or(WebError::Absent)?;
            Ok(coming(match now {
                PackedNar::Whole(nar) => (nar.contents)(0..nar.size),
                PackedNar::Coming(nar) => nar.stream().await?,
            }))
        }
    }
}

/// What is told of it without packing it.
fn head(packed: &PackedNars, name: &PackedName) -> Response {
    let mut response = coming(Box::pin(futures::stream::empty()));
    let Some(recipe) = name.recipe else { return response };
    match packed.size(name.nar_hash, recipe) {
        Some(size) => {
            range::describe(&mut response, None, size, &etag(name));
            response
        }
        None if recipe == packed.recipe() => resumable(response, &etag(name)),
        None => response,
    }
}

fn etag(name: &PackedName) -> String {
    let recipe = name.recipe.map(|recipe| recipe.to_string()).unwrap_or_default();
    format!("\"{}-{recipe}\"", name.nar_hash.to_nix32())
}

/// All of it, of a size that nobody knows yet.
fn coming(bytes: ByteStream) -> Response {
    ([(header::CONTENT_TYPE, stored::NAR)], paced::body(bytes)).into_response()
}

fn resumable(mut response: Response, etag: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}
