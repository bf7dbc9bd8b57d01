//! Every route, on one page.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    files, fleet, landing, logs, nar, narinfo, realisation,
    site::{Shared, Site},
};

/// The routes of a site. GET routes answer HEAD as well.
pub fn router(site: Site) -> Router {
    let remembered = Extension(Arc::new(narinfo::Remembered::new()));
    Router::new()
        .route("/", get(landing::page))
        .route("/nix-cache-info", get(narinfo::cache_info))
        .route("/{file}", get(narinfo::narinfo_or_listing).layer(remembered))
        .route("/nar/{file}", get(nar::nar))
        .route("/log/{name}", get(logs::log))
        .route("/realisations/{file}", get(realisation::by_hash))
        .route("/build-trace-v2/{derivation}/{file}", get(realisation::by_path))
        .route("/serve/{*file}", get(files::file))
        .route("/fleet", get(fleet::overview))
        .route("/fleet/{file}", get(fleet::host))
        .route("/health", get(health))
        .route("/version", get(version))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
        .with_state(Arc::new(site))
}

/// Whether the store can be read. The path asked for need not exist: being able to tell is enough.
async fn health(State(site): Shared) -> Response {
    let probe = larder_formats::store_path::StorePathHash::from_bytes([0; 20]);
    match site.cache.narinfo(probe).await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => {
            tracing::error!(%error, "the store cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read\n").into_response()
        }
    }
}

async fn version() -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    let body = serde_json::json!({ "name": "larder", "version": env!("CARGO_PKG_VERSION") });
    (json, format!("{body}\n"))
}
