//! Addresses, and the sockets that are listened on.

use std::{
    fmt, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The TCP port; none of a unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(_, port) => Some(*port),
            Self::Unix(_) => None,
        }
    }
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
    /// A unix socket, and its file where that is ours, and goes when the server does.
    Unix(UnixListener, Option<PathBuf>),
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
    /// What the service manager handed over cannot be listened on.
    #[error(
        "socket {number} from the service manager cannot be listened on: {source}. Larder takes \
         `ListenStream=` sockets with `Accept=no`"
    )]
    Inherited {
        /// Which of them, from 0.
        number: usize,
        /// The reason.
        source: io::Error,
    },
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

    /// What a service manager already listens on for us: systemd's socket activation, in its order.
    /// Nothing, when there is none.
    ///
    /// Source: sd_listen_fds(3).
    pub fn inherited() -> Result<Vec<Self>, ServerError> {
        let mut sockets = ListenFd::from_env();
        let count = sockets.len();
        let take = |number| {
            inherited(&mut sockets, number)
                .map_err(|source| ServerError::Inherited { number, source })
        };
        (0..count).map(take).collect()
    }

    /// Listens no more; gives the file of a unix socket that is to be removed.
    pub(super) fn into_file(self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(_, file) => file,
        }
    }

    /// The address that is really listened on: with port 0 the system chose one.
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr().ok()?;
                Some(Address::Tcp(address.ip().to_string(), address.port()))
            }
            Self::Unix(listener, _) => {
                let address = listener.local_addr().ok()?;
                Some(Address::Unix(address.as_pathname()?.to_owned()))
            }
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
    Ok(Listening::Unix(UnixListener::bind(path)?, Some(path.to_owned())))
}

fn inherited(sockets: &mut ListenFd, number: usize) -> io::Result<Listening> {
    if let Ok(Some(listener)) = sockets.take_tcp_listener(number) {
        listener.set_nonblocking(true)?;
        return Ok(Listening::Tcp(TcpListener::from_std(listener)?));
    }
    let listener = sockets.take_unix_listener(number)?.ok_or(io::ErrorKind::NotFound)?;
    listener.set_nonblocking(true)?;
    Ok(Listening::Unix(UnixListener::from_std(listener)?, None))
}
