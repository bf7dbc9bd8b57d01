//! Clients that are slow, many, or ask for too much, and none of them at the others' expense.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use futures::StreamExt;
use larder_testkit::{NixVersion, TestStore, Tree, scratch::scratch, tree::random_bytes};
use larder_web::base_path::BasePath;
use larder_web::server::{self, Address, Limits, Listening, Place, Serving};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::{
    http::{self, Answer},
    support::{Server, configure, nix_dump, serve},
};

const FOREVER: Duration = Duration::from_secs(3600);

/// Limits that never apply, so that a test sets the one it is about.
fn patient() -> Limits {
    Limits { head: FOREVER, idle: FOREVER, stall: FOREVER, ..Limits::default() }
}

/// A server in this process, with answers that need no store.
struct InProcess {
    /// Ends with the test, and all connections with it.
    _runtime: Runtime,
    address: String,
    stop: CancellationToken,
}

impl InProcess {
    fn with(limits: Limits) -> Self {
        let endless = || async {
            let chunk = || Ok::<_, std::io::Error>(vec![7_u8; 65536]);
            Body::from_stream(futures::stream::repeat_with(chunk).map(|chunk| chunk))
        };
        let router =
            Router::new().route("/", get(|| async { "hello\n" })).route("/endless", get(endless));
        let runtime = Runtime::new().unwrap();
        let listening =
            runtime.block_on(Listening::on(&Address::Tcp("127.0.0.1".to_owned(), 0))).unwrap();
        let address = listening.address().unwrap().to_string();
        let stop = CancellationToken::new();
        drop(runtime.spawn(run(listening, router, limits, stop.clone())));
        Self { _runtime: runtime, address, stop }
    }

    fn connect(&self) -> TcpStream {
        http::connect(&self.address)
    }

    fn hello(&self) -> Answer {
        http::get(&self.address, "/")
    }
}

/// Serves until told to stop.
async fn run(listening: Listening, router: Router, limits: Limits, stop: CancellationToken) {
    let mut server = server::Server::new(
        Serving { router, base_path: BasePath::default(), proxies: Arc::default(), tls: None },
        limits,
    );
    let place = Place { address: listening.address().unwrap(), secure: false };
    server.listen(place, listening);
    stop.cancelled().await;
    server.stop().await;
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Asks over a connection that stays open.
fn ask_again(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 1000];
    while !answer.ends_with(b"hello\n") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

/// Whether the server has ended it: nothing comes any more.
fn ends(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 100]), Ok(0))
        || stream.take_error().is_ok_and(|error| error.is_some())
}

#[test]
fn a_client_that_dribbles_its_headers_is_dropped_and_others_are_served() {
    let server = InProcess::with(Limits { head: Duration::from_millis(300), ..patient() });
    let mut silent = server.connect();
    let mut first = server.connect();
    let mut later = server.connect();
    // On a connection that was used well before as well.
    ask_again(&mut later);
    let dribble = |stream: &mut TcpStream| {
        // Never a pause as long as the limit, never an end: the limit is for all of them together.
        let mut sent = stream.write_all(b"GET / HTTP/1.1\r\n");
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        for _ in 0..3000 {
            if sent.is_err() {
                return true;
            }
            match stream.read(&mut [0; 10]) {
                Ok(0) => return true,
                Ok(_) => panic!("an answer to half a request"),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
            assert_eq!(server.hello().text(), "hello\n");
            sent = stream.write_all(b"X: y\r\n");
        }
        false
    };
    assert!(dribble(&mut first));
    assert!(dribble(&mut later));
    assert!(ends(&mut silent));
}

#[test]
fn waiting_for_the_next_request_is_not_dribbling() {
    let limits = Limits { head: Duration::from_millis(100), ..patient() };
    let server = InProcess::with(limits);
    let mut stream = server.connect();
    ask_again(&mut stream);
    // Another connection that says nothing is dropped meanwhile, so the limit has passed.
    assert!(ends(&mut server.connect()));
    ask_again(&mut stream);
}

#[test]
fn a_connection_that_is_no_longer_used_is_closed() {
    let server = InProcess::with(Limits { idle: Duration::from_millis(100), ..patient() });
    let mut stream = server.connect();
    ask_again(&mut stream);
    ask_again(&mut stream);
    assert!(ends(&mut stream));
}

#[test]
fn a_reader_that_takes_nothing_is_dropped_and_gives_its_place_to_the_next() {
    let limits = Limits { stall: Duration::from_millis(300), connections: 1, ..patient() };
    let server = InProcess::with(limits);
    let mut stalled = server.connect();
    stalled.write_all(&http::message("GET", "/endless", &[])).unwrap();
    stalled.read_exact(&mut [0; 100]).unwrap();
    // Answered only once the one place is free again.
    assert_eq!(server.hello().text(), "hello\n");
}

#[test]
fn who_comes_when_all_places_are_taken_waits_and_is_answered() {
    let server = InProcess::with(Limits { connections: 2, ..patient() });
    let mut held: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    held.iter_mut().for_each(ask_again);
    let mut waiting = server.connect();
    waiting.write_all(&http::message("GET", "/", &[])).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(waiting.read(&mut [0; 10]).is_err(), "answered beyond the limit");
    waiting.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    held.iter_mut().for_each(ask_again);
    held.pop();
    let answer = Answer::parse(&http::rest(&mut waiting), false).unwrap();
    assert_eq!(answer.text(), "hello\n");
}

#[test]
fn requests_that_are_too_large_are_refused_in_words_that_arrive() {
    let limits = Limits::default();
    let server = InProcess::with(patient());
    let long = "a".repeat(limits.target_size);
    assert_eq!(http::get(&server.address, &format!("/{long}")).status, 414);
    let fits = "a".repeat(limits.target_size - 1);
    assert_eq!(http::get(&server.address, &format!("/{fits}")).status, 404);
    for size in [limits.head_size, 10 * limits.head_size] {
        let huge = "b".repeat(size);
        let answer = http::request(&server.address, "GET", "/", &[("X-Huge", &huge)]);
        assert_eq!(answer.status, 431, "{size}");
        assert_eq!(http::get(&server.address, &format!("/{huge}")).status, 431, "{size}");
    }
    let large = "c".repeat(limits.head_size - 1000);
    assert_eq!(http::request(&server.address, "GET", "/", &[("X-Large", &large)]).status, 200);
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "y")).collect();
    assert_eq!(http::request(&server.address, "GET", "/", &many).status, 431);
}

#[test]
fn an_answer_names_its_request() {
    let server = InProcess::with(patient());
    let named = |id: &str| {
        let answer = http::request(&server.address, "GET", "/", &[("X-Request-Id", id)]);
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(named("7b3f-ab_c.9"), "7b3f-ab_c.9");
    let longest = "x".repeat(128);
    assert_eq!(named(&longest), longest);
    let first = server.hello().header("x-request-id").unwrap().to_owned();
    let mut made = vec![first];
    for malformed in ["", "two words", "semi;colon", "\u{e9}", "{\"json\":1}", &"x".repeat(129)] {
        let id = named(malformed);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{id}");
        assert!(!made.contains(&id), "{id} twice");
        made.push(id);
    }
    let missing = http::request(&server.address, "POST", "/none", &[("X-Request-Id", "lost")]);
    assert_eq!((missing.status, missing.header("x-request-id")), (404, Some("lost")));
}

#[test]
fn the_log_tells_of_each_request_at_debug() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let folder = scratch("log");
    let config = configure(folder.path(), &store.uri(), "");
    let mut server = serve(&config).args(["--log", "info,larder_web=debug"]).spawn();
    let line = server.wait_for_line("listening on 127.0.0.1:");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    let id = [("X-Request-Id", "asked-by-test")];
    assert_eq!(http::request(&address, "GET", "/health?x", &id).text(), "ok\n");
    let line = server.wait_for_line("asked-by-test");
    for part in [
        "method=GET",
        "path=\"/health\"",
        "status=200",
        "bytes=3",
        "milliseconds=",
        "peer=127.0.0.1:",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_thousand_connections_at_once_are_all_answered() {
    const CONNECTIONS: usize = 1000;
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_tree("shared", &Tree::new().file("dir/f", random_bytes(1, 300_000)));
    let nar = nix_dump(&store, &path);
    // Started with fewer files than that, as most systems start a service.
    let server =
        Server::behind(&store, "", &["sh", "-c", "ulimit -S -n 512 && exec \"$@\"", "larder"]);
    let target = server.nar_target(&path);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let mut streams: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| http::connect(server.address())).collect();
    for stream in &mut streams {
        stream.write_all(&http::message("GET", &target, &[])).unwrap();
    }
    // All have begun before any is read to its end.
    for stream in &mut streams {
        stream.read_exact(&mut [0]).unwrap();
    }
    for mut stream in streams {
        let mut bytes = b"H".to_vec();
        bytes.extend(http::rest(&mut stream));
        let answer = Answer::parse(&bytes, false).unwrap();
        assert!(answer.status == 200 && answer.complete && answer.body == nar);
    }
}

#[test]
fn a_server_told_to_stop_under_load_loses_no_answer() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_tree("large", &Tree::new().file("f", random_bytes(1, 3_000_000)));
    let nar = nix_dump(&store, &path);
    let mut server = Server::of(&store);
    let target = server.nar_target(&path);
    let mut kept = http::connect(server.address());
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert!(kept.read(&mut [0; 1000]).unwrap() > 0);
    let begun: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut stream = http::connect(server.address());
            stream.write_all(&http::message("GET", &target, &[])).unwrap();
            stream
        })
        .collect();
    kept.write_all(&http::message("GET", &target, &[])).unwrap();
    // Some are under way now, some were only sent, and some the server has not even accepted.
    server.process().signal(Signal::TERM);
    let answers: Vec<_> = begun.into_iter().chain([kept]).collect();
    std::thread::scope(|scope| {
        for mut stream in answers {
            let nar = &nar;
            scope.spawn(move || {
                let answer = Answer::parse(&http::rest(&mut stream), false).unwrap();
                assert!(answer.status == 200 && answer.complete && answer.body == *nar);
            });
        }
    });
    assert_eq!(server.process().wait(Duration::from_secs(30)), 0);
}

#[test]
fn what_was_asked_before_the_stop_is_answered_though_nobody_had_looked() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = Address::Tcp("127.0.0.1".to_owned(), 0);
    let listening = runtime.block_on(Listening::on(&address)).unwrap();
    let address = listening.address().unwrap().to_string();
    // Nothing of the server runs yet: the kernel alone has these.
    let asked: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = http::connect(&address);
            stream.write_all(&http::message("GET", "/", &[])).unwrap();
            stream
        })
        .collect();
    let stop = CancellationToken::new();
    stop.cancel();
    let router = Router::new().route("/", get(|| async { "hello\n" }));
    runtime.block_on(run(listening, router, patient(), stop));
    for mut stream in asked {
        let answer = Answer::parse(&http::rest(&mut stream), false).unwrap();
        assert_eq!(answer.text(), "hello\n");
    }
}

#[test]
fn the_service_manager_is_told_when_the_server_is_ready_alive_and_stopping() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let folder = scratch("notify");
    let config = configure(folder.path(), &store.uri(), "");
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let program = serve(&config).env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let mut server = program.spawn();
    let hear = || {
        let mut buffer = [0; 200];
        let n = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert_eq!(hear(), "READY=1\n");
    server.wait_for_line("listening on");
    assert_eq!([hear(), hear()], ["WATCHDOG=1\n"; 2]);
    server.signal(Signal::TERM);
    let stopping = std::iter::repeat_with(hear).find(|heard| heard != "WATCHDOG=1\n").unwrap();
    assert_eq!(stopping, "STOPPING=1\n");
    assert_eq!(server.wait(Duration::from_secs(30)), 0);
}

#[test]
fn sockets_of_the_service_manager_are_used_instead_of_the_configured() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let folder = scratch("activation");
    let config = configure(folder.path(), &store.uri(), "listen = [\"192.0.2.1:5000\"]");
    let port = larder_testkit::nginx::free_port();
    let larder = larder_testkit::process::built_program("larder");
    // As systemd hands sockets over: listening already, from descriptor 3 on, counted and addressed.
    let script = "import os, socket, sys\n\
        first = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n\
        second = socket.socket(socket.AF_UNIX); second.bind(sys.argv[2]); second.listen()\n\
        one, two = os.dup(first.fileno()), os.dup(second.fileno())\n\
        os.dup2(one, 3); os.dup2(two, 4)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2')\n\
        os.execv(sys.argv[3], sys.argv[3:])\n";
    let socket = folder.path().join("activated.sock");
    let mut server = larder_testkit::Program::new("python3")
        .args(["-c", script, &port.to_string()])
        .arg(&socket)
        .arg(larder)
        .args(["serve", "--config"])
        .arg(&config)
        .spawn();
    server.wait_for_line(&format!("listening on unix:{}", socket.display()));
    assert_eq!(http::get(&format!("127.0.0.1:{port}"), "/health").text(), "ok\n");
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(&http::message("GET", "/health", &[])).unwrap();
    assert_eq!(Answer::parse(&http::rest(&mut stream), false).unwrap().text(), "ok\n");
    assert_eq!(server.stop(), 0);
    assert!(fs::exists(&socket).unwrap(), "the service manager's, not ours to remove");
}
