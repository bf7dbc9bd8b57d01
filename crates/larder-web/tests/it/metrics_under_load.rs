//! `/metrics` while readers are slow, leave, or come by the thousand.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use larder_testkit::{NixVersion, TestStore, Tree};

use crate::{
    exposition::{BYTES, CONNECTIONS, CUT_SHORT, Page, REQUESTS, SECONDS, UNDER_WAY},
    http::{self, Answer},
    support::{Server, parse},
};

/// Bytes per chunk of a NAR.
const CHUNK: u64 = 256 * 1024;

/// Begins to read an answer; returns the connection and the bytes of the body that came.
fn begin(address: &str, target: &str) -> (TcpStream, u64) {
    let mut stream = http::connect(address);
    stream.write_all(&http::message("GET", target, &[])).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "no head: {received:?}");
        received.extend_from_slice(&buffer[..n]);
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            return (stream, (received.len() - end - 4) as u64);
        }
    }
}

/// Asks until the page is as it should become.
fn eventually(address: &str, becomes: impl Fn(&Page) -> bool) -> Page {
    for _ in 0..2000 {
        let page = Page::of(address);
        if becomes(&page) {
            return page;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:#?}", Page::of(address));
}

/// Whether nobody reads any more, and so many left early. Figures are not read all at once.
fn left(page: &Page, readers: usize) -> bool {
    page.sum(UNDER_WAY, &[]) == 0.0 && page.sum(CUT_SHORT, &[]) == readers as f64
}

/// What the kernel may hold of one connection on its way, in bytes: both ends' largest buffers.
fn buffered_at_most() -> u64 {
    let largest = |file: &str| -> u64 {
        let limits = fs::read_to_string(format!("/proc/sys/net/ipv4/{file}")).unwrap();
        limits.split_whitespace().last().unwrap().parse().unwrap()
    };
    largest("tcp_wmem") + largest("tcp_rmem")
}

#[test]
fn a_reader_that_leaves_is_counted_as_cut_short_with_the_bytes_it_could_have() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("large", &Tree::new().file("f", vec![7; 60_000_000]));
    let server = Server::of(&store);
    let target = format!("/nar/{}.nar", parse(&path).hash());
    let (mut stream, mut received) = begin(server.address(), &target);
    let mut buffer = vec![0; 1_000_000];
    stream.read_exact(&mut buffer).unwrap();
    received += buffer.len() as u64;
    let under_way = Page::of(server.address());
    assert_eq!(under_way.sum(UNDER_WAY, &[("endpoint", "nar")]), 1.0);
    assert_eq!(under_way.sum(CUT_SHORT, &[]), 0.0);
    drop(stream);
    let page = eventually(server.address(), |page| left(page, 1));
    assert_eq!(page.by(CUT_SHORT, ["endpoint"]), BTreeMap::from([(["nar".to_owned()], 1.0)]));
    let sent = page.sum(BYTES, &[("endpoint", "nar")]);
    let most = received + CHUNK + buffered_at_most();
    assert!(sent >= received as f64 && sent <= most as f64, "{received} {sent} {most}");
    assert!(sent < 60_000_000.0, "so that it was cut short indeed");
}

#[test]
fn slow_readers_are_under_way_until_they_leave_and_connections_until_they_close() {
    const READERS: usize = 8;
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("large", &Tree::new().file("f", vec![7; 20_000_000]));
    let server = Server::of(&store);
    let target = format!("/nar/{}.nar", parse(&path).hash());
    let reading: Vec<_> = (0..READERS).map(|_| begin(server.address(), &target)).collect();
    let silent = http::connect(server.address());
    // Its own connection is open while the page is made.
    let all = (READERS + 2) as f64;
    let under_way = BTreeMap::from([(["nar".to_owned()], READERS as f64)]);
    let _ = eventually(server.address(), |page| {
        page.sum(CONNECTIONS, &[]) == all && page.by(UNDER_WAY, ["endpoint"]) == under_way
    });
    drop((reading, silent));
    let _ = eventually(server.address(), |page| {
        page.sum(CONNECTIONS, &[]) == 1.0 && left(page, READERS)
    });
}

/// A store with next to nothing in it.
pub(crate) fn small_store() -> TestStore {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    store
}

/// A line of `/proc/PID/status`, in bytes.
fn status(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

#[test]
fn the_process_is_told_as_the_kernel_sees_it() {
    let store = small_store();
    let mut server = Server::of(&store);
    let pid = server.process().pid();
    let page = Page::of(server.address());
    let (told, seen) = (page.sum("process_resident_memory_bytes", &[]), status(pid, "VmRSS:"));
    assert!(told > seen / 2.0 && told < seen * 2.0, "{told} {seen}");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as f64;
    let told = page.sum("process_open_fds", &[]);
    assert!((told - open).abs() <= 3.0, "{told} {open}");
    for name in ["process_cpu_seconds_total", "process_start_time_seconds", "process_threads"] {
        assert!(page.families().contains_key(name), "{name}");
    }
    assert_eq!(page.by("larder_build_info", ["version"]).len(), 1);
}

/// Sends requests one behind the other over some connections, many at a time.
fn many(address: &str, requests: usize) {
    const CONNECTIONS: usize = 2;
    const AT_ONCE: usize = 100;
    let batch = "GET /version HTTP/1.1\r\nHost: test\r\n\r\n".repeat(AT_ONCE);
    let ask = || {
        let mut stream = http::connect(address);
        let mut buffer = [0; 16 * 1024];
        for _ in 0..requests / CONNECTIONS / AT_ONCE {
            stream.write_all(batch.as_bytes()).unwrap();
            // The last byte of each body is the only one of its kind.
            let mut ends = 0;
            while ends < AT_ONCE {
                let n = stream.read(&mut buffer).unwrap();
                assert!(n > 0);
                ends += buffer[..n].iter().filter(|byte| **byte == b'}').count();
            }
        }
    };
    std::thread::scope(|scope| (0..CONNECTIONS).for_each(|_| drop(scope.spawn(ask))));
}

#[test]
fn requests_that_nobody_scrapes_do_not_stay_in_memory() {
    const ROUND: usize = 20_000;
    // As many rounds as leave 6 MB if they are not summed up: a duration and its moment, three words,
    // each. An allocator that takes some megabytes at a time cannot hide that.
    const WINDOW: usize = 12;
    let store = small_store();
    let mut server = Server::of(&store);
    let pid = server.process().pid();
    let mut sizes = vec![status(pid, "VmRSS:")];
    // How many requests come before the first summing-up depends on the machine.
    let calm = |sizes: &[f64]| {
        sizes.len() > WINDOW && sizes[sizes.len() - 1] - sizes[sizes.len() - 1 - WINDOW] < 1e6
    };
    while !calm(&sizes) {
        assert!(sizes.len() < 200, "still growing: {sizes:?}");
        many(server.address(), ROUND);
        sizes.push(status(pid, "VmRSS:"));
    }
    let page = Page::of(server.address());
    let asked = (sizes.len() - 1) * ROUND;
    assert_eq!(page.sum(SECONDS, &[("endpoint", "version")]), asked as f64);
}

#[test]
fn odd_requests_make_no_series_of_their_own() {
    let store = small_store();
    let server = Server::of(&store);
    let _ = Page::of(server.address());
    let before = Page::of(server.address());
    let mut counted = 0.0;
    for n in 0..250 {
        for (method, target) in [
            ("GET", format!("/odd-{n}/x")),
            ("GET", format!("/nar/{n}%22%0a\"}}")),
            (&format!("M{n}") as &str, "/health".to_owned()),
            ("GET", format!("http://host-{n}:{n}/{n}.narinfo?{n}")),
        ] {
            let bytes = http::ask(server.address(), &http::message(method, &target, &[]));
            let status = Answer::parse(&bytes, false).unwrap().status;
            assert!([400, 404, 405].contains(&status), "{method} {target}: {status}");
            counted += 1.0;
        }
    }
    let after = Page::of(server.address());
    let requests = |page: &Page| page.sum(REQUESTS, &[]);
    assert_eq!(requests(&after) - requests(&before), counted + 1.0, "and the page before");
    assert!(after.series() < before.series() + 20, "{} {}", before.series(), after.series());
    // Neither path nor authority: nothing that is asked here is ours.
    for odd in [
        "CONNECT somewhere:443 HTTP/1.1\r\nHost: test\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        let mut stream = http::connect(server.address());
        stream.write_all(odd.as_bytes()).unwrap();
        assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
    }
    assert_eq!(Page::of(server.address()).sum(REQUESTS, &[("endpoint", "landing")]), 0.0);
}
