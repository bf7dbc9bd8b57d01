//! A receiver of notices to test with: a real HTTP server that writes down what it is sent, and behaves as told.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Answers with this status line.
    Says(&'static str),
    /// Reads, and never answers.
    Hangs,
    /// Closes the connection.
    Closes,
    /// Sends elsewhere.
    Redirects(String),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The server; its threads end with the test's process.
pub(super) struct Receiver {
    pub(super) port: u16,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    pub(super) fn that(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (how, seen) = (Arc::clone(&behaviour), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (how, seen) = (Arc::clone(&how), Arc::clone(&seen));
                thread::spawn(move || answer(stream, &how, &seen));
            }
        });
        Self { port, behaviour, requests }
    }

    pub(super) fn that_takes_all() -> Self {
        Self::that(Behaviour::Says("200 OK"))
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn now(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// The requests that came since this was asked last.
    pub(super) fn taken(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// The one message that came since this was asked last.
    pub(super) fn took_one(&self) -> serde_json::Value {
        let taken = self.taken();
        assert_eq!(taken.len(), 1, "{taken:?}");
        taken[0].json()
    }

    /// The requests that came.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits for a request.
    pub(super) fn wait(&self) -> Request {
        for _ in 0..6000 {
            if let Some(request) = self.requests.lock().unwrap().first().cloned() {
                return request;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("no request has come");
    }
}

fn answer(stream: TcpStream, how: &Mutex<Behaviour>, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        seen.lock().unwrap().push(request);
        let behaviour = how.lock().unwrap().clone();
        let head = match behaviour {
            Behaviour::Says(status) => status.to_owned(),
            Behaviour::Redirects(to) => format!("307 Temporary Redirect\r\nLocation: {to}"),
            Behaviour::Closes => return,
            Behaviour::Hangs => loop {
                thread::park();
            },
        };
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 3\r\n\r\nok\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        let read = reader.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut request = Request { line: first, headers, body: String::new() };
    let length: u64 = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    reader.take(length).read_to_string(&mut request.body).ok()?;
    Some(request)
}
