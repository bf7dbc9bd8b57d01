//! A store of 100 000 paths is served like a small one: what a start and an answer cost does not grow.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use larder_formats::{
    narinfo::NarInfo,
    store_path::{StoreDir, StorePath},
};
use larder_testkit::{LargeStore, Nix, NixVersion};

use crate::{
    http,
    support::{Key, Server, parse, signing},
};

const PATHS: usize = 100_000;

/// Questions that are under way at once on one connection.
const AHEAD: usize = 100;

#[test]
fn what_a_start_and_its_first_answer_read_does_not_grow_with_the_store() {
    let [small, large] = [10, PATHS].map(|paths| {
        let store = LargeStore::new(NixVersion::V2_34, paths);
        let mut server = Server::of(store.store());
        let path = store.registered().last().unwrap();
        assert_eq!(server.narinfo(&path).store_path, parse(&path));
        let database = store.store().state_dir().join("db/db.sqlite");
        (read_so_far(server.process().pid()), fs::metadata(database).unwrap().len())
    });
    assert!(large.1 > 40 * 1024 * 1024, "a large database: {} bytes", large.1);
    // Indexes of larger tables are some pages of 4 KiB deeper, and each path that an answer names lies in
    // another one.
    let allowed = small.0 + 64 * 1024;
    assert!(large.0 < allowed, "{} bytes read, {} of a small store", large.0, small.0);
}

#[test]
fn narinfos_of_5_000_paths_over_one_connection_are_those_of_their_paths() {
    let large = LargeStore::new(NixVersion::V2_34, PATHS);
    let key = Key::new(&large.store().work_dir(), "cache-1", 1);
    let server = Server::with(large.store(), &signing(&[&key]));
    let all: Vec<String> = large.registered().collect();
    // From everywhere in the store, and odd ones as well as even ones.
    let places: Vec<usize> = (0..5_000).map(|n| n * 20 + n % 2).collect();
    let asked: Vec<StorePath> = places.iter().map(|place| parse(&all[*place])).collect();
    let trusted = [key.public.parse().unwrap()];
    let mut answers: BTreeMap<usize, NarInfo> = BTreeMap::new();
    narinfos(server.address(), &asked, |n, body| {
        let info = NarInfo::parse(body, &StoreDir::default()).unwrap();
        assert_eq!(info.store_path, asked[n]);
        assert_eq!(info.nar_size, 1000 + 8 * places[n] as u64);
        assert!(info.is_trusted_by(&StoreDir::default(), &trusted), "{body}");
        answers.insert(places[n], info);
    });
    assert_eq!(answers.len(), asked.len());
    let (place, info) = answers.iter().rfind(|(place, _)| *place % 2 == 1).unwrap();
    assert_eq!(info.deriver, Some(parse(&all[place - 1])));
    let references =
        large.store().nix(&["nix-store", "-q", "--references", &all[*place]]).success();
    let references = references.lines().iter().map(|path| parse(path)).collect();
    assert_eq!(info.references, references);
}

#[test]
fn memory_stays_within_64_mib_when_all_narinfos_were_asked_for() {
    let large = LargeStore::new(NixVersion::V2_34, PATHS);
    let mut server = Server::of(large.store());
    let paths: Vec<StorePath> = large.registered().map(|path| parse(&path)).collect();
    let address = server.address().to_owned();
    std::thread::scope(|scope| {
        for part in paths.chunks(PATHS / 8) {
            scope.spawn(|| narinfos(&address, part, |_, body| assert!(body.len() > 200, "{body}")));
        }
    });
    let resident = resident(server.process().pid());
    assert!(resident < 64 * 1024 * 1024, "{} MiB", resident / 1024 / 1024);
}

#[test]
fn nix_fetches_a_path_out_of_a_large_store() {
    let large = LargeStore::new(NixVersion::V2_34, PATHS);
    let key = Key::new(&large.store().work_dir(), "cache-1", 1);
    let server = Server::with(large.store(), &signing(&[&key]));
    let client = crate::support::client(NixVersion::V2_34, &server.url(), &[&key.public]);
    let top = large.whole().last().unwrap();
    let _ = crate::support::realise(&client, top).success();
    assert_eq!(client.closure(top), large.whole());
}

/// Asks for the narinfos of these paths over one connection, a good number ahead, and hands each over with
/// its path's place among them.
fn narinfos(address: &str, paths: &[StorePath], mut got: impl FnMut(usize, &str)) {
    let mut stream = BufReader::new(http::connect(address));
    for (round, some) in paths.chunks(AHEAD).enumerate() {
        let request = |path: &StorePath| {
            format!("GET /{}.narinfo HTTP/1.1\r\nHost: test\r\n\r\n", path.hash())
        };
        let requests: String = some.iter().map(request).collect();
        stream.get_mut().write_all(requests.as_bytes()).unwrap();
        for (n, path) in some.iter().enumerate() {
            let (head, body) = answer(&mut stream);
            assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
            got(round * AHEAD + n, &body);
        }
    }
}

fn answer(stream: &mut BufReader<TcpStream>) -> (String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "hung up after {head:?}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Bytes that a process has read from anything since its start, programs and libraries aside.
fn read_so_far(pid: u32) -> u64 {
    number(&format!("/proc/{pid}/io"), "rchar: ")
}

/// Bytes of memory that a process has asked for and that are its alone: not the pages of its own program, of
/// which a debug build has tens of megabytes.
fn resident(pid: u32) -> u64 {
    number(&format!("/proc/{pid}/status"), "RssAnon:") * 1024
}

fn number(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}
