//! A connection to another machine's SFTP server, made by the user's own ssh, and made anew when it
//! breaks.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use larder_nix::command::{Conversation, Invocation};
use openssh_sftp_client::{Error, Sftp as Client, SftpOptions, error::SftpErrorKind};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use super::super::{StorageError, StorageErrorKind, location::SftpLocation, options::OpenOptions};

/// Until ssh and the server have greeted each other; there may be machines to jump over.
const GREETING: Duration = Duration::from_secs(60);

/// A request without an answer for so long means a dead connection. ssh itself notices one too.
const ANSWER: Duration = Duration::from_secs(60);

/// Requests of different operations under way at once.
const AT_ONCE: usize = 64;

/// Makes and keeps the connection. Its clones share it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    ssh: Invocation,
    current: Arc<Mutex<Option<Arc<Session>>>>,
    places: Arc<Semaphore>,
}

/// A connection that stands, or did.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    _ssh: Conversation,
}

/// Why an operation did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection could not be made.
    Connect(StorageErrorKind, String),
    /// The server, or the way there.
    Sftp(Error),
    /// No answer came.
    Silence,
    /// It was found to be so.
    Found(StorageErrorKind, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sftp(error)
    }
}

impl Failure {
    /// Whether the connection is of no use any more.
    fn breaks(&self) -> bool {
        match self {
            Self::Sftp(error) => !matches!(
                error,
                Error::SftpError(..) | Error::UnsupportedExtension(_) | Error::BufferTooLong(_)
            ),
            Self::Silence => true,
            Self::Connect(..) | Self::Found(..) => false,
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Connect(kind, _) | Self::Found(kind, _) => *kind == StorageErrorKind::Transient,
            Self::Sftp(_) | Self::Silence => self.breaks(),
        }
    }

    /// Whether it says that there is nothing.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Sftp(Error::SftpError(SftpErrorKind::NoSuchFile, _)))
    }

    /// Whether the server failed without saying why, as it does when its disk is full.
    pub(super) fn is_unexplained(&self) -> bool {
        matches!(self, Self::Sftp(Error::SftpError(SftpErrorKind::Failure, _)))
    }

    /// As an error of the place, when it was doing that.
    pub(super) fn into_error(self, what: String) -> StorageError {
        match self {
            Self::Connect(kind, reason) | Self::Found(kind, reason) => {
                StorageError::new(kind, what, reason)
            }
            Self::Silence => {
                let reason = "the other machine did not answer any more";
                StorageError::new(StorageErrorKind::Transient, what, reason)
            }
            Self::Sftp(Error::SftpError(kind, message)) => {
                let meaning = match kind {
                    SftpErrorKind::PermDenied => StorageErrorKind::Denied,
                    SftpErrorKind::OpUnsupported => StorageErrorKind::Unsupported,
                    _ => StorageErrorKind::Permanent,
                };
                StorageError::new(meaning, what, format!("the other machine says: {message}"))
            }
            Self::Sftp(error @ Error::UnsupportedExtension(_)) => {
                StorageError::new(StorageErrorKind::Unsupported, what, error)
            }
            Self::Sftp(error) => {
                let reason = format!("the connection broke: {error}");
                StorageError::new(StorageErrorKind::Transient, what, reason)
            }
        }
    }
}

impl Connection {
    /// Connects when something is first asked.
    pub(super) fn new(location: &SftpLocation, options: &OpenOptions) -> Self {
        let mut ssh = Invocation::new("ssh");
        if let Some(config) = &options.ssh_config {
            ssh = ssh.arg("-F").arg(config);
        }
        // Nobody is there to be asked, and silence ends a connection.
        ssh = ssh
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=20"])
            .args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"])
            .args(["-o", "ForwardX11=no", "-o", "ForwardAgent=no", "-o", "ClearAllForwardings=yes"])
            .args(["-o", "RequestTTY=no", "-o", "RemoteCommand=none"]);
        if let Some(port) = location.port {
            ssh = ssh.arg("-p").arg(port.to_string());
        }
        if let Some(user) = &location.user {
            ssh = ssh.arg("-l").arg(user);
        }
        ssh = ssh.args(["-s", "--", &location.host, "sftp"]);
        Self { ssh, current: Arc::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Does something by the connection, and again by another when that one broke.
    pub(super) async fn retrying<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        work: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, Failure> {
        let attempt = || self.once(&work);
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(10))
            .with_max_times(3)
            .with_jitter();
        attempt.retry(pauses).sleep(tokio::time::sleep).when(Failure::is_transient).await
    }

    /// The same without a second attempt, for what cannot be begun again.
    pub(super) async fn once<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        work: impl FnOnce(Arc<Session>) -> F,
    ) -> Result<T, Failure> {
        let _place = self.places.acquire().await;
        let session = self.session().await?;
        self.watched(&session, work(Arc::clone(&session))).await
    }

    /// Waits for something of a connection, but not for ever.
    pub(super) async fn watched<T>(
        &self,
        session: &Arc<Session>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let done = timeout(ANSWER, work).await.unwrap_or(Err(Failure::Silence));
        if done.as_ref().is_err_and(Failure::breaks) {
            let mut current = self.current.lock().await;
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
                *current = None;
            }
        }
        done
    }

    async fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut current = self.current.lock().await;
        if let Some(session) = &*current {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.connect().await?);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn connect(&self) -> Result<Session, Failure> {
        let (ssh, input, output) = self
            .ssh
            .converse()
            .map_err(|error| Failure::Connect(StorageErrorKind::Permanent, error.to_string()))?;
        // In a task of its own: what the library cannot explain, it panics about.
        // Nothing waits for company: most requests have somebody waiting for their answer.
        let options = SftpOptions::new().flush_interval(Duration::ZERO);
        let greeting = tokio::spawn(Client::new(input, output, options));
        let abort = greeting.abort_handle();
        let reason = match timeout(GREETING, greeting).await {
            Ok(Ok(Ok(client))) => return Ok(Session { client, _ssh: ssh }),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "the connection ended at once".to_owned(),
            Err(_) => {
                abort.abort();
                "it does not answer".to_owned()
            }
        };
        Err(explained(&ssh.last_words().await, &reason))
    }
}

/// What ssh said, and what to do about it.
fn explained(words: &str, reason: &str) -> Failure {
    let words = words.trim();
    let said = if words.is_empty() { reason } else { words };
    let (kind, remedy) = if words.contains("Host key verification failed") {
        (StorageErrorKind::Denied, "connect once by `ssh` and compare the machine's key")
    } else if words.contains("Permission denied") || words.contains("Too many authentication") {
        (StorageErrorKind::Denied, "put a key that opens it into ~/.ssh or the agent of this user")
    } else if words.contains("subsystem request failed") {
        (StorageErrorKind::Unsupported, "let its sshd offer the subsystem sftp")
    } else if words.contains("Bad configuration option") || words.contains("Can't open user config")
    {
        (StorageErrorKind::Permanent, "correct ssh's configuration file")
    } else {
        (StorageErrorKind::Transient, "see that it runs and that `ssh` reaches it")
    };
    Failure::Connect(kind, format!("ssh cannot connect: {said} ({remedy})"))
}
