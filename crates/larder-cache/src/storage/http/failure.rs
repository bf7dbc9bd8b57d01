//! What a server's refusals and silences mean.

use std::{io, time::Duration};

use reqwest::{Response, StatusCode, header::RETRY_AFTER};

use super::super::{StorageError, StorageErrorKind};
use crate::http::root_cause;

/// A server that asks for more patience than this is asked again sooner, or not at all.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said so; perhaps when to ask again.
    Status(StatusCode, Option<Duration>),
    /// It could not be reached, or broke off.
    Connection(String),
    /// Nothing came or went for too long.
    Silence,
    /// What was to be sent could not be read.
    Ours(io::Error),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Connection(root_cause(error))
    }
}

impl Failure {
    /// The failure that an answer tells of.
    pub(super) fn of(answer: &Response) -> Self {
        let pause = answer.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok());
        let pause = pause.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        Self::Status(answer.status(), pause)
    }

    /// How long the server asked to be left alone.
    pub(super) fn asked_pause(&self) -> Duration {
        match self {
            Self::Status(_, Some(pause)) => (*pause).min(LONGEST_PAUSE),
            _ => Duration::ZERO,
        }
    }

    pub(super) fn is_transient(&self) -> bool {
        self.kind() == StorageErrorKind::Transient
    }

    fn kind(&self) -> StorageErrorKind {
        match self {
            Self::Status(status, _) => match *status {
                StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED => StorageErrorKind::Denied,
                StatusCode::INSUFFICIENT_STORAGE => StorageErrorKind::Full,
                StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                    StorageErrorKind::Unsupported
                }
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                    StorageErrorKind::Transient
                }
                StatusCode::HTTP_VERSION_NOT_SUPPORTED
                | StatusCode::NETWORK_AUTHENTICATION_REQUIRED => StorageErrorKind::Permanent,
                status if status.is_server_error() => StorageErrorKind::Transient,
                _ => StorageErrorKind::Permanent,
            },
            Self::Connection(_) | Self::Silence => StorageErrorKind::Transient,
            Self::Ours(_) => StorageErrorKind::Permanent,
        }
    }

    /// As an error of the place, when that was asked of it.
    pub(super) fn into_error(self, what: String) -> StorageError {
        let kind = self.kind();
        let pause = Some(self.asked_pause()).filter(|pause| !pause.is_zero());
        let reason = match self {
            Self::Ours(error) => return StorageError::io(what, error),
            Self::Connection(reason) => reason,
            Self::Silence => "nothing moved for a long time".to_owned(),
            Self::Status(status, _) => match remedy(status) {
                Some(remedy) => format!("the server says {status}: {remedy}"),
                None => format!("the server says {status}"),
            },
        };
        StorageError::new(kind, what, reason).with_pause(pause)
    }
}

fn remedy(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED => Some("give a token, in a netrc file or in the configuration"),
        StatusCode::FORBIDDEN => Some("the token does not allow this here: ask for one that does"),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Some("it takes no uploads: is it a cache that can be written to?")
        }
        StatusCode::PAYLOAD_TOO_LARGE => Some("raise the limit of the server or its proxy"),
        StatusCode::INSUFFICIENT_STORAGE => Some("it has no room left"),
        StatusCode::RANGE_NOT_SATISFIABLE => Some("the object is shorter than what was asked for"),
        status if status.is_redirection() => {
            Some("it wants uploads elsewhere: use that address instead")
        }
        _ => None,
    }
}
