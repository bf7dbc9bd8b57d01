//! The daemon that builds, as a process.

use std::{fs, path::Path};

use tokio::net::UnixStream;

use crate::layout::StoreLayout;

/// The name of its process.
const NAME: &str = "nix-daemon";

/// The number of the daemon's first process, below which everything runs that it builds.
pub async fn pid(layout: &StoreLayout) -> Option<u32> {
    let socket = layout.state_dir.join("daemon-socket/socket");
    let peer = UnixStream::connect(socket).await.ok()?.peer_cred().ok()?.pid();
    let peer = peer.and_then(|pid| u32::try_from(pid).ok())?;
    // Whoever began to listen: systemd, where it hands the daemon its socket.
    if is_daemon(peer) { Some(peer) } else { by_name() }
}

fn is_daemon(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == NAME)
}

/// The oldest of that name: each connection is a process of its own, and its child.
fn by_name() -> Option<u32> {
    let entries = fs::read_dir(Path::new("/proc")).ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let daemons = pids.filter(|pid| is_daemon(*pid));
    daemons.filter(|pid| parent(*pid).is_none_or(|parent| !is_daemon(parent))).min()
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}
