//! Accepting connections, as many as there are places.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{connection::drive, peer::Peer, serving::Common};

use crate::metrics::Connected;

/// How long to wait when the system has no more files or memory for connections: asking again at
/// once would only take the processor from those that are being answered, and end none of them.
const BREATH: Duration = Duration::from_millis(500);

/// Something that connections come from.
pub(super) trait Source: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection, and where it comes from. Dropping the future loses none.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Source for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, address) = self.accept().await?;
        // A narinfo is smaller than a packet, and somebody waits for it.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(address)))
    }
}

impl Source for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, None))
    }
}

/// Takes connections in, from any number of sources.
#[derive(Clone)]
pub(super) struct Accepting {
    /// One permit a connection.
    pub(super) places: Arc<Semaphore>,
    pub(super) connections: TaskTracker,
    pub(super) common: Arc<Common>,
}

impl Accepting {
    /// Accepts until told to stop. What had come by then is still answered: the kernel has told its
    /// client that it is connected, though nobody may have seen it here.
    ///
    /// Whether TLS is spoken with a connection is what `secure` says when it comes.
    pub(super) async fn on<S: Source>(
        self,
        source: S,
        secure: Arc<AtomicBool>,
        stop: CancellationToken,
    ) {
        let closing = async {
            stop.cancelled().await;
            sleep(self.common.limits.last_call).await;
        };
        tokio::select! {
            biased;
            () = self.accept(&source, &secure) => {}
            () = closing => {}
        }
        // The moment between the last look and the end of listening is as short as can be.
        while let Ok(place) = Arc::clone(&self.places).try_acquire_owned()
            && let Some(Ok((stream, address))) = source.next().now_or_never()
        {
            self.spawn(stream, peer(address, &secure), place);
        }
    }

    async fn accept<S: Source>(&self, source: &S, secure: &AtomicBool) {
        // It is never closed, so taking a place only ever waits.
        while let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
            match source.next().await {
                Ok((stream, address)) => self.spawn(stream, peer(address, secure), place),
                Err(error) => recover(&error).await,
            }
        }
    }

    fn spawn<S>(&self, stream: S, peer: Peer, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let common = Arc::clone(&self.common);
        let connected = Connected::new();
        let connection = async move {
            drive(stream, peer, &common).await;
            drop((place, connected));
        };
        drop(self.connections.spawn(connection));
    }
}

fn peer(address: Option<SocketAddr>, secure: &AtomicBool) -> Peer {
    Peer { address, secure: secure.load(Ordering::Relaxed) }
}

/// Nothing that happens to one connection ends the server.
async fn recover(error: &io::Error) {
    let of_the_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    );
    if !of_the_peer {
        tracing::warn!("cannot accept connections for now: {error}");
        sleep(BREATH).await;
    }
}
