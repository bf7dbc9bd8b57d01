//! `/fleet`, `/fleet/<host>.json` and `/fleet/<host>.rev`.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use larder_fleet::ledger::{HostState, Ledger, LedgerError};
use serde_json::{Value, json};

use crate::{
    error::WebError,
    request::revision_file::RevisionFile,
    site::{Shared, Site},
};

/// All hosts: how the last run ended for each, and the newest revision. For people and their
/// scripts; it is not signed, and no client acts on it.
pub(crate) async fn overview(State(site): Shared) -> Result<Response, WebError> {
    let hosts = read(&site, |ledger| ledger.hosts()).await?.unwrap_or_default();
    let hosts: Vec<Value> = hosts.iter().map(describe).collect();
    Ok(json_response(format!("{:#}\n", json!({ "hosts": hosts }))))
}

/// One host's revision: sealed, or its nixpkgs commit alone.
pub(crate) async fn host(
    State(site): Shared,
    Path(file): Path<String>,
) -> Result<Response, WebError> {
    match RevisionFile::parse(&file).ok_or(WebError::Absent)? {
        RevisionFile::Sealed(host) => {
            let envelope = read(&site, move |ledger| ledger.latest_envelope(&host)).await?;
            envelope.flatten().map(json_response).ok_or(WebError::Absent)
        }
        RevisionFile::Nixpkgs(host) => {
            let revision = read(&site, move |ledger| ledger.latest(&host)).await?.flatten();
            let nixpkgs = revision.and_then(|revision| revision.nixpkgs).ok_or(WebError::Absent)?;
            Ok(format!("{nixpkgs}\n").into_response())
        }
    }
}

fn describe(state: &HostState) -> Value {
    let revision = state.revision.as_ref().map(|revision| {
        json!({
            "number": revision.number,
            "time": revision.time,
            "expires": revision.expires,
            "system": revision.system,
            "storePath": format!("{}/{}", revision.store_dir, revision.store_path),
            "closureSize": revision.closure_size,
            "commit": revision.commit,
            "nixpkgs": revision.nixpkgs,
        })
    });
    let last_run =
        state.last_run.as_ref().map(|(time, outcome)| json!({ "time": time, "result": outcome }));
    json!({ "host": state.host, "lastRun": last_run, "lastGood": revision })
}

pub(crate) fn json_response(body: String) -> Response {
    // What a client must not act on once it is old must not come from a cache in between.
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}

/// Asks the ledger; nothing, if there is none yet.
pub(crate) async fn read<T: Send + 'static>(
    site: &Arc<Site>,
    question: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
) -> Result<Option<T>, WebError> {
    let site = Arc::clone(site);
    let answer = tokio::task::spawn_blocking(move || match Ledger::read(&site.ledger)? {
        Some(ledger) => question(&ledger).map(Some),
        None => Ok(None),
    });
    match answer.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(WebError::History(error.to_string())),
        Err(panicked) => Err(WebError::History(panicked.to_string())),
    }
}
