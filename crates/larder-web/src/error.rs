//! The one place that picks an HTTP status.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use larder_cache::cache::CacheError;

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// Known to be absent, or not a name that anything could have.
    #[error("not found")]
    Absent,
    /// A range that begins behind the end.
    #[error("the range is outside of the {size} bytes there are")]
    Range {
        /// Bytes there are.
        size: u64,
    },
    /// Nobody can tell whether it is there. To Nix this is a miss, since it answers a failing cache
    /// by failing itself; the reason is ours to log.
    #[error("cannot tell")]
    CouldNotTell(#[from] CacheError),
    /// The fleet's history cannot be read.
    #[error("the fleet's history cannot be read now")]
    History(String),
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        match self {
            Self::Absent => (StatusCode::NOT_FOUND, text).into_response(),
            Self::Range { size } => {
                let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
                (StatusCode::RANGE_NOT_SATISFIABLE, range, text).into_response()
            }
            Self::CouldNotTell(error) => {
                tracing::error!(%error, "answered as if absent");
                let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
                (StatusCode::NOT_FOUND, uncached, text).into_response()
            }
            Self::History(error) => {
                tracing::error!(%error, "the fleet's history cannot be read");
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
            }
        }
    }
}
