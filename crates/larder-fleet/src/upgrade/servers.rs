//! Asking the server what it built for this host.
//!
//! The addresses are tried in order; one that does not answer costs a few seconds at most. Over HTTP
//! only the signed envelope is acted on. Over SSH the bare `.rev` file is believed, because the
//! connection itself is authenticated.

use std::{fmt, path::PathBuf, time::Duration};

use larder_cache::http;
use larder_formats::envelope::Envelope;
use larder_nix::command::{CancellationToken, CommandError, Invocation};
use tokio::time::timeout;

use crate::{
    host::HostName,
    revision::{Circumstances, Refusal, Revision},
};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a server may take to answer in full.
const ANSWER: Duration = Duration::from_secs(20);

/// The most that is read of an answer: a lock file is some tens of kilobytes.
const LARGEST: usize = 16 * 1024 * 1024;

/// One address of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// `larder serve`, by its base URL, which ends in `/`.
    Http(String),
    /// A machine with `.rev` files.
    Ssh(SshServer),
}

/// A machine with `.rev` files. Every part is free of characters that a shell or ssh would take for
/// something else; whoever parses it sees to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshServer {
    /// The user to log in as; ssh's own choice without.
    pub user: Option<String>,
    /// The host, or an alias of ssh's configuration.
    pub host: String,
    /// The port; ssh's own choice without.
    pub port: Option<u16>,
    /// The folder of the `.rev` files.
    pub rev_dir: PathBuf,
}

/// What a server offers.
#[derive(Clone, Debug)]
pub enum Offer {
    /// A revision, verified.
    Revision(Box<Revision>),
    /// The nixpkgs commit of a `.rev` file.
    Nixpkgs(String),
}

/// Why one address gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServerFailure {
    /// It could not be asked.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It answered something else than a revision.
    #[error("answered {0}")]
    Status(String),
    /// It has never built this host.
    #[error("has no revision of the host `{0}`: has it built yet, and is the name right?")]
    Unknown(HostName),
    /// Its answer is not one.
    #[error("gave an answer that is not a revision: {0}")]
    Malformed(String),
    /// Its answer was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// No address gave an answer to act on.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// All of them failed.
    #[error("no server could say what it built for this host:{}", list(.0))]
    All(Vec<(Server, ServerFailure)>),
    /// One was refused; others are not asked, since they are the same server.
    #[error("{server}: {refusal}")]
    Refused {
        /// The address.
        server: Server,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// Told to stop.
    #[error("cancelled")]
    Cancelled,
}

fn list(failures: &[(Server, ServerFailure)]) -> String {
    failures.iter().map(|(server, failure)| format!("\n  {server} {failure}")).collect()
}

/// Asks each address in order until one answers. An answer that is refused ends the asking: another
/// address of the same server must not talk us into what this one could not.
pub async fn ask(
    servers: &[Server],
    here: &Circumstances<'_>,
    cancel: &CancellationToken,
) -> Result<(Server, Offer), OfferError> {
    let mut failures = Vec::new();
    for server in servers {
        let answer = tokio::select! {
            answer = server.ask(here, cancel) => answer,
            () = cancel.cancelled() => return Err(OfferError::Cancelled),
        };
        match answer {
            Ok(offer) => return Ok((server.clone(), offer)),
            Err(ServerFailure::Refused(refusal)) => {
                let refusal = Box::new(refusal);
                return Err(OfferError::Refused { server: server.clone(), refusal });
            }
            Err(failure) => failures.push((server.clone(), failure)),
        }
    }
    Err(OfferError::All(failures))
}

impl Server {
    async fn ask(
        &self,
        here: &Circumstances<'_>,
        cancel: &CancellationToken,
    ) -> Result<Offer, ServerFailure> {
        match self {
            Self::Http(base) => {
                let envelope = fetch(base, here.host).await?;
                let envelope = Envelope::parse(&envelope)
                    .map_err(|error| ServerFailure::Malformed(error.to_string()))?;
                Ok(Offer::Revision(Box::new(Revision::accept(&envelope, here)?)))
            }
            Self::Ssh(server) => server.read_rev(here.host, cancel).await.map(Offer::Nixpkgs),
        }
    }
}

async fn fetch(base: &str, host: &HostName) -> Result<String, ServerFailure> {
    // What is asked for lies at that address; a redirect is a captive portal's answer.
    let client = http::client().connect_timeout(CONNECT).timeout(ANSWER);
    let client = client.build().map_err(unreachable)?;
    let mut response =
        client.get(format!("{base}fleet/{host}.json")).send().await.map_err(unreachable)?;
    match response.status() {
        reqwest::StatusCode::OK => {}
        reqwest::StatusCode::NOT_FOUND => return Err(ServerFailure::Unknown(host.clone())),
        other => return Err(ServerFailure::Status(other.to_string())),
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err(ServerFailure::Malformed("it is far too large".to_owned()));
        }
    }
    String::from_utf8(body).map_err(|error| ServerFailure::Malformed(error.to_string()))
}

fn unreachable(error: reqwest::Error) -> ServerFailure {
    ServerFailure::Unreachable(http::root_cause(error))
}

impl SshServer {
    async fn read_rev(
        &self,
        host: &HostName,
        cancel: &CancellationToken,
    ) -> Result<String, ServerFailure> {
        let mut command = Invocation::new("ssh")
            .args(["-o", "BatchMode=yes", "-o"])
            .arg(format!("ConnectTimeout={}", CONNECT.as_secs()))
            .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]);
        if let Some(port) = self.port {
            command = command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &self.user {
            command = command.args(["-l", user]);
        }
        let file = self.rev_dir.join(format!("{host}.rev"));
        let command = command.args(["--", &self.host, "cat", "--"]).arg(&file);
        // What is not about the connection (a login shell that hangs, say) ssh waits for without an end.
        let silent = |_| ServerFailure::Unreachable(format!("no answer within {ANSWER:?}"));
        let output = timeout(ANSWER, command.output(cancel)).await.map_err(silent)?;
        let output = output.map_err(|error| match error {
            CommandError::Failed { message, .. } => ServerFailure::Unreachable(message),
            other => ServerFailure::Unreachable(other.to_string()),
        })?;
        let text = output.text();
        let is_commit =
            matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if is_commit {
            Ok(text)
        } else {
            let start: String = text.chars().take(80).collect();
            Err(ServerFailure::Malformed(format!("{} holds {start:?}", file.display())))
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => formatter.write_str(url),
            Self::Ssh(server) => write!(formatter, "ssh://{}", server.host),
        }
    }
}
