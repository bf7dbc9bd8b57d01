//! `/`: how to use this cache, ready to copy.

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use larder_formats::{cache_info::CacheInfo, signature::PublicKey};
use maud::{Markup, html};

use crate::{
    forwarded::Origin,
    page,
    server::peer::Peer,
    site::{Shared, Site},
    static_cache::StaticCache,
};

pub(crate) const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:3rem auto;padding:0 1rem}\
pre{background:#f4f4f2;padding:1rem;overflow:auto;border-radius:.4rem}\
@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}pre{background:#262626}a{color:#8bf}}";

/// The page. It tells each who asks the address they asked by, so nobody may keep it for others.
pub(crate) async fn page(
    State(site): Shared,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let origin = Origin::of(peer, &uri, &headers, &site.trusted_proxies);
    let address = origin.address(&site.base_path);
    let address = address.unwrap_or_else(|| format!("http://this-server:5000{}", site.base_path));
    let headers_out = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers_out, render(&site, &address).into_string()).into_response()
}

fn render(site: &Site, address: &str) -> Markup {
    let body = html! {
        h1 { "Larder" }
        @if let Some(store) = &site.store {
            (own_store(&store.cache.info(), &site.public_keys, address))
        }
        @for cache in &site.caches {
            (static_cache(cache, address))
        }
        @if !site.fleet_keys.is_empty() {
            h2 { "Upgrade from it, in /etc/larder/larder.toml" }
            pre { code { (client(address, &site.fleet_keys)) } }
            p { "What is built for which host: " a href="fleet" { "fleet" } ". What the last runs came to: " a href="builds" { "builds" } "." }
        }
    };
    page::page("Larder", STYLE, &body)
}

fn own_store(info: &CacheInfo, keys: &[PublicKey], address: &str) -> Markup {
    html! {
        p {
            "This is a Nix binary cache for " code { (info.store_dir) }
            ", with priority " (info.priority) "."
        }
        @if keys.is_empty() {
            p {
                strong { "It signs nothing: " }
                "no signing key is configured, so clients refuse what was built here. On the server: "
                code { "larder key generate NAME" } ", and name the file in " code { "signing-keys" } "."
            }
        } @else {
            h2 { "Use it on NixOS" }
            pre { code { (nixos(address, keys)) } }
            h2 { "Use it elsewhere, in nix.conf" }
            pre { code { (nix_conf(address, keys)) } }
        }
    }
}

/// A static cache of this server.
fn static_cache(cache: &StaticCache, address: &str) -> Markup {
    let address = format!("{}/{}", address.trim_end_matches('/'), cache.name());
    html! {
        h2 { "The cache " code { (cache.name()) } }
        pre { code { (nix_conf(&address, &cache.public_keys())) } }
        @if cache.is_private() {
            p {
                "Reading it takes a token, as the password for this host in the file that "
                code { "netrc-file" } " names; " code { "larder token create" } " makes one."
            }
        }
    }
}

fn nixos(address: &str, keys: &[PublicKey]) -> String {
    let keys: String = keys.iter().map(|key| format!("    \"{key}\"\n")).collect();
    format!(
        "nix.settings = {{\n  substituters = [ \"{address}\" ];\n  trusted-public-keys = [\n{keys}  ];\n}};"
    )
}

fn nix_conf(address: &str, keys: &[PublicKey]) -> String {
    let mut text = format!("extra-substituters = {address}");
    if !keys.is_empty() {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        text.push_str(&format!("\nextra-trusted-public-keys = {}", keys.join(" ")));
    }
    text
}

fn client(address: &str, keys: &[PublicKey]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    format!("[client]\nservers = [\"{address}\"]\nfleet-public-keys = [{}]", keys.join(", "))
}
