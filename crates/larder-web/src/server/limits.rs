//! How much of the server one client may take.

use std::time::Duration;

/// What a connection may cost, and for how long. The defaults suit a cache that strangers reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, over all addresses. Who comes when they are taken waits to be accepted.
    pub connections: usize,
    /// Answers at once on one connection of HTTP/2. Each may hold a chunk or two.
    pub streams: u32,
    /// From a connection's beginning, or the first byte of a later request, to the end of its headers.
    pub head: Duration,
    /// How long a connection stays open with nothing asked. Clients keep theirs for up to 90 seconds,
    /// so that a server which is more patient never closes one as it is used again.
    pub idle: Duration,
    /// How long a reader may take nothing of an answer. The kernel reports progress by the third of
    /// its buffer, so this has to be ample for the slowest line.
    pub stall: Duration,
    /// How long connections are still accepted once the server stops, and how long one that is not
    /// being answered may still ask: what was sent before has to arrive.
    pub last_call: Duration,
    /// How long answers under way may take to end after the server was told to stop.
    pub grace: Duration,
    /// Bytes of a request's first line and headers together. More is answered by 431.
    pub head_size: usize,
    /// Bytes of a path and its query. More is answered by 414.
    pub target_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams: 32,
            head: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            stall: Duration::from_secs(300),
            last_call: Duration::from_millis(200),
            grace: Duration::from_secs(30),
            head_size: 32 * 1024,
            target_size: 16 * 1024,
        }
    }
}
