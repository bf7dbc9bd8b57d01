//! One connection, from its first request to its last answer.

use std::pin::pin;

use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answerer, Peer},
    limits::Limits,
    phase::{Phase, Shared},
    watched::Watched,
};

/// What all connections of a server have in common.
pub(super) struct Common {
    pub(super) router: TowerToHyperService<Router>,
    pub(super) limits: Limits,
    pub(super) stop: CancellationToken,
}

/// Answers on a connection until either side ends it. Told to stop, it ends with the answer under
/// way, or when nothing more is asked.
pub(super) async fn drive<S>(stream: S, peer: Peer, common: &Common)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let phase = Shared::default();
    let watched = Watched::new(stream, phase.clone(), &common.limits);
    let answerer = Answerer {
        router: common.router.clone(),
        phase: phase.clone(),
        peer,
        target_size: common.limits.target_size,
    };
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
    if let Err(error) = ended {
        // Clients go away, and some are no clients at all: nothing that an operator must act on.
        tracing::trace!(%peer, %error, "a connection ended early");
    }
}
