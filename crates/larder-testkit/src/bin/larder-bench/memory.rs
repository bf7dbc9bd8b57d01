//! Memory of the server while many readers are slow.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::site::Site;

const READERS: usize = 64;

/// Resident memory of the server in MiB while as many readers have each begun a NAR and stopped.
pub(crate) fn with_slow_readers(site: &Site) -> f64 {
    let address = site.larder.trim_start_matches("http://");
    let mut readers: Vec<TcpStream> = (0..READERS)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("the server answers");
            let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", site.large);
            stream.write_all(request.as_bytes()).expect("the server listens");
            stream
        })
        .collect();
    // Every reader takes a little, so that every answer is under way and its buffers are full.
    for stream in &mut readers {
        let mut some = vec![0; 512 * 1024];
        stream.read_exact(&mut some).expect("the server sends");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.server.pid()))
        .expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a VmRSS line");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}
