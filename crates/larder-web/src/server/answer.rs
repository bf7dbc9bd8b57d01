//! From a request to its answer: the limit on its target, its identity, and the line in the log.
//!
//! Each answer names its request in `x-request-id`: as the client or the proxy in front called it, or
//! by a name made here, so that a line in one log finds the line in the other.

use std::{
    convert::Infallible,
    fmt,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    pin::Pin,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Error, Router,
    body::{Body, Bytes, HttpBody},
    http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header},
    response::IntoResponse,
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    service::Service,
};
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;

use super::phase::{Phase, Shared};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer names than any proxy makes.
const LONGEST_ID: usize = 128;

/// Who asks: an address, or somebody behind a unix socket.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(formatter),
            None => formatter.write_str("unix"),
        }
    }
}

/// What answers the requests of one connection.
#[derive(Clone)]
pub(super) struct Answerer {
    pub(super) router: TowerToHyperService<Router>,
    pub(super) phase: Shared,
    pub(super) peer: Peer,
    pub(super) target_size: usize,
}

impl Answerer {
    /// Answers one request.
    pub(super) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Infallible> {
        let under_way = UnderWay::of(self.phase);
        let id = identity(request.headers().get(REQUEST_ID));
        let entry = tracing::enabled!(tracing::Level::DEBUG).then(|| Entry::of(&request));
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        let mut response = if target > self.target_size {
            (StatusCode::URI_TOO_LONG, "the address is too long\n").into_response()
        } else {
            self.router.call(request).await?
        };
        if let Some(entry) = entry {
            entry.log(&response, &id, self.peer);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        Ok(response.map(|body| Answer { body, _under_way: under_way }))
    }
}

/// What is told of a request when it is answered; only gathered when somebody listens.
struct Entry {
    method: Method,
    uri: Uri,
    began: Instant,
}

impl Entry {
    fn of(request: &Request<Incoming>) -> Self {
        Self { method: request.method().clone(), uri: request.uri().clone(), began: Instant::now() }
    }

    /// `bytes` are those promised: how many are taken is up to the reader. None are when the length
    /// is not known beforehand.
    fn log(&self, response: &Response<Body>, id: &HeaderValue, peer: Peer) {
        let promised = response.headers().get(header::CONTENT_LENGTH);
        let promised = promised.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        tracing::debug!(
            method = %self.method,
            path = self.uri.path(),
            status = response.status().as_u16(),
            bytes = promised.or_else(|| response.body().size_hint().exact()),
            milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            %peer,
            request_id = id.to_str().unwrap_or_default(),
            "answered"
        );
    }
}

/// What the request calls itself, when that can stand in a header and a log; a new name otherwise.
fn identity(given: Option<&HeaderValue>) -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let well_formed = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=LONGEST_ID).contains(&bytes.len()) && bytes.iter().all(plain)
    };
    given.filter(well_formed).cloned().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let made = format!("{:016x}-{number:x}", *PROCESS);
        // Hexadecimal digits always fit.
        HeaderValue::try_from(made).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// Says that a request is being answered, as long as it lives.
struct UnderWay(Shared);

impl UnderWay {
    fn of(phase: Shared) -> Self {
        phase.set(Phase::Answering);
        Self(phase)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(Phase::Answered);
    }
}

/// A body; while it exists, its request is being answered.
pub(super) struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
