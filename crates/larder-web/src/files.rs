//! `/serve/<hash>/…`: the files inside a store path, for people and their browsers.
//!
//! What is in a store may be anybody's work, and it is shown on our origin: so every answer says
//! `sandbox`, by which a browser runs no script in it and lets it see nothing of ours, and `nosniff`, by
//! which it is what its name says and nothing else.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use larder_cache::cache::{FolderEntry, FolderEntryKind, PathFile};
use maud::{Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::{error::WebError, paced, page, range, request::inner_path::InnerPath, site::Shared};

/// What is written as it is in a link (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const SAFE: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:3rem auto;padding:0 1rem}\
td{padding-right:2rem}td:last-child{text-align:right}\
@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}a{color:#8bf}}";

/// Sends a file; for a folder, its `index.html` or what is in it.
pub(crate) async fn file(
    State(site): Shared,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    // As it came: what the router has decoded would have to be UTF-8.
    let place = uri.path().strip_prefix("/serve/").and_then(InnerPath::parse);
    let InnerPath { hash, mut names, folder } = place.ok_or(WebError::Absent)?;
    let cache = &site.store.as_ref().ok_or(WebError::Absent)?.cache;
    let info = cache.narinfo(hash).await?.ok_or(WebError::Absent)?;
    let etag = format!("\"{}\"", info.nar_hash.to_nix32());
    let found = cache.file(hash, names.clone()).await?.ok_or(WebError::Absent)?;
    let found = match found {
        // Links in a page are relative to the folder only if its address ends in a slash.
        PathFile::Directory(_) if !folder => {
            let own = names.pop().unwrap_or_else(|| hash.to_string().into());
            return Ok(
                (SAFE, Redirect::temporary(&format!("./{}/", escaped(&own)))).into_response()
            );
        }
        PathFile::Directory(entries) => {
            names.push("index.html".into());
            let index = if entries.iter().any(|entry| entry.name == "index.html") {
                cache.file(hash, names.clone()).await?
            } else {
                None
            };
            match index {
                Some(index @ PathFile::Regular { .. }) => index,
                _ => {
                    names.pop();
                    return Ok(listing(&info.store_path.to_string(), &names, &entries));
                }
            }
        }
        PathFile::Regular { .. } if folder && !names.is_empty() => return Err(WebError::Absent),
        regular => regular,
    };
    let PathFile::Regular { size, contents } = found else { return Err(WebError::Absent) };
    let part = range::requested(&headers, size, &etag)?;
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => paced::body(contents(part.clone().unwrap_or(0..size))),
    };
    let name = names.pop().unwrap_or_else(|| info.store_path.name().into());
    let mut response = (SAFE, [(header::CONTENT_TYPE, content_type(&name))], body).into_response();
    range::describe(&mut response, part, size, &etag);
    Ok(response)
}

fn content_type(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    let guess = mime_guess::from_path(name.as_ref()).first_or_octet_stream();
    if guess.type_() == mime_guess::mime::TEXT {
        format!("{guess}; charset=utf-8")
    } else {
        guess.to_string()
    }
}

fn escaped(name: &OsStr) -> String {
    percent_encode(name.as_bytes(), ESCAPED).to_string()
}

fn listing(path: &str, names: &[OsString], entries: &[FolderEntry]) -> Response {
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (SAFE, html, render(path, names, entries).into_string()).into_response()
}

fn render(path: &str, names: &[OsString], entries: &[FolderEntry]) -> Markup {
    let title = names
        .iter()
        .fold(path.to_owned(), |title, name| format!("{title}/{}", name.to_string_lossy()));
    let body = html! {
        h1 { (title) }
        table {
            @if !names.is_empty() {
                tr { td { a href="../" { "../" } } td {} }
            }
            @for entry in entries {
                (row(entry))
            }
        }
    };
    page::page(&title, STYLE, &body)
}

fn row(entry: &FolderEntry) -> Markup {
    let name = entry.name.to_string_lossy();
    let link = format!("./{}", escaped(&entry.name));
    html! {
        tr {
            @match &entry.kind {
                FolderEntryKind::Regular(size) => {
                    td { a href=(link) { (name) } }
                    td { (size) " bytes" }
                }
                FolderEntryKind::Directory => {
                    td { a href=(format!("{link}/")) { (name) "/" } }
                    td {}
                }
                FolderEntryKind::Symlink(target) => {
                    td { a href=(link) { (name) } " → " (target.to_string_lossy()) }
                    td {}
                }
            }
        }
    }
}
