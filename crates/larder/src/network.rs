//! Changes of this machine's network, as the kernel tells them: the one place that asks for them.
//!
//! What has changed is not looked at. Who was reachable may not be any more, whatever it was.

use std::{io, time::Duration};

use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

/// Links, and the addresses and routes of both versions of IP: `RTMGRP_*` of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// A change is many messages, and some networks take a moment to be of use.
const SETTLED: Duration = Duration::from_millis(300);

/// The changes from now on.
pub(crate) struct Changes(TokioSocket);

impl Changes {
    /// Listens to the kernel.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Waits for the next one, until it is over.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        self.message().await?;
        while tokio::time::timeout(SETTLED, self.message()).await.is_ok_and(|told| told.is_ok()) {}
        Ok(())
    }

    async fn message(&mut self) -> io::Result<()> {
        match self.0.recv_from_full().await {
            // More came than was read in time: changes all the same.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) =>
            {
                Ok(())
            }
            message => message.map(|_| ()),
        }
    }
}
