//! Every route, on one page.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Redirect, Response},
    routing::{get, put},
};

use crate::{
    base_path::BasePath,
    builds,
    cache_site::CacheSite,
    error::WebError,
    files, fleet, landing, logs,
    metrics::Metrics,
    nar, narinfo,
    proxy::{self, ProxySite, SharedProxy},
    realisation,
    site::{Shared, Site},
    static_cache::{self, StaticCache},
};

/// The routes of a site, below its base path. GET routes answer HEAD as well.
pub fn router(site: Site) -> Router {
    let base = site.base_path.clone();
    let routes = Router::new()
        .route("/", get(landing::page))
        .route("/serve/{*file}", get(files::file))
        .route("/fleet", get(fleet::overview))
        .route("/fleet/{file}", get(fleet::host))
        .route("/builds", get(builds::list))
        .route("/builds/{file}", get(builds::build))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/health", get(health))
        .route("/version", get(version))
        .fallback(not_found);
    let store = site.store.as_ref().map_or_else(Router::new, |store| cache(Arc::clone(store)));
    let caches = site.caches.iter().map(|it| (format!("/{}", it.name()), static_cache(it)));
    let caches: Vec<_> = caches.collect();
    let all = routes.with_state(Arc::new(site)).merge(store);
    below(&base, caches.into_iter().fold(all, |all, (name, cache)| all.nest(&name, cache)))
}

/// The routes of a proxy. GET routes answer HEAD as well.
pub fn proxy_router(site: ProxySite) -> Router {
    let cache = cache(Arc::clone(&site.cache));
    Router::new()
        .route("/", get(proxy::page))
        .route("/status", get(proxy::status))
        .route("/metrics", get(proxy_metrics))
        .route("/health", get("ok\n"))
        .route("/version", get(version))
        .fallback(not_found)
        .with_state(Arc::new(site))
        .merge(cache)
}

/// The routes of one binary cache, from which Nix reads.
fn cache(cache: Arc<CacheSite>) -> Router {
    let remembered = Extension(Arc::new(narinfo::Remembered::new()));
    Router::new()
        .route("/nix-cache-info", get(narinfo::cache_info))
        .route("/{file}", get(narinfo::narinfo_or_listing).layer(remembered))
        .route("/nar/{file}", get(nar::nar))
        .route("/log/{name}", get(logs::log))
        .route("/realisations/{file}", get(realisation::by_hash))
        .route("/build-trace-v2/{derivation}/{file}", get(realisation::by_path))
        .with_state(cache)
}

/// The routes of a static cache, which may be written to as well.
fn static_cache(cache: &Arc<StaticCache>) -> Router {
    use static_cache as one;
    let read_only = Router::new()
        .route("/log/{name}", get(logs::log))
        .route("/realisations/{file}", get(realisation::by_hash))
        .route("/build-trace-v2/{derivation}/{file}", get(realisation::by_path))
        .route("/nix-cache-info", get(narinfo::cache_info))
        .with_state(cache.site());
    Router::new()
        .route("/{file}", get(one::narinfo_or_listing).put(one::put_file))
        .route("/nar/{file}", get(one::nar).put(one::put_nar))
        .route("/nix-cache-info", put(one::put_cache_info))
        .route("/log/{name}", put(one::put_log))
        .route("/realisations/{file}", put(one::put_realisation_by_hash))
        .route("/build-trace-v2/{derivation}/{file}", put(one::put_realisation_by_path))
        .route("/debuginfo/{build_id}", get(one::debuginfo).put(one::discard))
        .merge(read_only)
        .layer(from_fn_with_state(Arc::clone(cache), one::guard))
        .with_state(Arc::clone(cache))
}

fn below(base: &BasePath, routes: Router) -> Router {
    let Some(name) = base.last() else { return routes };
    // Relative, so that it holds whatever a proxy puts before it; links of the page need the slash.
    let slash = Redirect::temporary(&format!("./{name}/"));
    Router::new()
        .nest(&format!("{base}/"), routes)
        .route(base.as_str(), get(slash))
        .fallback(not_found)
}

async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, "not found\n")
}

/// Whether the store can be read. The path asked for need not exist: being able to tell is enough.
async fn health(State(site): Shared) -> Response {
    let probe = larder_formats::store_path::StorePathHash::from_bytes([0; 20]);
    let Some(store) = &site.store else { return "ok\n".into_response() };
    match store.cache.narinfo(probe).await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => {
            tracing::error!(%error, "the store cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read\n").into_response()
        }
    }
}

/// How those are that are asked for what is not here.
async fn status(State(site): Shared) -> Result<Response, WebError> {
    Ok(proxy::status_of(site.proxy.as_ref().ok_or(WebError::Absent)?))
}

/// What was counted, as Prometheus reads it.
async fn metrics(State(site): Shared) -> Result<Response, WebError> {
    metrics_page(site.metrics.as_ref())
}

async fn proxy_metrics(State(site): SharedProxy) -> Result<Response, WebError> {
    metrics_page(site.metrics.as_ref())
}

fn metrics_page(metrics: Option<&Metrics>) -> Result<Response, WebError> {
    let metrics = metrics.ok_or(WebError::Absent)?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, metrics.page()).into_response())
}

async fn version() -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    let body = serde_json::json!({ "name": "larder", "version": env!("CARGO_PKG_VERSION") });
    (json, format!("{body}\n"))
}
