//! Sending a message, once.
//!
//! No secret is shown: neither addresses nor tokens are in an error, nor what a receiver answers beyond its status.
//! Redirects are not followed, so that a token goes to whom it is for.

use std::time::Duration;

use larder_cache::http;
use larder_nix::command::{CancellationToken, CommandError, Invocation};
use reqwest::StatusCode;
use tokio::time::timeout;

use super::{
    message::Message,
    receiver::{Receiver, Way},
    shape::{Request, Shape},
};

/// How long a program has to end by itself, when its time is up.
const GRACE: Duration = Duration::from_secs(1);

/// A message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It may be taken later.
    #[error("{0}")]
    Later(String),
    /// It is not taken like this.
    #[error("{0}")]
    Refused(Refusal),
    /// Told to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Why a message is not taken, however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {remedy}")]
pub struct Refusal {
    /// What was said.
    pub what: String,
    /// What can be done.
    pub remedy: &'static str,
}

impl SendError {
    /// Whether it is of no use to send the same again.
    pub fn is_for_ever(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// Who sends.
#[derive(Clone, Debug)]
pub struct Sender {
    http: reqwest::Client,
}

impl Sender {
    /// Makes ready to send.
    ///
    /// # Errors
    /// When this machine cannot speak HTTPS: it has no certificates, say.
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self { http: http::client().build()? })
    }

    /// Sends a message, within this time.
    pub async fn send(
        &self,
        receiver: &Receiver,
        message: &Message,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<(), SendError> {
        let shape = Shape::of(&receiver.way, message).ok_or_else(|| {
            let what = "its address is none".to_owned();
            SendError::Refused(Refusal { what, remedy: "write `https://…` into the file" })
        })?;
        match shape {
            Shape::Http(request) => tokio::select! {
                sent = self.request(request, limit) => sent,
                () = cancel.cancelled() => Err(SendError::Cancelled),
            },
            Shape::Input(input) => {
                let Way::Command { command, .. } = &receiver.way else { return Ok(()) };
                run(command, input, limit, cancel).await
            }
        }
    }

    async fn request(&self, request: Request, limit: Duration) -> Result<(), SendError> {
        let Request { method, url, body, token } = request;
        let mut ready = self.http.request(method, url);
        ready = ready.header(reqwest::header::CONTENT_TYPE, "application/json");
        if let Some(token) = &token {
            ready = ready.bearer_auth(token.reveal().trim());
        }
        let Ok(answer) = timeout(limit, ready.body(body.to_string()).send()).await else {
            return Err(SendError::Later(format!("no answer within {limit:.0?}")));
        };
        let answer = answer.map_err(|error| SendError::Later(http::root_cause(error)))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(refused(status)),
        }
    }
}

/// What a status means.
fn refused(status: StatusCode) -> SendError {
    let what = format!("the receiver says {status}");
    let remedy = match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            return SendError::Later(what);
        }
        status if status.is_server_error() => return SendError::Later(what),
        status if status.is_redirection() => {
            "write the address that it redirects to: a token is sent nowhere else"
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "see whether the token in `token-file`, or the secret in the address, is still good"
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            "see whether the address is right and still there"
        }
        StatusCode::METHOD_NOT_ALLOWED => "see whether `kind` and the address fit together",
        _ => "see whether `kind` is right",
    };
    SendError::Refused(Refusal { what, remedy })
}

/// Runs a program with this on its standard input.
async fn run(
    command: &[String],
    input: String,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<(), SendError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let command = Invocation::new(program).args(arguments).input(input);
    let stop = cancel.child_token();
    let running = command.output(&stop);
    tokio::pin!(running);
    let Ok(ended) = timeout(limit, &mut running).await else {
        stop.cancel();
        let _ = timeout(GRACE, running).await;
        return Err(SendError::Later(format!("`{program}` did not end within {limit:.0?}")));
    };
    match ended {
        Ok(_) => Ok(()),
        Err(CommandError::Cancelled { .. }) => Err(SendError::Cancelled),
        Err(error @ CommandError::NotFound { .. }) => Err(SendError::Refused(Refusal {
            what: error.to_string(),
            remedy: "write its whole path in `command`",
        })),
        Err(CommandError::Failed { status, message, .. }) => {
            let said = message.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
            Err(SendError::Later(format!("`{program}` failed ({status}){said}")))
        }
        Err(error) => Err(SendError::Later(error.to_string())),
    }
}
