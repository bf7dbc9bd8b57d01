//! Word of runs: reports that are kept and shown, and those who are told.

mod figures;
mod notices;
mod receiver;
mod refusals;
mod reports;

use larder_testkit::Background;

use crate::build_server::BuildServer;

/// A build that fails, with something to read in its log.
const FAIL: &str = "echo compiling; echo 'main.c:42: error: no such thing' >&2; exit 3;";

/// `larder serve` of this server, and its address.
fn serving(server: &BuildServer) -> (Background, String) {
    server.serve("listen = [\"127.0.0.1:0\"]");
    let mut serving = server.larder(&["serve"]).spawn();
    let line = serving.wait_for_line("listening on 127.0.0.1:");
    let address = line.rsplit_once("listening on ").unwrap().1.trim().to_owned();
    (serving, address)
}

/// What a server answers to a GET: the status line with the headers, and the body.
fn get(address: &str, path: &str) -> (String, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}
