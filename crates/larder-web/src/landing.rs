//! `/`: how to use this cache, ready to copy.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use larder_formats::signature::PublicKey;
use maud::{DOCTYPE, Markup, html};

use crate::site::{Shared, Site};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:3rem auto;padding:0 1rem}\
pre{background:#f4f4f2;padding:1rem;overflow:auto;border-radius:.4rem}\
@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}pre{background:#262626}a{color:#8bf}}";

/// The page.
pub(crate) async fn page(State(site): Shared, headers: HeaderMap) -> Response {
    let headers_out = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers_out, render(&site, &address(&headers)).into_string()).into_response()
}

/// The address that the browser used, if it is one that can be shown.
fn address(headers: &HeaderMap) -> String {
    headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c)))
        .map_or_else(|| "http://this-server:5000".to_owned(), |host| format!("http://{host}"))
}

fn render(site: &Site, address: &str) -> Markup {
    let info = site.cache.info();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Larder" }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { "Larder" }
                p {
                    "This is a Nix binary cache for " code { (info.store_dir) }
                    ", with priority " (info.priority) "."
                }
                @if site.public_keys.is_empty() {
                    p {
                        strong { "It signs nothing: " }
                        "no signing key is configured, so clients refuse what was built here. On the server: "
                        code { "larder key generate NAME" } ", and name the file in " code { "signing-keys" } "."
                    }
                } @else {
                    h2 { "Use it on NixOS" }
                    pre { code { (nixos(address, &site.public_keys)) } }
                    h2 { "Use it elsewhere, in nix.conf" }
                    pre { code { (nix_conf(address, &site.public_keys)) } }
                }
                @if !site.fleet_keys.is_empty() {
                    h2 { "Upgrade from it, in /etc/larder/larder.toml" }
                    pre { code { (client(address, &site.fleet_keys)) } }
                    p { "What is built for which host: " a href="fleet" { "fleet" } "." }
                }
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
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    format!("extra-substituters = {address}\nextra-trusted-public-keys = {}", keys.join(" "))
}

fn client(address: &str, keys: &[PublicKey]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    format!("[client]\nservers = [\"{address}\"]\nfleet-public-keys = [{}]", keys.join(", "))
}
