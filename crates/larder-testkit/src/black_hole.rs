//! An address that swallows what is sent to it, as a firewall does that drops packets: no connection is ever made, and
//! none refused.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use rustix::net::listen;

/// A black hole.
pub struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _full: Vec<TcpStream>,
}

impl BlackHole {
    /// One on loopback: a listener whose queue is full and is never emptied.
    ///
    /// # Panics
    /// When there is no port left, or the system answers all the same.
    #[must_use]
    pub fn new() -> Self {
        const PATIENCE: Duration = Duration::from_millis(200);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        // Again, with room for nobody.
        listen(&listener, 0).expect("it listens already");
        let mut full = Vec::new();
        while let Ok(connection) = TcpStream::connect_timeout(&address, PATIENCE) {
            full.push(connection);
            assert!(full.len() < 64, "the system takes any number of connections");
        }
        Self { address, _listener: listener, _full: full }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Default for BlackHole {
    fn default() -> Self {
        Self::new()
    }
}
