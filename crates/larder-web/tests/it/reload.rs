//! A changed configuration is taken up while the server runs, and no answer is lost by it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::{UnixDatagram, UnixStream},
    time::Duration,
};

use larder_testkit::{
    NixVersion, Program, TestStore, Tree,
    process::{Background, built_program},
    scratch::scratch,
    tree::random_bytes,
};
use rustix::process::Signal;

use crate::{
    http::{self, Answer},
    secure::Authority,
    support::{Key, Server, configure, nix_dump, serve, signing},
};

/// How often a reload has ended, well or not.
fn reloads(process: &Background) -> usize {
    process.output().matches("reloaded").count()
}

/// Writes a configuration and has it read.
pub(crate) fn reload(server: &mut Server, store: &TestStore, lines: &str) {
    let folder = server.folder().to_owned();
    configure(&folder, &store.uri(), lines);
    let process = server.process();
    let before = reloads(process);
    process.signal(Signal::HUP);
    process.wait_for("end of the reload", Duration::from_secs(30), |output| {
        (output.matches("reloaded").count() > before).then_some(())
    });
}

fn priority(server: &Server) -> String {
    let text = http::get(server.address(), "/nix-cache-info").text();
    text.lines().find(|line| line.starts_with("Priority")).unwrap().to_owned()
}

fn small_store() -> TestStore {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    store
}

#[test]
fn a_connection_that_is_kept_gets_the_new_configuration_with_its_next_request() {
    let store = small_store();
    let path = store.add_tree("built", &Tree::new());
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let mut server = Server::of(&store);
    let mut kept = http::connect(server.address());
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /nix-cache-info HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut buffer = [0; 2000];
        let n = stream.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert!(ask(&mut kept).contains("Priority: 30"));
    assert_eq!(server.narinfo(&path).signatures.len(), 0);
    reload(&mut server, &store, &format!("priority = 7\n{}", signing(&[&key])));
    assert!(ask(&mut kept).contains("Priority: 7"));
    assert_eq!(server.narinfo(&path).signatures.len(), 1);
}

#[test]
fn a_broken_configuration_changes_nothing_and_is_told() {
    let store = small_store();
    let mut server = Server::with(&store, "priority = 11");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let socket = store.work_dir().join("never.sock");
    let (folder, key) = (server.folder().to_owned(), store.work_dir().join("none.key"));
    let authority = Authority::new();
    fs::remove_file(authority.server_key()).unwrap();
    let listen =
        format!("listen = [\"127.0.0.1:0\", \"unix:{}\", \"127.0.0.1:{port}\"]", socket.display());
    let cases = [
        ("priority = ".to_owned(), "larder.toml"),
        ("priorty = 5".to_owned(), "priorty"),
        (format!("signing-keys = [\"{}\"]\npriority = 5", key.display()), "none.key"),
        (format!("{listen}\npriority = 5"), "something else listens there already"),
        (format!("tls-listen = [\"127.0.0.2:0\"]\n{}", authority.setting()), "server.key"),
    ];
    for (lines, said) in cases {
        reload(&mut server, &store, &lines);
        let log = server.process().output();
        let told = log.rsplit("not reloaded, all stays as it was").next().unwrap();
        assert!(told.contains(said), "{said} in {told}");
        assert_eq!(priority(&server), "Priority: 11");
        assert!(!socket.exists(), "left behind");
    }
    fs::remove_file(folder.join("larder.toml")).unwrap();
    server.process().signal(Signal::HUP);
    server.process().wait_for_line("larder init");
    assert_eq!(priority(&server), "Priority: 11");
    reload(&mut server, &store, "priority = 12");
    assert_eq!(priority(&server), "Priority: 12");
}

#[test]
fn addresses_come_and_go_and_answers_under_way_there_end_whole() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_tree("large", &Tree::new().file("f", random_bytes(1, 30_000_000)));
    let nar = nix_dump(&store, &path);
    let mut server = Server::of(&store);
    let socket = store.work_dir().join("added.sock");
    let target = server.nar_target(&path);
    let added =
        format!("listen = [\"127.0.0.1:0\", \"127.0.0.3:0\", \"unix:{}\"]", socket.display());
    reload(&mut server, &store, &added);
    let line = server.process().wait_for_line("listening on 127.0.0.3:");
    let second = line.rsplit(' ').next().unwrap().to_owned();
    let ask = http::message("GET", &target, &[]);
    let mut by_port = http::connect(&second);
    let mut by_socket = UnixStream::connect(&socket).unwrap();
    by_port.write_all(&ask).unwrap();
    by_socket.write_all(&ask).unwrap();
    let mut begun = [vec![0; 1000], vec![0; 1000]];
    by_port.read_exact(&mut begun[0]).unwrap();
    by_socket.read_exact(&mut begun[1]).unwrap();
    reload(&mut server, &store, "");
    assert!(TcpStream::connect(&second).is_err(), "given up");
    assert!(!socket.exists());
    let [mut first, mut other] = begun;
    first.extend(http::rest(&mut by_port));
    other.extend(http::rest(&mut by_socket));
    for bytes in [first, other] {
        let answer = Answer::parse(&bytes, false).unwrap();
        assert!(answer.complete && answer.body == nar);
    }
    assert_eq!(http::get(server.address(), "/health").status, 200);
}

#[test]
fn a_port_is_changed_to_tls_and_back_without_closing_it() {
    let store = small_store();
    let authority = Authority::new();
    let mut server = Server::of(&store);
    let port = larder_testkit::nginx::free_port();
    let at = format!("127.0.0.2:{port}");
    let plain = format!("listen = [\"127.0.0.1:0\", \"{at}\"]");
    let tls = format!("tls-listen = [\"{at}\"]\n{}", authority.setting());
    for _ in 0..2 {
        reload(&mut server, &store, &plain);
        assert_eq!(http::get(&at, "/health").text(), "ok\n");
        reload(&mut server, &store, &tls);
        let secure = authority.curl(&[], &format!("https://{at}/health")).success();
        assert_eq!(secure.text(), "ok");
    }
    assert!(!server.process().output().contains("not reloaded"));
}

#[test]
fn the_service_manager_is_told_of_a_reload_and_its_end() {
    let store = small_store();
    let folder = scratch("notify");
    let config = configure(folder.path(), &store.uri(), "");
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let server = serve(&config).env("NOTIFY_SOCKET", &socket).spawn();
    let hear = || {
        let mut buffer = [0; 200];
        let n = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert_eq!(hear(), "READY=1\n");
    let mut last = 0;
    for lines in ["priority = 5", "priority = broken"] {
        configure(folder.path(), &store.uri(), lines);
        server.signal(Signal::HUP);
        let said = hear();
        let since =
            said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{said}"));
        let since: u64 = since.trim().parse().unwrap();
        assert!(since > last, "{since}");
        last = since;
        assert_eq!(hear(), "READY=1\n");
    }
}

/// Whether a process has a handler for SIGHUP, which is signal 1: the lowest bit.
fn handles_hang_up(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|bits| u64::from_str_radix(bits.trim(), 16).unwrap() & 1 == 1)
}

#[test]
fn a_reload_asked_for_while_the_server_starts_does_not_end_it() {
    let store = small_store();
    for _ in 0..10 {
        let folder = scratch("early");
        let config = configure(folder.path(), &store.uri(), "");
        let mut server = serve(&config).spawn();
        let pid = server.pid();
        server.wait_for("handler", Duration::from_secs(30), |_| handles_hang_up(pid).then_some(()));
        server.signal(Signal::HUP);
        server.wait_for_line("reloaded");
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn a_command_that_has_nothing_to_reload_stops_when_its_terminal_goes() {
    let folder = scratch("upgrade");
    // Somebody who listens and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let key = Key::new(folder.path(), "fleet-1", 1);
    let config = folder.path().join("larder.toml");
    let text = format!(
        "state-dir = \"{}/state\"\n[client]\nservers = [\"http://{}/\"]\nhost = \"laptop\"\n\
         fleet-public-keys = [\"{}\"]\n",
        folder.path().display(),
        mute.local_addr().unwrap(),
        key.public
    );
    fs::write(&config, text).unwrap();
    let program = Program::new(built_program("larder")).args(["upgrade", "build", "--config"]);
    let path = larder_testkit::process::path_with(&NixVersion::V2_34.bin_dir());
    let mut upgrade = program.arg(&config).env("PATH", path).spawn();
    mute.set_nonblocking(true).unwrap();
    let limit = Duration::from_secs(30);
    let _asked = upgrade.wait_for("question", limit, |_| mute.accept().ok());
    upgrade.signal(Signal::HUP);
    assert_eq!(upgrade.wait(limit), 130, "{}", upgrade.output());
}

#[test]
fn an_inherited_socket_speaks_tls_on_the_port_that_is_named_for_it() {
    let store = small_store();
    let authority = Authority::new();
    let folder = scratch("activation");
    let [plain, tls] = [(); 2].map(|()| larder_testkit::nginx::free_port());
    let lines = format!("tls-listen = [\"[::]:{tls}\"]\n{}", authority.setting());
    let config = configure(folder.path(), &store.uri(), &lines);
    // As systemd hands sockets over: listening already, from descriptor 3 on, counted and addressed.
    let script = "import os, socket, sys\n\
        held = [socket.create_server(('127.0.0.1', int(port))) for port in sys.argv[1:3]]\n\
        copies = [os.dup(one.fileno()) for one in held]\n\
        [os.dup2(copy, 3 + n) for n, copy in enumerate(copies)]\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2')\n\
        os.execv(sys.argv[3], sys.argv[3:])\n";
    let program = Program::new("python3").args(["-c", script]);
    let program = program.args([plain.to_string(), tls.to_string()]).arg(built_program("larder"));
    let mut server = program.args(["serve", "--config"]).arg(&config).spawn();
    server.wait_for_line(&format!("listening on 127.0.0.1:{tls}"));
    let asks = |authority: &Authority| {
        let said = authority.curl(&["--http2"], &format!("https://127.0.0.1:{tls}/health"));
        assert_eq!(said.success().text(), "ok");
        assert_eq!(http::get(&format!("127.0.0.1:{plain}"), "/health").text(), "ok\n");
    };
    asks(&authority);
    // The sockets stay the service manager's; what is answered changes.
    configure(folder.path(), &store.uri(), &format!("{lines}priority = 3"));
    server.signal(Signal::HUP);
    server.wait_for_line("reloaded");
    asks(&authority);
    let info = http::get(&format!("127.0.0.1:{plain}"), "/nix-cache-info").text();
    assert!(info.contains("Priority: 3"), "{info}");
    assert_eq!(server.stop(), 0);
}
