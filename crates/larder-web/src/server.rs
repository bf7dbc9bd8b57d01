//! Listening, answering, and stopping without cutting an answer short.

use std::{
    fmt, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long answers under way may take to end after the server was told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// An address that is listened on.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket, and its file, which goes when the server does.
    Unix(UnixListener, PathBuf),
}

/// An address that cannot be listened on, or a listener that failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody is there.
    #[error(
        "cannot listen on {0}: something else listens there already. Stop it, or choose another address \
         under `listen`"
    )]
    Taken(Address),
    /// The system does not let us.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Address,
        /// The system's reason.
        source: io::Error,
    },
    /// Accepting connections failed.
    #[error("the server failed: {0}")]
    Serve(io::Error),
}

impl Listening {
    /// Starts listening. A unix socket that a killed server left behind is replaced.
    pub async fn on(address: &Address) -> Result<Self, ServerError> {
        let listening = match address {
            Address::Tcp(host, port) => {
                TcpListener::bind((host.as_str(), *port)).await.map(Self::Tcp)
            }
            Address::Unix(path) => unix(path).await,
        };
        listening.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServerError::Taken(address.clone()),
            _ => ServerError::Listen { address: address.clone(), source },
        })
    }

    /// The address that is really listened on: with port 0 the system chose one.
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr().ok()?;
                Some(Address::Tcp(address.ip().to_string(), address.port()))
            }
            Self::Unix(_, path) => Some(Address::Unix(path.clone())),
        }
    }
}

async fn unix(path: &Path) -> io::Result<Listening> {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        match UnixStream::connect(path).await {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Listening::Unix(UnixListener::bind(path)?, path.to_owned()))
}

/// Answers on all of these until told to stop, then lets answers under way end.
pub async fn serve(
    listening: Vec<Listening>,
    router: Router,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    let mut tasks = JoinSet::new();
    let mut sockets = Vec::new();
    for listener in listening {
        let (router, stop) = (router.clone(), stop.clone());
        match listener {
            Listening::Tcp(listener) => {
                let listener = listener.tap_io(|stream| {
                    // A narinfo is smaller than a packet, and somebody waits for it.
                    let _ = stream.set_nodelay(true);
                });
                let server = axum::serve(listener, router);
                tasks.spawn(server.with_graceful_shutdown(stop.cancelled_owned()).into_future());
            }
            Listening::Unix(listener, path) => {
                sockets.push(path);
                let server = axum::serve(listener, router);
                tasks.spawn(server.with_graceful_shutdown(stop.cancelled_owned()).into_future());
            }
        }
    }
    stop.cancelled().await;
    let ended = timeout(GRACE, async {
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(io::Error::other).flatten().map_err(ServerError::Serve)?;
        }
        Ok(())
    })
    .await;
    for path in sockets {
        // It may be gone already.
        let _ = std::fs::remove_file(path);
    }
    ended.unwrap_or_else(|_| {
        tracing::warn!("some answers took too long and were cut short");
        Ok(())
    })
}
