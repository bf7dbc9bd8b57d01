//! Behind nginx and Caddy, at their roots and below a path: to a client it is as if they were not there.

use std::{
    fs,
    io::{Read, Write},
};

use larder_testkit::{Nix, NixVersion, TestStore, Tree, tree::random_bytes};

use crate::{
    front::{Front, KINDS, Kind, PLACES, Place, Upstream},
    http,
    proxy::{Fault, Proxy},
    support::{Key, Server, client, nix_dump, parse, signing, with_every_client},
};

const MIB: u64 = 1024 * 1024;

with_every_client!(
    at_the_root_of_a_proxy_closures_are_substituted,
    below_a_path_that_the_proxy_takes_away_closures_are_substituted,
    below_a_path_that_is_passed_on_closures_are_substituted,
    a_download_cut_behind_the_proxy_is_resumed_through_it,
);

fn at_the_root_of_a_proxy_closures_are_substituted(version: NixVersion) {
    closures_are_substituted(version, Place::Root);
}

fn below_a_path_that_the_proxy_takes_away_closures_are_substituted(version: NixVersion) {
    closures_are_substituted(version, Place::Stripped);
}

fn below_a_path_that_is_passed_on_closures_are_substituted(version: NixVersion) {
    closures_are_substituted(version, Place::PassedOn);
}

/// A server with a store of its own, on TCP and a unix socket.
struct World {
    store: TestStore,
    key: Key,
    server: Server,
    upstreams: [Upstream; 2],
}

impl World {
    fn new(store: TestStore, settings: &str) -> Self {
        let key = Key::new(&store.work_dir(), "cache-1", 1);
        let socket = store.work_dir().join("larder.sock");
        let lines = format!(
            "listen = [\"127.0.0.1:0\", \"unix:{}\"]\n{settings}{}",
            socket.display(),
            signing(&[&key])
        );
        let mut server = Server::with(&store, &lines);
        server.process().wait_for_line("listening on unix:");
        let upstreams = [Upstream::Tcp(server.address().to_owned()), Upstream::Unix(socket)];
        Self { store, key, server, upstreams }
    }
}

fn closures_are_substituted(version: NixVersion, place: Place) {
    let store = TestStore::new(NixVersion::V2_34);
    let chain = store.add_closure("chain", 3, 50_000);
    let odd = store.add_tree_referring("odd", &Tree::odd(), &chain[2..]);
    let world = World::new(store, place.setting());
    for kind in KINDS {
        for upstream in &world.upstreams {
            let front = Front::new(kind, place, upstream);
            let client = client(version, front.address(), &[&world.key.public]);
            let program = match upstream {
                Upstream::Tcp(_) => client.program("nix-store").args(["--realise", &odd]),
                Upstream::Unix(_) => {
                    client.program("nix").args(["copy", "--from", front.address(), &odd])
                }
            };
            let _ = program.env("NIX_SSL_CERT_FILE", front.authority()).run().success();
            assert_eq!(client.closure(&odd), world.store.closure(&odd), "{kind:?} {upstream:?}");
            assert!(nix_dump(&client, &odd) == nix_dump(&world.store, &odd));
            let _ = client.nix(&["nix-store", "--verify", "--check-contents"]).success();
        }
    }
}

fn a_download_cut_behind_the_proxy_is_resumed_through_it(version: NixVersion) {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = (0..8)
        .fold(Tree::new(), |tree, n| tree.file(format!("f{n}"), random_bytes(n, MIB as usize)));
    let path = store.add_tree("large", &tree);
    let world = World::new(store, "");
    for kind in KINDS {
        let line = Proxy::new(world.server.address(), Fault::Cut(5 * MIB));
        let upstream = Upstream::Tcp(line.url().trim_start_matches("http://").to_owned());
        let front = Front::new(kind, Place::Stripped, &upstream);
        let client = client(version, front.address(), &[&world.key.public]);
        let fetch = client.program("nix-store").args(["--realise", &path]);
        let _ = fetch.env("NIX_SSL_CERT_FILE", front.authority()).run().success();
        line.wait();
        assert!(nix_dump(&client, &path) == nix_dump(&world.store, &path));
        let asked = line.asked();
        let ranges = asked.iter().filter(|line| line.to_lowercase().starts_with("range:")).count();
        assert_eq!(ranges, 1, "{kind:?}: {asked:?}");
        assert!(line.bytes_down() < 11 * MIB, "{kind:?}: {}", line.bytes_down());
    }
}

#[test]
fn pages_redirects_and_listings_show_the_address_outside() {
    for place in PLACES {
        let store = TestStore::new(NixVersion::V2_34);
        let path = store.add_source("odd", &Tree::odd());
        let world = World::new(store, place.setting());
        for kind in KINDS {
            for upstream in &world.upstreams {
                let front = Front::new(kind, place, upstream);
                pages_are_as_outside(&front, &path, &format!("{kind:?} {place:?} {upstream:?}"));
            }
            let front = Front::plain(kind, place, &world.upstreams[0]);
            let page = front.curl(&[], "/").stdout;
            let line = format!("extra-substituters = {}\n", front.address());
            assert!(front.address().starts_with("http://") && page.contains(&line), "{page}");
        }
    }
}

fn pages_are_as_outside(front: &Front, path: &str, what: &str) {
    let outside = front.address();
    let page = front.curl(&[], "/").stdout;
    assert!(page.contains(&format!("extra-substituters = {outside}\n")), "{what}: {page}");
    if outside.ends_with("/cache") {
        let slash = front.told(&[], "", "%{http_code} %{redirect_url}");
        let end = format!(" {outside}/");
        assert!(slash.starts_with('3') && slash.ends_with(&end), "{what}: {slash}");
    }
    let hash = parse(path).hash().to_string();
    let folder = format!("/serve/{hash}/names");
    let slash = front.told(&[], &folder, "%{http_code} %{redirect_url}");
    assert_eq!(slash, format!("307 {outside}{folder}/"), "{what}");
    let listing = front.curl(&["--location"], &folder).stdout;
    let links: Vec<&str> =
        listing.split("href=\"./").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links.len(), 10, "{what}: {listing}");
    // One curl for all: what it says of each is a line.
    let mut options = vec!["--path-as-is".to_owned()];
    for link in &links {
        options.extend(
            ["--output", "/dev/null", "--write-out", "%{http_code} %{size_download}\n"]
                .map(String::from),
        );
        options.push(format!("{outside}{folder}/{link}"));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let said = front.curl(&options, "/nix-cache-info").stdout;
    let good = said.lines().filter(|line| ["200 1", "200 2"].contains(line)).count();
    assert_eq!(good, links.len(), "{what}: {links:?} {said}");
}

#[test]
fn heads_ranges_and_misses_are_what_they_are_without_a_proxy() {
    for place in PLACES {
        let store = TestStore::new(NixVersion::V2_34);
        let path = store.add_tree("nar", &Tree::new().file("f", random_bytes(1, 300_000)));
        let world = World::new(store, place.setting());
        let nar = nix_dump(&world.store, &path);
        for kind in KINDS {
            let front = Front::new(kind, place, &world.upstreams[0]);
            let narinfo = front.curl(&[], &format!("/{}.narinfo", parse(&path).hash())).stdout;
            let url = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
            let target = format!("/{url}");
            assert!(front.curl(&[], &target).stdout_bytes == nar);
            let part = front.curl(&["--range", "1000-200999"], &target).stdout_bytes;
            assert!(part == nar[1000..201_000], "{kind:?} {place:?}");
            let asked = ["--range", "400000-"];
            assert_eq!(front.told(&asked, &target, "%{http_code}"), "416");
            let length = format!("200 {}", nar.len());
            let head = front.told(&["--head"], &target, "%{http_code} %header{content-length}");
            let head = head.replace("%header{content-length}", &nar.len().to_string());
            assert_eq!(head, length, "{kind:?} {place:?}");
            let none = format!("/{}.narinfo", "0".repeat(32));
            for absent in
                [none.as_str(), "/nothing/here", "/serve/", "/nar/x.nar", "/cache/nix-cache-info"]
            {
                assert_eq!(
                    front.told(&[], absent, "%{http_code}"),
                    "404",
                    "{kind:?} {place:?} {absent}"
                );
            }
        }
    }
}

#[test]
fn below_a_base_path_there_is_everything_and_beside_it_nothing() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("source", &Tree::new().file("dir/f", b"f".as_slice()));
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &format!("base-path = \"/a/cache/\"\n{}", signing(&[&key])));
    let get = |target: &str| http::get(server.address(), target);
    let hash = parse(&path).hash();
    for target in
        ["/", "/nix-cache-info", "/health", "/version", "/fleet", &format!("/{hash}.narinfo")]
    {
        assert_eq!(get(&format!("/a/cache{target}")).status, 200, "{target}");
        let beside = get(target);
        assert_eq!((beside.status, beside.text().as_str()), (404, "not found\n"), "{target}");
    }
    for beside in [
        "/a",
        "/a/",
        "/a/cachex",
        "/a/cache/a/cache/health",
        "/a/cache//health",
        "//a/cache/health",
    ] {
        assert_eq!(get(beside).status, 404, "{beside}");
    }
    let page = get("/a/cache/").text();
    assert!(page.contains("extra-substituters = http://test/a/cache\n"), "{page}");
    let slash = get("/a/cache");
    assert_eq!((slash.status, slash.header("location")), (307, Some("./cache/")));
    assert_eq!(get(&format!("/a/cache/serve/{hash}/dir/f")).text(), "f");
    assert_eq!(http::request(server.address(), "POST", "/a/cache/health", &[]).status, 405);
}

#[test]
fn a_large_nar_streams_through_and_is_kept_nowhere() {
    const SIZE: u64 = 192 * MIB;
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("large", &Tree::new().file("f", vec![7; SIZE as usize]));
    let mut world = World::new(store, "");
    let target = world.server.nar_target(&path);
    for kind in KINDS {
        let line = Proxy::new(world.server.address(), Fault::Hold(2 * MIB));
        let upstream = Upstream::Tcp(line.url().trim_start_matches("http://").to_owned());
        let front = Front::plain(kind, Place::Root, &upstream);
        let ask = || {
            let mut stream = http::connect(&front.socket());
            let host = front.socket().replace("127.0.0.1", "localhost");
            let request =
                format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        };
        let mut first = ask();
        // This much arrives while the rest is held back.
        let mut begun = vec![0; MIB as usize];
        first.read_exact(&mut begun).unwrap();
        assert!(begun.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begun[..100]));
        line.release();
        // Whoever would fetch the rest for a reader that has stopped has the time of another's whole NAR.
        let second = std::io::copy(&mut ask(), &mut std::io::sink()).unwrap();
        let fetched = line.bytes_down();
        assert!(second > SIZE && fetched < SIZE + SIZE / 2, "{kind:?}: {} MiB", fetched / MIB);
        let rest = std::io::copy(&mut first, &mut std::io::sink()).unwrap();
        assert!(rest + MIB > SIZE, "{kind:?}: {rest}");
        for pid in [front.pid(), world.server.process().pid()] {
            let peak = peak_memory(pid);
            assert!(peak > 0 && peak < SIZE / 2, "{kind:?}: {} MiB", peak / MIB);
        }
    }
}

/// The most that a process has held in memory, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_proxy_passes_no_ones_own_words_on() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let world = World::new(store, "");
    let words = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Prefix: /evil",
        "Forwarded: for=192.0.2.1;host=evil.example;proto=http",
    ];
    let options: Vec<&str> = words.iter().flat_map(|word| ["--header", word]).collect();
    for kind in [Kind::Nginx, Kind::Caddy] {
        let front = Front::new(kind, Place::Root, &world.upstreams[1]);
        let page = front.curl(&options, "/").stdout;
        let line = format!("extra-substituters = {}\n", front.address());
        assert!(page.contains(&line) && !page.contains("evil"), "{kind:?}: {page}");
    }
}
