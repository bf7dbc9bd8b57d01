//! Listening, answering, changing while it runs, and stopping without cutting an answer short.

mod accept;
mod alarm;
mod answer;
mod body;
mod connection;
mod limits;
mod listening;
pub mod peer;
mod phase;
mod serving;
mod streams;
pub mod tls;
mod watched;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{accept::Accepting, serving::Common};
pub use self::{
    limits::Limits,
    listening::{Address, Listening, ServerError},
    serving::Serving,
};

/// An address that is to be listened on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The address.
    pub address: Address,
    /// Whether TLS is spoken there.
    pub secure: bool,
}

/// A running server.
pub struct Server {
    accepting: Accepting,
    /// By what was asked for: a port 0 is another one once it is listened on.
    open: BTreeMap<Address, Open>,
    stop: CancellationToken,
}

/// Somewhere that is listened.
struct Open {
    /// Whether TLS is spoken with who comes there.
    secure: Arc<AtomicBool>,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
    /// The file of a unix socket that is ours.
    file: Option<PathBuf>,
}

impl Server {
    /// A server that listens nowhere yet.
    pub fn new(serving: Serving, limits: Limits) -> Self {
        let stop = CancellationToken::new();
        let accepting = Accepting {
            places: Arc::new(Semaphore::new(limits.connections)),
            connections: TaskTracker::new(),
            common: Arc::new(Common::new(serving, limits, stop.clone())),
        };
        Self { accepting, open: BTreeMap::new(), stop }
    }

    /// Has every further request answered in another way, on connections that are there already as well.
    /// Answers under way end as they began.
    pub fn answer_by(&self, serving: Serving) {
        self.accepting.common.change(serving);
    }

    /// The same, and listens on these places and no others. Where that cannot be, nothing changes.
    ///
    /// Gives the addresses really listened on that were not before.
    pub async fn change(
        &mut self,
        serving: Serving,
        places: &[Place],
    ) -> Result<Vec<Address>, ServerError> {
        let new = self.bind(places).await?;
        // Before anybody comes: who does by TLS may need a certificate that there was not until now.
        self.answer_by(serving);
        Ok(self.move_to(places, new).await)
    }

    /// Listens on these places and no others. Where that cannot be, on those of before.
    ///
    /// Gives the addresses really listened on that were not before.
    pub async fn listen_on(&mut self, places: &[Place]) -> Result<Vec<Address>, ServerError> {
        let new = self.bind(places).await?;
        Ok(self.move_to(places, new).await)
    }

    /// Listens on a socket that is open already.
    pub fn listen(&mut self, place: Place, listening: Listening) {
        let Place { address, secure } = place;
        let (stop, secure) = (self.stop.child_token(), Arc::new(AtomicBool::new(secure)));
        let (accepting, until, tls) = (self.accepting.clone(), stop.clone(), Arc::clone(&secure));
        let (file, accepting) = match listening {
            Listening::Tcp(socket) => (None, tokio::spawn(accepting.on(socket, tls, until))),
            Listening::Unix(socket, file) => (file, tokio::spawn(accepting.on(socket, tls, until))),
        };
        let before = self.open.insert(address, Open { secure, stop, accepting, file });
        debug_assert!(before.is_none(), "one address is listened on once");
    }

    /// Sockets for the places whose addresses are not listened on.
    async fn bind(&self, places: &[Place]) -> Result<Vec<(Place, Listening)>, ServerError> {
        let mut new = Vec::new();
        for place in places.iter().filter(|place| !self.open.contains_key(&place.address)) {
            match Listening::on(&place.address).await {
                Ok(listening) => new.push((place.clone(), listening)),
                Err(error) => {
                    for file in new.into_iter().filter_map(|(_, listening)| listening.into_file()) {
                        remove(&file);
                    }
                    return Err(error);
                }
            }
        }
        Ok(new)
    }

    async fn move_to(&mut self, places: &[Place], new: Vec<(Place, Listening)>) -> Vec<Address> {
        for Place { address, secure } in places {
            if let Some(open) = self.open.get(address) {
                open.secure.store(*secure, Ordering::Relaxed);
            }
        }
        let wanted = |address: &Address| places.iter().any(|place| place.address == *address);
        let gone: Vec<Address> =
            self.open.keys().filter(|address| !wanted(address)).cloned().collect();
        let gone = gone.iter().filter_map(|address| self.open.remove(address)).collect();
        let addresses = new.iter().filter_map(|(_, listening)| listening.address()).collect();
        for (place, listening) in new {
            self.listen(place, listening);
        }
        close(gone).await;
        addresses
    }

    /// Accepts no more, and lets the answers under way end, as long as the limits grant them.
    pub async fn stop(self) {
        self.stop.cancel();
        close(self.open.into_values().collect()).await;
        self.accepting.connections.close();
        let grace = self.accepting.common.limits.grace;
        if timeout(grace, self.accepting.connections.wait()).await.is_err() {
            tracing::warn!("some answers took too long and were cut short");
        }
    }
}

async fn close(open: Vec<Open>) {
    for listener in &open {
        listener.stop.cancel();
    }
    for listener in open {
        // A listener that panicked listens no more.
        let _ = listener.accepting.await;
        if let Some(file) = listener.file {
            // It may be gone already. Not after the answers under way: by then a successor may listen
            // there.
            remove(&file);
        }
    }
}

fn remove(file: &Path) {
    let _ = std::fs::remove_file(file);
}
