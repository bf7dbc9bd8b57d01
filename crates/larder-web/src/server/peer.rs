//! Who is at the other end of a connection.

use std::{fmt, net::SocketAddr};

/// The other end of a connection, as the connection itself tells; every request carries it in its extensions.
/// What headers say of who is behind it is another thing: see [`crate::forwarded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; none for somebody behind a unix socket.
    pub address: Option<SocketAddr>,
    /// Whether it talks TLS with us.
    pub secure: bool,
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(formatter),
            None => formatter.write_str("unix"),
        }
    }
}
