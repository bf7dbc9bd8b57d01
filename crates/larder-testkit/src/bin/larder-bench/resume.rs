//! A push that is killed again and again: how much goes over the wire until all is there.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::push::{Packing, Pushes, size};

/// Where the push is killed, in parts of all bytes.
const KILLED_AT: [f64; 3] = [0.25, 0.5, 0.75];

/// How long a push may take.
const LIMIT: Duration = Duration::from_secs(900);

/// MiB that went to the other machine in all, and MiB of the cache that is there in the end. `expected` is about what
/// that comes to, in bytes.
pub(crate) fn after_kills(pushes: &Pushes, expected: u64) -> (f64, f64) {
    let folder = pushes.empty("resumed");
    let wire = Wire::before(pushes.ssh_port());
    let to = format!("sftp://box{}", folder.display());
    let begun = || pushes.larder_by(&to, Packing::Default, wire.port).spawn();
    for part in KILLED_AT {
        let mut push = begun();
        while (wire.sent() as f64) < part * expected as f64 {
            assert!(push.is_running(), "it ended before {part}: {}", push.output());
            thread::sleep(Duration::from_millis(1));
        }
        push.kill();
    }
    let mut last = begun();
    assert_eq!(last.wait(LIMIT), 0, "{}", last.output());
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    (mib(wire.sent()), mib(size(&folder) + size(&folder.join("nar"))))
}

/// A port that leads to another, and counts what goes there.
struct Wire {
    port: u16,
    sent: Arc<AtomicU64>,
}

impl Wire {
    /// Its threads end with their connections, and the one that waits for those with the program.
    fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let own = listener.local_addr().expect("a bound socket has an address").port();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let _waits = thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let there = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
                let (Ok(from), Ok(to)) = (there.try_clone(), here.try_clone()) else { continue };
                let counter = Arc::clone(&counter);
                let _forth = thread::spawn(move || carry(here, there, &counter));
                let _back = thread::spawn(move || carry(from, to, &AtomicU64::new(0)));
            }
        });
        Self { port: own, sent }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, counter: &AtomicU64) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let _ = counter.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_over_the_wire_is_counted_and_arrives() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let wire = Wire::before(server.local_addr().unwrap().port());
        let mut client = TcpStream::connect(("127.0.0.1", wire.port)).unwrap();
        client.write_all(&[7; 1000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut arrived = Vec::new();
        server.accept().unwrap().0.read_to_end(&mut arrived).unwrap();
        assert_eq!((arrived.len(), wire.sent()), (1000, 1000));
    }
}
