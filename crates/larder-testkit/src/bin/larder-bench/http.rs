//! A client of one connection, for what wrk does not measure: answers that are read in part, and the time
//! a single one takes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// A connection that is kept.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// To `http://HOST:PORT`.
    pub(crate) fn open(base: &str) -> Self {
        let address = base.trim_start_matches("http://");
        let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{base}: {e}"));
        stream.set_nodelay(true).expect("a socket can be told not to wait");
        Self { stream: BufReader::new(stream) }
    }

    /// Asks for a path and reads the answer's head; its body's length is returned, and the body is next.
    pub(crate) fn begin(&mut self, path: &str) -> u64 {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).expect("the server listens");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.stream.read_line(&mut head).expect("the server answers");
            assert!(read > 0, "{path}: the server hung up after {head:?}");
        }
        body_length(&head).unwrap_or_else(|| panic!("{path}: not a success: {head}"))
    }

    /// The body that comes next, or as much of it as fits.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) {
        self.stream.read_exact(buffer).expect("the server sends what it announced");
    }

    /// A whole body.
    pub(crate) fn get(&mut self, path: &str) -> Vec<u8> {
        let length = self.begin(path);
        let mut body = vec![0; usize::try_from(length).expect("it fits into memory")];
        self.read(&mut body);
        body
    }
}

/// How long the body of a successful answer is, when its head says so.
fn body_length(head: &str) -> Option<u64> {
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
    let fields = lines.filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next()?;
    if status.starts_with("200") { length.trim().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_tells_how_long_its_body_is_however_the_header_is_spelt() {
        assert_eq!(body_length("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"), Some(12));
        assert_eq!(body_length("HTTP/1.1 200 OK\r\netag: x\r\ncontent-length:7\r\n\r\n"), Some(7));
    }

    #[test]
    fn what_is_no_success_or_tells_no_length_is_not_measured() {
        assert_eq!(body_length("HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n"), None);
        assert_eq!(body_length("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), None);
        assert_eq!(body_length("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), None);
        assert_eq!(body_length(""), None);
    }
}
