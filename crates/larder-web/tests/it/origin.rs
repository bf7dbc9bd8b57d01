//! Whom the server believes about a request's origin, on the page and in the log.

use std::{io::Write, os::unix::net::UnixStream};

use larder_testkit::{Background, NixVersion, TestStore, Tree, scratch::scratch};
use tempfile::TempDir;

use crate::{
    http,
    support::{Key, configure, serve, signing},
};

const SAID: [(&str, &str); 4] = [
    ("X-Forwarded-For", "203.0.113.7, 192.0.2.1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "cache.example"),
    ("X-Forwarded-Prefix", "/cache"),
];

/// A server that logs each request.
struct Logging {
    process: Background,
    address: String,
    socket: std::path::PathBuf,
    _store: TestStore,
    _folder: TempDir,
}

impl Logging {
    fn with(settings: &str) -> Self {
        let store = TestStore::new(NixVersion::V2_34);
        let _ = store.add_source("source", &Tree::new());
        let folder = scratch("origin");
        let key = Key::new(folder.path(), "cache-1", 1);
        let socket = folder.path().join("http.sock");
        let lines = format!(
            "listen = [\"127.0.0.1:0\", \"unix:{}\"]\n{settings}\n{}",
            socket.display(),
            signing(&[&key])
        );
        let config = configure(folder.path(), &store.uri(), &lines);
        let mut process = serve(&config).args(["--log", "debug"]).spawn();
        let line = process.wait_for_line("listening on 127.0.0.1:");
        process.wait_for_line("listening on unix:");
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { process, address, socket, _store: store, _folder: folder }
    }

    /// The address on the page, and the peer in the log.
    fn told(&mut self, id: &str, unix: bool, said: &[(&str, &str)]) -> (String, String) {
        let message = http::message("GET", "/", &[said, &[("X-Request-Id", id)]].concat());
        let bytes = if unix {
            let mut stream = UnixStream::connect(&self.socket).unwrap();
            stream.write_all(&message).unwrap();
            http::rest(&mut stream)
        } else {
            http::ask(&self.address, &message)
        };
        let answer = http::Answer::parse(&bytes, false).unwrap();
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let page = answer.text();
        let address = page.split("extra-substituters = ").nth(1).unwrap().lines().next().unwrap();
        let line = self.process.wait_for_line(&format!("request_id=\"{id}\""));
        let peer = line.split("peer=").nth(1).unwrap().split(' ').next().unwrap();
        let peer = if peer.starts_with("127.0.0.1:") { "127.0.0.1" } else { peer };
        (address.to_owned(), peer.to_owned())
    }
}

fn told(address: &str, peer: &str) -> (String, String) {
    (address.to_owned(), peer.to_owned())
}

#[test]
fn what_a_program_of_this_machine_says_is_believed() {
    let mut server = Logging::with("");
    let outside = told("https://cache.example/cache", "192.0.2.1");
    assert_eq!(server.told("tcp", false, &SAID), outside);
    assert_eq!(server.told("unix", true, &SAID), outside);
    assert_eq!(server.told("silent", false, &[]), told("http://test", "127.0.0.1"));
    assert_eq!(server.told("silent-unix", true, &[]), told("http://test", "unix"));
    let standard = [("Forwarded", "for=\"[2001:db8::1]\";proto=https;host=\"cache.example:8443\"")];
    let outside = told("https://cache.example:8443", "2001:db8::1");
    assert_eq!(server.told("standard", false, &standard), outside);
}

#[test]
fn what_a_stranger_says_is_not_believed() {
    let mut server = Logging::with("trusted-proxies = []");
    assert_eq!(server.told("stranger", false, &SAID), told("http://test", "127.0.0.1"));
    let standard = [("Forwarded", "for=192.0.2.1;proto=https;host=cache.example")];
    assert_eq!(server.told("standard", false, &standard), told("http://test", "127.0.0.1"));
    // Who may open the socket is the file system's business.
    let outside = told("https://cache.example/cache", "192.0.2.1");
    assert_eq!(server.told("unix", true, &SAID), outside);
}

#[test]
fn a_chain_of_proxies_is_looked_through_as_far_as_they_are_trusted() {
    let mut server = Logging::with("trusted-proxies = [\"127.0.0.1\", \"192.0.2.0/24\"]");
    let outside = told("https://cache.example/cache", "203.0.113.7");
    assert_eq!(server.told("chain", false, &SAID), outside);
}

#[test]
fn hostile_words_reach_neither_the_page_nor_the_log() {
    let mut server = Logging::with("base-path = \"/\"");
    for (n, (name, value)) in [
        ("X-Forwarded-Host", "<script>alert(1)</script>"),
        ("X-Forwarded-Host", "evil\" ]; trusted-users = [ \"*"),
        ("X-Forwarded-Host", "a/b"),
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Prefix", "/\"><script>"),
        ("X-Forwarded-Prefix", "//evil.example"),
        ("X-Forwarded-Prefix", "/../.."),
        ("X-Forwarded-For", "\u{9b}31m"),
        ("X-Forwarded-For", "request_id=forged"),
        ("Forwarded", "for=\"request_id=forged\";host=\"<script>\";proto=\"a b\""),
        ("Forwarded", "host=\"evil.example"),
    ]
    .into_iter()
    .enumerate()
    {
        let seen = server.told(&format!("hostile-{n}"), false, &[(name, value)]);
        assert_eq!(seen, told("http://test", "127.0.0.1"), "{name}: {value}");
    }
    assert!(!server.process.output().contains("forged"));
}
