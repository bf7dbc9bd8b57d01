//! The one place that picks an HTTP status.

use std::io;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use larder_cache::{
    cache::CacheError,
    lease::LeaseError,
    packed::PackedError,
    source::object_storage::{CommitError, RecogniseError, StageError},
    storage::{StorageError, StorageErrorKind},
    token::Refusal,
};

/// Seconds after which a client that found no place may come again.
const LATER: &str = "5";

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
    /// The same, since nobody can tell whether who asks may know.
    #[error("cannot tell")]
    CannotCheckReader(String),
    /// The fleet's history cannot be read.
    #[error("the fleet's history cannot be read now")]
    History(String),
    /// A token is needed.
    #[error("{}", no_token(*.0))]
    Unauthorized(Option<Refusal>),
    /// The token does not allow this; what it would have to.
    #[error(
        "this token does not allow to {0} this cache; `larder token create --{0}` makes one that does"
    )]
    Forbidden(&'static str),
    /// Nobody can tell whether the token is good.
    #[error("cannot tell now whether the token is good; try again")]
    CannotCheckWriter(String),
    /// What was sent is not what it must be.
    #[error("{0}")]
    Refused(String),
    /// It needs something that is not here.
    #[error("{0}")]
    Needs(String),
    /// The place behind it is not a cache that may be written to.
    #[error("the server cannot write to this cache: its administrator finds the reason in its log")]
    NoCache(String),
    /// More bytes than are taken.
    #[error("this has more than the {0} bytes that are taken here")]
    TooLarge(u64),
    /// A `Content-Encoding` that is not known.
    #[error(
        "this Content-Encoding is not understood; send it without, or with gzip, zstd, br or xz"
    )]
    Encoding,
    /// It did not come, or too slowly.
    #[error("the upload broke off: {0}")]
    BrokenOff(String),
    /// All places are taken.
    #[error("too many uploads at once; try again")]
    Busy,
    /// The same, for NARs that are packed for whoever asks.
    #[error("too many NARs are being packed; try again")]
    Packing,
    /// There is no room left.
    #[error("there is no room left here")]
    Full(String),
    /// It could not be kept.
    #[error("it cannot be kept now; try again")]
    NotKept(String),
}

fn no_token(refusal: Option<Refusal>) -> String {
    match refusal {
        Some(refusal) => refusal.to_string(),
        None => "this takes a token, as the password for this host in a netrc file (`netrc-file` in nix.conf) or as a \
                 bearer token; `larder token create` makes one"
            .to_owned(),
    }
}

impl WebError {
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    /// A body that ended too early, or cannot be unpacked.
    pub(crate) fn broken_off(error: &io::Error) -> Self {
        Self::BrokenOff(error.to_string())
    }
}

impl From<StorageError> for WebError {
    fn from(error: StorageError) -> Self {
        match error.kind {
            StorageErrorKind::Full => Self::Full(error.to_string()),
            _ => Self::NotKept(error.to_string()),
        }
    }
}

impl From<RecogniseError> for WebError {
    fn from(error: RecogniseError) -> Self {
        match error {
            RecogniseError::Storage(error) => error.into(),
            other => Self::NoCache(other.to_string()),
        }
    }
}

impl From<PackedError> for WebError {
    fn from(error: PackedError) -> Self {
        match error {
            PackedError::Busy => Self::Packing,
            PackedError::Gone => Self::Absent,
            PackedError::Cache(error) => error.into(),
        }
    }
}

impl From<LeaseError> for WebError {
    fn from(error: LeaseError) -> Self {
        Self::NotKept(error.to_string())
    }
}

impl From<StageError> for WebError {
    fn from(error: StageError) -> Self {
        match error {
            StageError::OtherHash { .. }
            | StageError::Packed { .. }
            | StageError::Unsupported(_)
            | StageError::NotANar(_)
            | StageError::Key(_) => Self::Refused(error.to_string()),
            StageError::TooLarge { limit, .. } => Self::TooLarge(limit),
            StageError::BrokeOff(error) => Self::broken_off(&error),
            StageError::Lost(error) => Self::NotKept(error.to_string()),
            StageError::Storage(error) => error.into(),
            StageError::Lease(error) => error.into(),
        }
    }
}

impl From<CommitError> for WebError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Url(_) | CommitError::OtherNar { .. } | CommitError::Key(_) => {
                Self::Refused(error.to_string())
            }
            CommitError::NoNar { .. } | CommitError::MissingReferences { .. } => {
                Self::Needs(error.to_string())
            }
            CommitError::Stage(error) => error.into(),
            CommitError::Cache(error) => Self::NotKept(error.to_string()),
            CommitError::Storage(error) => error.into(),
            CommitError::Lease(error) => error.into(),
        }
    }
}

impl IntoResponse for WebError {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        let plain = |status: StatusCode| (status, text.clone()).into_response();
        match self {
            Self::Absent => plain(StatusCode::NOT_FOUND),
            Self::Range { size } => {
                let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
                (StatusCode::RANGE_NOT_SATISFIABLE, range, text).into_response()
            }
            Self::CouldNotTell(error) => could_not_tell(&error.to_string(), text),
            Self::CannotCheckReader(error) => could_not_tell(&error, text),
            Self::History(error) => {
                tracing::error!(%error, "the fleet's history cannot be read");
                plain(StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Unauthorized(_) => {
                let challenge =
                    HeaderValue::from_static("Basic realm=\"larder\", charset=\"UTF-8\"");
                let challenge = [(header::WWW_AUTHENTICATE, challenge)];
                (StatusCode::UNAUTHORIZED, challenge, text).into_response()
            }
            Self::Forbidden(_) => plain(StatusCode::FORBIDDEN),
            Self::Refused(_) => plain(StatusCode::BAD_REQUEST),
            Self::Needs(_) => plain(StatusCode::CONFLICT),
            Self::NoCache(error) => {
                tracing::error!(%error, "an upload was refused");
                plain(StatusCode::CONFLICT)
            }
            Self::TooLarge(_) => plain(StatusCode::PAYLOAD_TOO_LARGE),
            Self::Encoding => plain(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::BrokenOff(_) => plain(StatusCode::REQUEST_TIMEOUT),
            Self::Full(error) => {
                tracing::error!(%error, "an upload could not be kept");
                plain(StatusCode::INSUFFICIENT_STORAGE)
            }
            Self::Busy | Self::Packing => again(text),
            Self::CannotCheckWriter(error) | Self::NotKept(error) => {
                tracing::error!(%error, "an upload could not be kept");
                again(text)
            }
        }
    }
}

fn could_not_tell(error: &str, text: String) -> Response {
    tracing::error!(%error, "answered as if absent");
    let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::NOT_FOUND, uncached, text).into_response()
}

fn again(text: String) -> Response {
    let later = [(header::RETRY_AFTER, HeaderValue::from_static(LATER))];
    (StatusCode::SERVICE_UNAVAILABLE, later, text).into_response()
}
