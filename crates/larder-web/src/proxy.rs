//! A proxy as the routes see it: `/` for people, `/status` for programs.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use larder_cache::proxy::{Health, Proxy, Status, UpstreamStatus};
use maud::{Markup, html};

use crate::{cache_site::CacheSite, landing, metrics::Metrics, page};

/// What a proxy's site is made of.
pub struct ProxySite {
    /// Who answers for store paths, signed where it signs.
    pub cache: Arc<CacheSite>,
    /// Who knows how the upstreams are.
    pub proxy: Proxy,
    /// What `/metrics` tells; without it that is absent.
    pub metrics: Option<Metrics>,
}

pub(crate) type SharedProxy = State<Arc<ProxySite>>;

/// How the upstreams are, as JSON.
pub(crate) async fn status(State(site): SharedProxy) -> Response {
    status_of(&site.proxy)
}

pub(crate) fn status_of(proxy: &Proxy) -> Response {
    let json = serde_json::json!(proxy.status());
    ([(header::CONTENT_TYPE, "application/json")], format!("{json}\n")).into_response()
}

/// The same for people.
pub(crate) async fn page(State(site): SharedProxy) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, render(&site.proxy.status()).into_string()).into_response()
}

fn render(status: &Status) -> Markup {
    let body = html! {
        h1 { "Larder" }
        p {
            "A proxy of " (status.upstreams.len()) " Nix binary caches. Of " (status.asked)
            " paths that were asked for, " (status.absent) " were nowhere, and of " (status.could_not_tell)
            " not every cache told. The same for programs: " a href="status" { "status" } "."
        }
        @for upstream in &status.upstreams { (one(upstream)) }
    };
    page::page("Larder", landing::STYLE, &body)
}

fn one(upstream: &UpstreamStatus) -> Markup {
    html! {
        h2 { (upstream.name) }
        @for address in &upstream.addresses {
            p {
                code { (address.url) } " "
                @match address.health {
                    Health::Up => "answers",
                    Health::Down => strong { "does not answer" },
                    Health::Unproven => "has not answered yet",
                }
                "; found " (address.found) ", absent " (address.absent) ", not signed by its keys "
                (address.untrusted) ", not told " (address.failed) "."
            }
            @if let Some(failure) = address.last_failure.as_ref().filter(|_| address.health != Health::Up) {
                pre { (failure) }
            }
        }
    }
}
