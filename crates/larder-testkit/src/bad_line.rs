//! A bad line to a server: a TCP proxy that does to each connection what a test says.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens to it.
    None,
    /// Its first request is answered with this HTTP status by nobody else than the line.
    Status(u16),
    /// It is cut after so many bytes to the server.
    CutRequest(u64),
    /// It is cut after so many bytes from the server.
    CutAnswer(u64),
    /// It stands still after so many bytes from the server.
    HoldAnswer(u64),
    /// What comes from the server comes at so many bytes a second.
    Trickle(u64),
    /// What comes from the server comes so much later, each time.
    Delay(Duration),
    /// Each of its requests is answered with these bytes, by nobody else than the line.
    Says(&'static str),
    /// It is taken, and nothing is ever heard again.
    Silence,
}

type Rule = Arc<dyn Fn(usize) -> Fault + Send + Sync>;

/// A line; gone on drop, with all its connections.
pub struct BadLine {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    rule: Mutex<Rule>,
    open: Mutex<Vec<TcpStream>>,
    sent: AtomicU64,
    ended: AtomicBool,
}

impl BadLine {
    /// A line to this server (`127.0.0.1:80`), good until [`BadLine::obey`] is called.
    ///
    /// # Panics
    /// When there is no port left.
    #[must_use]
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let rule: Rule = Arc::new(|_| Fault::None);
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            rule: Mutex::new(rule),
            open: Mutex::default(),
            sent: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Self { address, shared }
    }

    /// Its own address.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on the rule says what becomes of each connection, counted from 0.
    pub fn obey(&self, rule: impl Fn(usize) -> Fault + Send + Sync + 'static) {
        *locked(&self.shared.rule) = Arc::new(rule);
    }

    /// Bytes that went through to the server so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for BadLine {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for stream in locked(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes who waits for the next one.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for (number, client) in listener.incoming().enumerate() {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let Ok(client) = client else { continue };
            let rule = Arc::clone(&locked(&self.rule));
            let this = Arc::clone(self);
            // A connection that fails is what this is for.
            thread::spawn(move || _ = this.serve(client, rule(number)));
        }
    }

    fn serve(&self, mut client: TcpStream, fault: Fault) -> io::Result<()> {
        self.keep(&client)?;
        match fault {
            Fault::Silence => {
                let _ = io::copy(&mut client, &mut io::sink());
                return Ok(());
            }
            Fault::Status(status) => return answer(client, status),
            Fault::Says(text) => return say(client, text),
            Fault::None
            | Fault::CutRequest(_)
            | Fault::CutAnswer(_)
            | Fault::HoldAnswer(_)
            | Fault::Delay(_)
            | Fault::Trickle(_) => {}
        }
        let server = TcpStream::connect(&self.server)?;
        self.keep(&server)?;
        let limit = |cut: Option<u64>| cut.unwrap_or(u64::MAX);
        let request = limit(if let Fault::CutRequest(bytes) = fault { Some(bytes) } else { None });
        let reply = limit(if let Fault::CutAnswer(bytes) = fault { Some(bytes) } else { None });
        let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
        let back = thread::spawn(move || match fault {
            Fault::HoldAnswer(bytes) => hold(from_server, to_client, bytes),
            Fault::Trickle(pace) => trickle(from_server, to_client, pace),
            Fault::Delay(pause) => pass(from_server, to_client, reply, |_| thread::sleep(pause)),
            _ => pass(from_server, to_client, reply, |_| ()),
        });
        pass(client, server, request, |bytes| _ = self.sent.fetch_add(bytes, Ordering::Relaxed));
        let _ = back.join();
        Ok(())
    }

    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        locked(&self.open).push(stream.try_clone()?);
        Ok(())
    }
}

/// Passes bytes on, so many at most; then the connection ends, at both ends. `before` is told of those that come.
fn pass(mut from: TcpStream, mut to: TcpStream, limit: u64, before: impl Fn(u64)) {
    let mut left = limit;
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match from.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        before(read as u64);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        left -= read as u64;
    }
    let how = if left > 0 { Shutdown::Write } else { Shutdown::Both };
    let _ = to.shutdown(how);
    if left == 0 {
        let _ = from.shutdown(Shutdown::Both);
    }
}

/// Passes so many bytes on, and nothing after them; neither end is told.
fn hold(mut from: TcpStream, mut to: TcpStream, limit: u64) {
    let _ = io::copy(&mut (&mut from).take(limit), &mut to);
    let _ = io::copy(&mut from, &mut io::sink());
    // Until the test ends.
    let _ = to.read(&mut [0]);
}

/// Passes bytes on slowly.
fn trickle(mut from: TcpStream, mut to: TcpStream, pace: u64) {
    const BEAT: u64 = 10;
    let mut buffer = vec![0; usize::try_from((pace / BEAT).max(1)).unwrap_or(1)];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(1000 / BEAT));
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Answers every request that has no body.
fn say(mut client: TcpStream, text: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        if request.ends_with(b"\r\n\r\n") {
            client.write_all(text.as_bytes())?;
            request.clear();
        }
    }
}

/// Reads a request with its body, so that it is not the line that is complained about, and answers it.
fn answer(mut client: TcpStream, status: u16) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let mut left = None;
    while left.is_none_or(|left: usize| left > 0) {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        match &mut left {
            Some(left) => *left = left.saturating_sub(read),
            None => {
                request.extend_from_slice(&buffer[..read]);
                left = body_left(&request);
            }
        }
    }
    let text = format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(text.as_bytes())?;
    client.shutdown(Shutdown::Both)
}

/// The bytes of a request that are still to come, once its head is there.
fn body_left(request: &[u8]) -> Option<usize> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    Some(length.saturating_sub(request.len() - end))
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
