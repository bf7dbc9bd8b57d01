//! A line between client and server that counts what passes, and can be cut or held.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// What happens once so many bytes have gone to the client.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends there, once.
    Cut(u64),
    /// Nothing more goes through until [`Proxy::release`].
    Hold(u64),
}

/// The line.
pub(crate) struct Proxy {
    address: String,
    line: Arc<Line>,
}

struct Line {
    upstream: String,
    fault: Fault,
    /// Bytes that went to the client.
    down: AtomicU64,
    /// All that the client said.
    asked: Mutex<Vec<u8>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    struck: bool,
    released: bool,
}

impl Proxy {
    pub(crate) fn new(upstream: &str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let line = Arc::new(Line {
            upstream: upstream.to_owned(),
            fault,
            down: AtomicU64::new(0),
            asked: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let own = Arc::clone(&line);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let line = Arc::clone(&own);
                thread::spawn(move || line.carry(&client));
            }
        });
        Self { address, line }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many bytes went to the client.
    pub(crate) fn bytes_down(&self) -> u64 {
        self.line.down.load(Ordering::SeqCst)
    }

    /// All lines that the client sent.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.line.asked.lock().unwrap();
        String::from_utf8_lossy(&asked).lines().map(str::to_owned).collect()
    }

    /// Waits until the fault has struck.
    pub(crate) fn wait(&self) {
        let state = self.line.state.lock().unwrap();
        let limit = std::time::Duration::from_secs(60);
        let waited = self.line.changed.wait_timeout_while(state, limit, |state| !state.struck);
        assert!(waited.unwrap().0.struck, "the client never got so far");
    }

    /// Lets a held line go on.
    pub(crate) fn release(&self) {
        self.line.state.lock().unwrap().released = true;
        self.line.changed.notify_all();
    }
}

impl Line {
    fn carry(&self, client: &TcpStream) {
        // No server is an end of the connection, as it would be without a line in between.
        let Ok(server) = TcpStream::connect(&self.upstream) else { return };
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 16 * 1024];
                while let Ok(n @ 1..) = { client }.read(&mut buffer) {
                    self.asked.lock().unwrap().extend_from_slice(&buffer[..n]);
                    if { &server }.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
            self.down(&server, client);
            // Not a reset: what went out so far arrives.
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
    }

    fn down(&self, mut server: &TcpStream, mut client: &TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n @ 1..) = server.read(&mut buffer) {
            if client.write_all(&buffer[..n]).is_err() {
                return;
            }
            let down = self.down.fetch_add(n as u64, Ordering::SeqCst) + n as u64;
            match self.fault {
                Fault::Cut(at) if down >= at => {
                    if !std::mem::replace(&mut self.state.lock().unwrap().struck, true) {
                        self.changed.notify_all();
                        return;
                    }
                }
                Fault::Hold(at) if down >= at => {
                    let mut state = self.state.lock().unwrap();
                    state.struck = true;
                    self.changed.notify_all();
                    drop(self.changed.wait_while(state, |state| !state.released).unwrap());
                }
                Fault::Cut(_) | Fault::Hold(_) => {}
            }
        }
    }
}
