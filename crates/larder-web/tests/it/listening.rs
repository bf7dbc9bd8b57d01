//! Where the server listens, what it says when it cannot start, and how it stops.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use larder_testkit::{
    NixVersion, Program, TestStore, Tree, process::built_program, scratch::scratch,
    tree::random_bytes,
};

use crate::{
    http,
    support::{Key, Server, configure, nix_dump, serve, signing},
};

#[test]
fn two_ports_and_a_unix_socket_answer_alike_and_the_socket_goes_with_the_server() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("source", &Tree::random(1, 3, 1000));
    let socket = store.work_dir().join("larder.sock");
    let listen = format!("listen = [\"127.0.0.1:0\", \"[::1]:0\", \"unix:{}\"]", socket.display());
    let mut server = Server::with(&store, &listen);
    let line = server.process().wait_for_line("listening on [::1]:");
    let second = line.rsplit(' ').next().unwrap().to_owned();
    server.process().wait_for_line("listening on unix:");
    let target = server.nar_target(&path);
    let first = http::get(server.address(), &target);
    assert!(first.body == nix_dump(&store, &path));
    assert!(http::get(&second, &target).body == first.body);
    assert!(ask_socket(&socket, &target).body == first.body);
    assert_eq!(server.process().stop(), 0);
    assert!(!socket.exists());
}

#[test]
fn what_keeps_a_server_from_starting_is_said_with_the_remedy() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let folder = scratch("errors");
    let key = Key::new(folder.path(), "open", 1);
    fs::set_permissions(&key.file, fs::Permissions::from_mode(0o644)).unwrap();
    let malformed = folder.path().join("malformed.key");
    fs::write(&malformed, "cache-1:c2VjcmV0").unwrap();
    fs::set_permissions(&malformed, fs::Permissions::from_mode(0o600)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let keys = |file: &Path| format!("signing-keys = [\"{}\"]", file.display());
    let here = folder.path().display().to_string();
    let cases = [
        ("port taken", store.uri(), format!("listen = [\"127.0.0.1:{port}\"]")),
        ("no such address", store.uri(), "listen = [\"192.0.2.1:5000\"]".to_owned()),
        ("no folder for the socket", store.uri(), format!("listen = [\"unix:{here}/no/sock\"]")),
        ("missing store", format!("{here}/empty"), String::new()),
        ("remote store", "ssh://elsewhere".to_owned(), String::new()),
        ("key open to others", store.uri(), keys(&key.file)),
        ("malformed key", store.uri(), keys(&malformed)),
        ("missing key", store.uri(), keys(&folder.path().join("none.key"))),
    ];
    let mut said = String::new();
    for (what, uri, lines) in cases {
        let config = configure(folder.path(), &uri, &lines);
        let ended = serve(&config).arg("--log").arg("error").run().failure();
        assert!(ended.stdout.is_empty(), "{ended}");
        let text = ended.stderr.replace(&here, "FOLDER").replace(&port, "PORT");
        said.push_str(&format!("{what} ({}):\n{text}\n", ended.code()));
    }
    assert!(!said.contains("c2VjcmV0"), "a key in a message");
    insta::assert_snapshot!(said);
}

#[test]
fn a_socket_that_a_killed_server_left_is_replaced_and_one_in_use_is_not() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let socket = store.work_dir().join("larder.sock");
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
    let mut killed = Server::with(&store, &listen);
    killed.process().wait_for_line("listening on unix:");
    killed.process().kill();
    assert!(socket.exists(), "so that there is something to replace");
    let mut server = Server::with(&store, &listen);
    server.process().wait_for_line("listening on unix:");
    assert_eq!(ask_socket(&socket, "/health").text(), "ok\n");
    let folder = scratch("second");
    let config = configure(folder.path(), &store.uri(), &listen);
    let second = serve(&config).run().failure();
    assert!(second.stderr.contains("something else listens there already"), "{second}");
    assert_eq!(ask_socket(&socket, "/health").text(), "ok\n");
}

#[test]
fn a_file_where_the_socket_should_be_is_left_alone() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let folder = scratch("file");
    let file = folder.path().join("precious");
    fs::write(&file, "content").unwrap();
    let listen = format!("listen = [\"unix:{}\"]", file.display());
    let config = configure(folder.path(), &store.uri(), &listen);
    let _ = serve(&config).run().failure();
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
}

#[test]
fn a_server_told_to_stop_lets_a_nar_under_way_end() {
    let store = TestStore::new(NixVersion::V2_34);
    // More than the buffers between the two hold.
    let path = store.add_tree("large", &Tree::new().file("f", random_bytes(1, 40_000_000)));
    let nar = nix_dump(&store, &path);
    let mut server = Server::of(&store);
    let target = server.nar_target(&path);
    let mut stream = http::connect(server.address());
    stream.write_all(&http::message("GET", &target, &[])).unwrap();
    let mut received = vec![0; 100_000];
    stream.read_exact(&mut received).unwrap();
    server.process().signal(rustix::process::Signal::TERM);
    server.process().wait_for_line("stopping");
    let address = server.address().to_owned();
    let refused = |_: &str| std::net::TcpStream::connect(&address).is_err().then_some(());
    server.process().wait_for("refused connections", Duration::from_secs(30), refused);
    assert!(server.process().is_running());
    received.extend(http::rest(&mut stream));
    let answer = http::Answer::parse(&received, false).unwrap();
    assert!(answer.complete && answer.body == nar);
    assert_eq!(server.process().wait(Duration::from_secs(30)), 0);
}

#[test]
fn a_server_told_twice_to_stop_does_not_wait() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_tree("large", &Tree::new().file("f", random_bytes(1, 40_000_000)));
    let mut server = Server::of(&store);
    let mut stream = http::connect(server.address());
    let target = server.nar_target(&path);
    stream.write_all(&http::message("GET", &target, &[])).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    server.process().signal(rustix::process::Signal::TERM);
    server.process().wait_for_line("stopping");
    server.process().signal(rustix::process::Signal::TERM);
    assert_eq!(server.process().wait(Duration::from_secs(20)), 130);
}

#[test]
fn a_store_that_this_user_may_not_read_is_said_with_the_remedy() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let folder = scratch("unreadable");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(store.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let config = configure(folder.path(), &store.uri(), "");
    // The test's programs may lie where others cannot go; those of the system do not.
    let program = folder.path().join("larder");
    fs::copy(built_program("larder"), &program).unwrap();
    let ended = Program::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["serve", "--config"])
        .arg(&config)
        .run()
        .failure();
    assert_eq!(
        ended.stderr.replace(&store.uri(), "STORE"),
        "larder: the Nix store's database STORE/nix/var/nix/db/db.sqlite may not be read by this user: \
         run Larder as one who may, or let others enter the folders above it\n"
    );
}

#[test]
fn an_idle_connection_does_not_keep_the_server_from_stopping() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let mut server = Server::of(&store);
    let mut used = http::connect(server.address());
    used.write_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = [0; 200];
    assert!(used.read(&mut answer).unwrap() > 0);
    let _unused = http::connect(server.address());
    server.process().signal(rustix::process::Signal::TERM);
    assert_eq!(server.process().wait(Duration::from_secs(20)), 0);
}

#[test]
fn a_server_whose_log_nobody_reads_any_more_still_answers_and_stops() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let folder = scratch("unread");
    let config = configure(folder.path(), &store.uri(), "");
    let log = folder.path().join("log");
    let _ = Program::new("mkfifo").arg(&log).run().success();
    let mut server = Program::new("sh")
        .args(["-c", "exec \"$@\" 2> \"$0\""])
        .args([&log, &built_program("larder")])
        .args(["--log", "debug", "serve", "--config"])
        .arg(&config)
        .spawn();
    let mut lines = BufReader::new(fs::File::open(&log).unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("listening on 127.0.0.1:")).unwrap();
    let address = line.rsplit(' ').next().unwrap();
    drop(lines);
    for _ in 0..3 {
        assert_eq!(http::get(address, "/health").text(), "ok\n");
    }
    // Each of these has something to say, too.
    server.signal(rustix::process::Signal::HUP);
    assert_eq!(http::get(address, "/health").text(), "ok\n");
    assert_eq!(server.stop(), 0);
}

#[test]
fn keys_made_by_larder_serve_as_signing_keys() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_tree("built", &Tree::new());
    let file = store.work_dir().join("made.key");
    let made = Program::new(built_program("larder"))
        .args(["key", "generate", "cache.example-1", "--output"])
        .arg(&file)
        .run()
        .success();
    let key = Key { file, public: made.text().to_owned() };
    let server = Server::with(&store, &signing(&[&key]));
    let trusted = [key.public.parse().unwrap()];
    let store_dir = larder_formats::store_path::StoreDir::default();
    assert!(server.narinfo(&path).is_trusted_by(&store_dir, &trusted));
}

fn ask_socket(socket: &Path, target: &str) -> http::Answer {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&http::message("GET", target, &[])).unwrap();
    http::Answer::parse(&http::rest(&mut stream), false).unwrap()
}
