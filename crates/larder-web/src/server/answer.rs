//! From a request to its answer: the limit on its target, its identity, and the line in the log.
//!
//! Each answer names its request in `x-request-id`: as the client or the proxy in front called it, or
//! by a name made here, so that a line in one log finds the line in the other.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header},
    response::IntoResponse,
};
use hyper::{body::Incoming, service::Service};
use tokio::time::Instant;

use super::{
    body::{Answer, Track, UnderWay},
    peer::Peer,
    serving::Common,
};
use crate::{
    base_path::BasePath,
    endpoint::Endpoint,
    forwarded::{Client, Origin, TrustedProxies},
    metrics::{self, Meters},
    request::id::RequestId,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What answers the requests of one connection.
#[derive(Clone)]
pub(super) struct Answerer {
    pub(super) common: Arc<Common>,
    pub(super) track: Track,
    pub(super) peer: Peer,
}

impl Answerer {
    /// Answers one request.
    pub(super) async fn answer(
        self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Answer>, Infallible> {
        let began = Instant::now();
        let under_way = UnderWay::of(&self.track);
        let now = self.common.now();
        let endpoint = endpoint(request.uri().path(), &now.base_path);
        let bodiless = request.method() == Method::HEAD;
        let id = identity(request.headers().get(REQUEST_ID));
        let entry = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| Entry::of(&request, self.peer, &now.proxies));
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        let mut response = if target > self.common.limits.target_size {
            (StatusCode::URI_TOO_LONG, "the address is too long\n").into_response()
        } else {
            request.extensions_mut().insert(self.peer);
            now.router.call(request).await?
        };
        if let Some(entry) = entry {
            entry.log(&response, &id);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        metrics::answered(endpoint, response.status().as_u16());
        let meters = Meters::of(endpoint);
        meters.seconds.record(began.elapsed());
        let promised = if bodiless {
            *response.body_mut() = Body::empty();
            Some(0)
        } else {
            promised(&response)
        };
        Ok(response.map(|body| Answer::new(body, promised, under_way, meters)))
    }
}

/// What is told of a request when it is answered; only gathered when somebody listens.
struct Entry {
    method: Method,
    uri: Uri,
    client: Client,
    began: Instant,
}

impl Entry {
    fn of(request: &Request<Incoming>, peer: Peer, proxies: &TrustedProxies) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let client = Origin::of(peer, &uri, request.headers(), proxies).client;
        Self { method, uri, client, began: Instant::now() }
    }

    /// `bytes` are those promised: how many are taken is up to the reader. None are when the length
    /// is not known beforehand.
    fn log(&self, response: &Response<Body>, id: &HeaderValue) {
        tracing::debug!(
            method = %self.method,
            path = self.uri.path(),
            status = response.status().as_u16(),
            bytes = promised(response),
            milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            peer = %self.client,
            request_id = id.to_str().unwrap_or_default(),
            "answered"
        );
    }
}

/// Bytes of the body, where that is known beforehand. Of a HEAD request, those that GET would have.
fn promised(response: &Response<Body>) -> Option<u64> {
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.or_else(|| response.body().size_hint().exact())
}

fn endpoint(path: &str, base: &BasePath) -> Endpoint {
    match path.strip_prefix(base.as_str()) {
        // From there one is sent on to the landing page.
        Some("") if base.last().is_some() => Endpoint::Landing,
        Some(path) => Endpoint::of(path),
        None => Endpoint::Other,
    }
}

/// What the request calls itself, when that can stand in a header and a log; a new name otherwise.
fn identity(given: Option<&HeaderValue>) -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let given = given.and_then(|given| RequestId::parse(given.as_bytes()));
    given.map(RequestId::into_header).unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let made = format!("{:016x}-{number:x}", *PROCESS);
        // Hexadecimal digits always fit.
        HeaderValue::try_from(made).unwrap_or(HeaderValue::from_static("none"))
    })
}
