//! Who may come in.
//!
//! A netrc file has one password for a host, so a client shows the token of one cache at all of them: where
//! none is needed, one that is not known counts as none.

use axum::{
    extract::{Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use larder_cache::token::{Access, CheckError, Presented, Refusal};

use super::{Shared, StaticCache};
use crate::{error::WebError, request::authorization};

/// Whether who asks may upload, too: then what it is told of stays until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsWriter(pub(super) bool);

/// Lets a request through, if it may be made.
pub(crate) async fn guard(State(cache): Shared, mut request: Request, next: Next) -> Response {
    let value = request.headers().get(header::AUTHORIZATION);
    let presented = value.and_then(|value| authorization::token(value.as_bytes()));
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    match admitted(&cache, reads, presented).await {
        Ok(writer) => {
            request.extensions_mut().insert(writer);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

async fn admitted(
    cache: &StaticCache,
    reads: bool,
    presented: Option<Presented>,
) -> Result<IsWriter, WebError> {
    let access = checked(cache, presented).await;
    if reads {
        return match access {
            Ok(access) if access.scope.write => Ok(IsWriter(true)),
            Ok(access) if access.scope.read => Ok(IsWriter(false)),
            // Who shows one that cannot be checked may be a writer, and relies on what it is told.
            Err(NoAccess::CouldNotTell(error)) => Err(WebError::CannotCheckReader(error)),
            _ if !cache.served.private => Ok(IsWriter(false)),
            Ok(_) => Err(WebError::Forbidden("read")),
            Err(NoAccess::NoToken) => Err(WebError::Unauthorized(None)),
            Err(NoAccess::Refused(refusal)) => Err(WebError::Unauthorized(Some(refusal))),
        };
    }
    match access {
        Ok(access) if access.scope.write => Ok(IsWriter(true)),
        Ok(_) => Err(WebError::Forbidden("write")),
        Err(NoAccess::NoToken) => Err(WebError::Unauthorized(None)),
        Err(NoAccess::Refused(refusal)) => Err(WebError::Unauthorized(Some(refusal))),
        Err(NoAccess::CouldNotTell(error)) => Err(WebError::CannotCheckWriter(error)),
    }
}

/// Why nothing is known to be allowed.
enum NoAccess {
    NoToken,
    Refused(Refusal),
    CouldNotTell(String),
}

async fn checked(cache: &StaticCache, presented: Option<Presented>) -> Result<Access, NoAccess> {
    let presented = presented.ok_or(NoAccess::NoToken)?;
    cache.tokens.check(&presented, cache.now()).await.map_err(|error| match error {
        CheckError::Refused(refusal) => NoAccess::Refused(refusal),
        CheckError::CouldNotTell(error) => NoAccess::CouldNotTell(error.to_string()),
    })
}
