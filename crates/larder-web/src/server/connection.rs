//! One connection, from its first request to its last answer.

use std::{pin::pin, sync::Arc};

use axum::http::StatusCode;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};

use super::{
    answer::Answerer,
    body::Track,
    limits::Limits,
    peer::Peer,
    phase::{Phase, Shared},
    serving::Common,
    streams::{Overdue, Streams},
    tls::Protocol,
    watched::Watched,
};
use crate::{endpoint::Endpoint, metrics};

/// Answers on a connection until either side ends it. Told to stop, it ends with the answers under
/// way, or when nothing more is asked.
pub(super) async fn drive<S>(stream: S, peer: Peer, common: &Arc<Common>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let ended = if peer.secure {
        secure(stream, peer, common).await
    } else {
        one_at_a_time(stream, peer, common).await
    };
    if let Err(reason) = ended {
        // Clients go away, and some are no clients at all: nothing that an operator must act on.
        tracing::trace!(%peer, reason, "a connection ended early");
    }
}

async fn secure<S>(stream: S, peer: Peer, common: &Arc<Common>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let tls = common.now().tls.clone().ok_or("there is no certificate any more")?;
    let agreed = tokio::select! {
        biased;
        agreed = timeout(common.limits.head, tls.accept(stream)) => agreed,
        () = last_call(common) => return Err("no handshake before the stop".to_owned()),
    };
    let (stream, protocol) =
        agreed.map_err(|_| "no handshake in time")?.map_err(|error| error.to_string())?;
    match protocol {
        Protocol::Http1 => one_at_a_time(stream, peer, common).await,
        Protocol::Http2 => many_at_once(stream, peer, common).await,
    }
}

/// Waits until the server stops, and what was sent before has had time to arrive.
async fn last_call(common: &Common) {
    common.stop.cancelled().await;
    sleep(common.limits.last_call).await;
}

/// HTTP/1: one answer after the other.
async fn one_at_a_time<S>(stream: S, peer: Peer, common: &Arc<Common>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let phase = Shared::default();
    let watched = Watched::new(stream, phase.clone(), &common.limits);
    let answerer =
        Answerer { common: Arc::clone(common), track: Track::Phase(phase.clone()), peer };
    let service = service_fn(move |request| answerer.clone().answer(request));
    let mut http = http1::Builder::new();
    // The time is `Watched`'s business: hyper's own limit would count waiting for a request as well.
    http.header_read_timeout(None).max_header_size(common.limits.head_size);
    let mut connection = pin!(http.serve_connection(TokioIo::new(watched), service));
    let stopping = async {
        common.stop.cancelled().await;
        if phase.get() != Phase::Answering {
            sleep(common.limits.last_call).await;
        }
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(|error| {
        count_refused(&error);
        error.to_string()
    })
}

/// Counts a request that hyper has answered by itself, since it could not be made out.
fn count_refused(error: &hyper::Error) {
    let status = if error.is_parse_too_large() {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    } else if error.is_parse() && !error.is_parse_version_h2() {
        StatusCode::BAD_REQUEST
    } else {
        return;
    };
    metrics::answered(Endpoint::Other, status.as_u16());
}

/// HTTP/2: as many answers at once as the limits grant.
async fn many_at_once<S>(stream: S, peer: Peer, common: &Arc<Common>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Limits { head_size, streams: most, .. } = common.limits;
    // Requests come in frames among others, so that of the bytes only the writing is watched.
    let phase = Shared::default();
    phase.set(Phase::Answering);
    let watched = Watched::new(stream, phase.clone(), &common.limits);
    let streams = Streams::new(&common.limits);
    let answerer =
        Answerer { common: Arc::clone(common), track: Track::Streams(streams.clone()), peer };
    let service = service_fn(move |request| answerer.clone().answer(request));
    let mut http = http2::Builder::new(streams.clone());
    http.max_header_list_size(u32::try_from(head_size).unwrap_or(u32::MAX))
        .max_concurrent_streams(most);
    let mut connection = pin!(http.serve_connection(TokioIo::new(watched), service));
    let overdue = tokio::select! {
        biased;
        ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
        () = common.stop.cancelled() => Overdue::Idle,
        overdue = streams.overdue() => overdue,
    };
    if overdue == Overdue::Idle {
        connection.as_mut().graceful_shutdown();
        // That asks the peer for a word before it ends, and not everybody gives it: curl, for one, does
        // not look at connections that it keeps for later.
        tokio::select! {
            biased;
            ended = connection => return ended.map_err(|error| error.to_string()),
            overdue = streams.over(&phase) => if overdue == Overdue::Idle {
                return Ok(());
            }
        }
    }
    Err("the reader took nothing for too long".to_owned())
}
