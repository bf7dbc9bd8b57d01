//! What was fetched is kept, fetched once for all, and no more than it may be.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use larder_testkit::{Nix, NixVersion, Tree, nginx::Nginx, tree::random_bytes};

use larder_formats::hash::Sha256;

use super::{Asked, KEEPING, Origin, Proxy, files};
use crate::{
    http,
    memory::{READERS, own_memory, slowly},
    support::{client, nix_dump, realise},
};

fn nars(nginx: &Nginx) -> usize {
    nginx.access_log().iter().filter(|line| line.contains("GET /nar/")).count()
}

#[test]
fn four_clients_at_once_make_one_fetch() {
    let (origin, top) = Origin::new("origin", 1).with_closure("zstd");
    let nginx = origin.served();
    let asked = [Asked::at("origin", nginx.url(), &origin.key)];
    let proxy = Proxy::of(&asked, KEEPING);
    let clients = [NixVersion::V2_34, NixVersion::V2_26, NixVersion::V2_8, NixVersion::V2_34];
    thread::scope(|scope| {
        for version in clients {
            let (proxy, origin, top) = (&proxy, &origin, &top);
            scope.spawn(move || {
                let reader = client(version, &proxy.url(), &[&origin.key.public]);
                let _ = realise(&reader, top).success();
                assert!(nix_dump(&reader, top) == nix_dump(&origin.store, top));
            });
        }
    });
    assert_eq!(nars(&nginx), origin.store.closure(&top).len());
}

#[test]
fn an_address_outlives_a_restart_and_the_upstream_that_had_it() {
    let (first, second) = (Origin::new("first", 1), Origin::new("second", 2));
    let path = first.store.add_tree("path", &Tree::new().file("x", random_bytes(1, 100_000)));
    first.publish(&first.store, &path, "xz");
    second.publish(&first.store, &path, "zstd");
    let nginx = (first.served(), second.served());
    let upstreams = [
        Asked::at("first", nginx.0.url(), &first.key),
        Asked::at("second", nginx.1.url(), &second.key),
    ];
    let mut proxy = Proxy::of(&upstreams, "");
    let url = proxy.nar(&path);
    drop(nginx.0);
    proxy.restart();
    let nar = http::get(&proxy.address, &url);
    assert!(nar.complete && nar.body == nix_dump(&first.store, &path), "{}", nar.status);
}

#[test]
fn a_fetch_goes_on_where_one_upstream_broke_off() {
    let origin = Origin::new("origin", 1);
    let tree = Tree::new().file("x", random_bytes(1, 30 << 20));
    let path = origin.store.add_tree("path", &tree);
    origin.publish(&origin.store, &path, "none");
    let nginx = (origin.served(), origin.served());
    let line = larder_testkit::BadLine::to(&format!("127.0.0.1:{}", nginx.0.port()));
    line.obey(|_| larder_testkit::Fault::CutAnswer(20 << 20));
    let upstreams = [
        Asked::at("first", format!("http://{}", line.address()), &origin.key),
        Asked::at("second", nginx.1.url(), &origin.key),
    ];
    let proxy = Proxy::of(&upstreams, KEEPING);
    let nar = http::get(&proxy.address, &proxy.nar(&path));
    assert!(nar.complete && nar.body == nix_dump(&origin.store, &path));
    let second = proxy.status()["upstreams"][1]["addresses"][0]["bytes"].as_u64().unwrap();
    assert!((9 << 20..12 << 20).contains(&second), "the rest: {second}");
}

#[test]
fn what_was_damaged_is_fetched_again() {
    let origin = Origin::new("origin", 1);
    let path = origin.store.add_tree("path", &Tree::new().file("x", random_bytes(1, 100_000)));
    origin.publish(&origin.store, &path, "xz");
    let nginx = origin.served();
    let asked = [Asked::at("origin", nginx.url(), &origin.key)];
    let proxy = Proxy::of(&asked, KEEPING);
    let url = proxy.nar(&path);
    assert!(http::get(&proxy.address, &url).complete);
    damage(&proxy.wait_for_kept(1)[0]);
    let nar = http::get(&proxy.address, &url);
    assert!(nar.complete && nar.body == nix_dump(&origin.store, &path));
    assert_eq!(nars(&nginx), 2);
}

#[test]
fn what_was_damaged_goes_when_another_file_takes_its_place() {
    let (first, second) = (Origin::new("first", 1), Origin::new("second", 2));
    let path = first.store.add_tree("path", &Tree::new().file("x", random_bytes(1, 100_000)));
    first.publish(&first.store, &path, "xz");
    second.publish(&first.store, &path, "bzip2");
    let nginx = (first.served(), second.served());
    let upstreams = [
        Asked::at("first", nginx.0.url(), &first.key),
        Asked::at("second", nginx.1.url(), &second.key),
    ];
    let proxy = Proxy::of(&upstreams, KEEPING);
    let url = proxy.nar(&path);
    assert!(http::get(&proxy.address, &url).complete);
    let damaged = proxy.wait_for_kept(1).remove(0);
    damage(&damaged);
    drop(nginx.0);
    assert!(http::get(&proxy.address, &url).complete);
    let now = proxy.wait_for_kept(1).remove(0);
    assert!(now != damaged, "{}", now.display());
}

/// Changes a byte in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn what_nobody_waits_for_is_given_up_unless_it_is_nearly_there() {
    let origin = Origin::new("origin", 1);
    let tree = Tree::new().file("x", random_bytes(1, 64 << 20));
    let path = origin.store.add_tree("path", &tree);
    origin.publish(&origin.store, &path, "none");
    // Eight megabytes a second.
    let nginx = Nginx::with_server_lines(&format!(
        "root {}; limit_rate 8m; sendfile_max_chunk 256k;",
        origin.root().display()
    ));
    let asked = [Asked::at("origin", nginx.url(), &origin.key)];
    let proxy = Proxy::of(&asked, KEEPING);
    let url = proxy.nar(&path);
    let leave_after = |bytes: u64| {
        let mut stream = TcpStream::connect(&proxy.address).unwrap();
        write!(stream, "GET {url} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut some = vec![0; usize::try_from(bytes).unwrap()];
        stream.read_exact(&mut some).unwrap();
    };
    leave_after(9 << 20);
    thread::sleep(Duration::from_secs(3));
    let came = || proxy.status()["upstreams"][0]["addresses"][0]["bytes"].as_u64().unwrap();
    let so_far = came();
    assert!(so_far < 40 << 20, "{so_far}");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(came(), so_far, "it was given up");
    leave_after(52 << 20);
    let _ = proxy.wait_for_kept(1);
}

#[test]
fn sixty_four_slow_readers_of_large_nars_take_little_memory() {
    const LIMIT: u64 = 128 << 20;
    let origin = Origin::new("origin", 1);
    let paths: Vec<String> = (0..4)
        .map(|number| {
            let tree = Tree::new().file("x", random_bytes(number, 10 << 20));
            let path = origin.store.add_tree(&format!("large-{number}"), &tree);
            origin.publish(&origin.store, &path, "zstd");
            path
        })
        .collect();
    let nginx = origin.served();
    let asked = [Asked::at("origin", nginx.url(), &origin.key)];
    let proxy = Proxy::of(&asked, KEEPING);
    let targets: Vec<_> = paths.iter().map(|path| proxy.nar(path)).collect();
    let (all_under_way, pid) = (Barrier::new(READERS), proxy.process.pid());
    let peak = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let (target, barrier) = (&targets[number % targets.len()], &all_under_way);
                scope.spawn(|| slowly(&proxy.address, target, barrier))
            })
            .collect();
        let mut peak = 0;
        while !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
            peak = peak.max(own_memory(pid));
            thread::sleep(Duration::from_millis(5));
        }
        for (number, reader) in readers.into_iter().enumerate() {
            let nar = nix_dump(&origin.store, &paths[number % paths.len()]);
            assert_eq!(reader.join().unwrap(), Sha256::of(&nar));
        }
        peak
    });
    assert!(peak > 0 && peak < LIMIT, "{} MiB", peak >> 20);
    assert_eq!(nars(&nginx), paths.len());
}

#[test]
fn no_more_is_kept_than_may_be() {
    let origin = Origin::new("origin", 1);
    let paths: Vec<_> = (0..6)
        .map(|number| {
            let tree = Tree::new().file("x", random_bytes(number, 1 << 20));
            let path = origin.store.add_tree(&format!("path-{number}"), &tree);
            origin.publish(&origin.store, &path, "zstd");
            path
        })
        .collect();
    let nginx = origin.served();
    let asked = [Asked::at("origin", nginx.url(), &origin.key)];
    let proxy = Proxy::of(&asked, "keep-size = \"3MB\"");
    for path in &paths {
        assert!(http::get(&proxy.address, &proxy.nar(path)).complete);
    }
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let nars = files(&proxy.kept().join("nar"));
        let size: u64 = nars.iter().map(|file| fs::metadata(file).map_or(0, |it| it.len())).sum();
        if size <= 3_000_000 && size > 0 {
            break;
        }
        assert!(Instant::now() < end, "{size} bytes are kept");
        thread::sleep(Duration::from_millis(200));
    }
    // What was dropped is had again.
    for path in &paths {
        assert!(http::get(&proxy.address, &proxy.nar(path)).complete);
    }
}
