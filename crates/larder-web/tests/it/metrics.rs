//! `/metrics` tells what was done: each test does something, counts it itself, and compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::{Duration, Instant},
};

use larder_fleet::{
    ledger::{Ledger, Outcome},
    night::ledger_file,
};
use larder_testkit::{
    Nix, NixVersion, Program, TestStore, Tree, nix::workspace_root, scratch::scratch,
    tree::random_bytes,
};
use rustix::process::Signal;

use crate::{
    exposition::{BYTES, CUT_SHORT, LOOKUPS, Page, REMEMBERED, REQUESTS, SECONDS, UNDER_WAY},
    http::{self, Answer},
    metrics_under_load::small_store,
    secure::Secure,
    support::{Server, parse},
    uploads::cache,
};

/// What the test has asked of a server, and what came.
struct Tally {
    server: Server,
    requests: BTreeMap<[String; 2], f64>,
    bytes: BTreeMap<[String; 1], f64>,
    asked: BTreeMap<[String; 1], f64>,
    lookups: BTreeMap<[String; 2], f64>,
}

impl Tally {
    fn of(server: Server) -> Self {
        let (requests, lookups) = (BTreeMap::new(), BTreeMap::new());
        Self { server, requests, bytes: BTreeMap::new(), asked: BTreeMap::new(), lookups }
    }

    fn ask(
        &mut self,
        endpoint: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let answer = http::request(self.server.address(), method, target, headers);
        assert!(answer.complete, "{method} {target}");
        self.add(endpoint, answer.status, answer.body.len());
        answer
    }

    fn get(&mut self, endpoint: &str, status: u16, target: &str) -> Answer {
        let answer = self.ask(endpoint, "GET", target, &[]);
        assert_eq!(answer.status, status, "{target}");
        answer
    }

    fn add(&mut self, endpoint: &str, status: u16, bytes: usize) {
        *self.requests.entry([endpoint.to_owned(), status.to_string()]).or_default() += 1.0;
        *self.asked.entry([endpoint.to_owned()]).or_default() += 1.0;
        if bytes > 0 {
            *self.bytes.entry([endpoint.to_owned()]).or_default() += bytes as f64;
        }
    }

    fn looked(&mut self, questions: &[(&str, &str)]) {
        for (question, outcome) in questions {
            *self.lookups.entry([(*question).to_owned(), (*outcome).to_owned()]).or_default() +=
                1.0;
        }
    }

    /// The page below this path, which must tell exactly what was asked before it.
    fn compare(&mut self, base: &str) -> Page {
        let (page, bytes) = Page::at(self.server.address(), &format!("{base}/metrics"));
        assert_eq!(page.by(REQUESTS, ["endpoint", "status"]), self.requests);
        assert_eq!(page.by(BYTES, ["endpoint"]), self.bytes);
        assert_eq!(page.by(SECONDS, ["endpoint"]), self.asked);
        assert_eq!(page.by(LOOKUPS, ["question", "outcome"]), self.lookups);
        self.add("metrics", 200, usize::try_from(bytes).unwrap());
        page
    }

    /// Asks for the page until it is as it should become: what follows an answer may come just after its end.
    fn settle(&mut self, becomes: impl Fn(&Page) -> bool) {
        for _ in 0..2000 {
            let (page, bytes) = Page::at(self.server.address(), "/metrics");
            self.add("metrics", 200, usize::try_from(bytes).unwrap());
            if becomes(&page) && page.sum(UNDER_WAY, &[]) == 0.0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{:#?}", Page::of(self.server.address()));
    }
}

/// Builds something with a log; returns its output.
fn talkative(store: &TestStore) -> String {
    let tools = store.work_dir().join("../tools").canonicalize().unwrap();
    let expression = format!(
        "derivation {{ name = \"talk\"; system = \"{}\"; builder = \"${{{}}}/busybox\"; \
         args = [ \"sh\" \"-c\" \"echo said; echo done > $out\" ]; }}",
        larder_testkit::nix::system(),
        tools.display()
    );
    store.build_expr(&expression).pop().unwrap()
}

const FOUND: (&str, &str) = ("narinfo", "found");
const ABSENT: (&str, &str) = ("narinfo", "absent");
const NAR: (&str, &str) = ("nar", "found");
const FILE: (&str, &str) = ("file", "found");
const NOWHERE: &str = "00000000000000000000000000000001";

#[test]
fn requests_bytes_durations_and_lookups_are_those_that_were() {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = Tree::new()
        .file("large", random_bytes(1, 700_000))
        .file("zeros", vec![0; 900_000])
        .file("empty", b"".as_slice());
    let path = store.add_source("counted", &tree);
    let output = talkative(&store);
    let hash = parse(&path).hash().to_string();
    let mut tally = Tally::of(Server::with(&store, "compress-nars = true"));
    let nar = ask_narinfos(&mut tally, &hash);
    ask_nars(&mut tally, &nar);
    ask_files(&mut tally, &hash);
    let deriver = store.nix(&["nix-store", "-q", "--deriver", &output]).success();
    let said = tally.get("log", 200, &format!("/log/{}", parse(deriver.text())));
    assert_eq!(said.text(), "said\n");
    tally.looked(&[("log", "found")]);
    tally.get("log", 200, &format!("/log/{}", parse(&output).hash()));
    tally.looked(&[("derivations", "found"), ("log", "found")]);
    tally.get("realisation", 404, &format!("/realisations/sha256:{}!out.doi", "0".repeat(64)));
    tally.looked(&[("realisation", "absent")]);
    tally.get("health", 200, "/health");
    tally.looked(&[ABSENT]);

    for (endpoint, target) in [
        ("landing", "/"),
        ("cache-info", "/nix-cache-info"),
        ("fleet", "/fleet"),
        ("version", "/version"),
    ] {
        tally.get(endpoint, 200, target);
    }
    ask_what_is_refused(&mut tally);
    tally.settle(|page| {
        ["400", "431"].iter().all(|status| page.sum(REQUESTS, &[("status", status)]) == 1.0)
    });
    let page = tally.compare("");
    assert_eq!(page.sum(REMEMBERED, &[]), 3.0);
    assert_eq!(
        page.by(CUT_SHORT, ["endpoint"]),
        BTreeMap::new(),
        "every answer was read to its end"
    );
}

/// Asks for narinfos and a listing; three of them are remembered. Returns the NAR's address.
fn ask_narinfos(tally: &mut Tally, hash: &str) -> String {
    let narinfo = format!("/{hash}.narinfo");
    let text = tally.get("narinfo", 200, &narinfo).text();
    tally.looked(&[FOUND]);
    tally.get("narinfo", 200, &narinfo);
    assert_eq!(tally.ask("narinfo", "HEAD", &narinfo, &[]).status, 200);
    for _ in 0..2 {
        tally.get("narinfo", 404, &format!("/{NOWHERE}.narinfo"));
    }
    tally.looked(&[ABSENT]);
    tally.get("narinfo", 200, &format!("{narinfo}?json"));
    tally.get("listing", 200, &format!("/{hash}.ls"));
    tally.looked(&[FOUND, ("listing", "found")]);
    format!("/{}", text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap())
}

fn ask_nars(tally: &mut Tally, nar: &str) {
    assert!(tally.get("nar", 200, nar).body.len() > 1_600_000);
    let zstd = tally.ask("nar", "GET", nar, &[("Accept-Encoding", "zstd")]);
    assert_eq!(zstd.header("content-encoding"), Some("zstd"));
    assert!(zstd.body.len() < 900_000, "what counts are the bytes that went out");
    let part = tally.ask("nar", "GET", nar, &[("Range", "bytes=1000-400999")]);
    assert_eq!((part.status, part.body.len()), (206, 400_000));
    tally.looked(&[FOUND, NAR, FOUND, NAR, FOUND, NAR]);
    assert_eq!(tally.ask("nar", "HEAD", nar, &[]).status, 200);
    assert_eq!(tally.ask("nar", "GET", nar, &[("Range", "bytes=9000000-")]).status, 416);
    tally.get("nar", 404, &format!("/nar/{NOWHERE}.nar"));
    tally.looked(&[FOUND, FOUND, ABSENT]);
}

fn ask_files(tally: &mut Tally, hash: &str) {
    tally.get("file", 200, &format!("/serve/{hash}/"));
    tally.get("file", 200, &format!("/serve/{hash}/large"));
    tally.get("file", 200, &format!("/serve/{hash}/empty"));
    tally.get("file", 307, &format!("/serve/{hash}"));
    assert_eq!(tally.ask("file", "HEAD", &format!("/serve/{hash}/large"), &[]).status, 200);
    tally.looked(&[FOUND, FILE, FOUND, FILE, FOUND, FILE, FOUND, FILE, FOUND, FILE]);
    tally.get("file", 404, &format!("/serve/{hash}/none"));
    tally.looked(&[FOUND, ("file", "absent")]);
}

fn ask_what_is_refused(tally: &mut Tally) {
    tally.get("fleet", 404, "/fleet/laptop.json");
    tally.get("other", 404, "/favicon.ico");
    assert_eq!(tally.ask("landing", "POST", "/", &[]).status, 405);
    assert_eq!(tally.ask("metrics", "DELETE", "/metrics", &[]).status, 405);
    for method in ["GET", "HEAD"] {
        let long = format!("/{}", "a".repeat(17_000));
        assert_eq!(tally.ask("other", method, &long, &[]).status, 414);
    }
    let huge = "b".repeat(40_000);
    let refused = http::request(tally.server.address(), "GET", "/health", &[("X-Huge", &huge)]);
    assert_eq!(refused.status, 431);
    let malformed = http::ask(tally.server.address(), b"G?T\r\n\r\n");
    assert!(malformed.starts_with(b"HTTP/1.1 400 "));
    // Nobody knows when those began, so they have no duration.
    tally.requests.insert(["other".to_owned(), "431".to_owned()], 1.0);
    tally.requests.insert(["other".to_owned(), "400".to_owned()], 1.0);
}

#[test]
fn below_a_base_path_the_endpoints_are_told_apart_as_well() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("source", &Tree::new().file("f", b"content".as_slice()));
    let hash = parse(&path).hash();
    let mut tally = Tally::of(Server::with(&store, "base-path = \"/cache\""));
    tally.get("landing", 307, "/cache");
    tally.get("landing", 200, "/cache/");
    tally.get("narinfo", 200, &format!("/cache/{hash}.narinfo"));
    tally.get("file", 200, &format!("/cache/serve/{hash}/f"));
    tally.get("health", 200, "/cache/health");
    tally.looked(&[FOUND, FOUND, FILE, ABSENT]);
    // Nothing of ours is there.
    for target in ["/", "/health", "/nar/x.nar", "/cachehealth", "/cachenar/x.nar", "/cache/cache"]
    {
        tally.get("other", 404, target);
    }
    tally.compare("/cache");
}

#[test]
fn what_curl_received_over_kept_connections_is_what_was_counted() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("source", &Tree::new().file("f", random_bytes(1, 2_000_000)));
    let mut tally = Tally::of(Server::with(&store, "compress-nars = true"));
    let nar = format!("/nar/{}.nar", parse(&path).hash());
    for more in [&["-H", "Accept-Encoding: zstd"][..], &["-r", "5-1500004"], &["-I"], &[]] {
        let urls = [&nar, "/version", "/none", &nar].map(|target| tally.server.url() + target);
        let received = Program::new("curl")
            .args(["-s", "-w", "%{stderr}%{http_code} %{size_download} %{num_connects}\n"])
            .args(more)
            .args(&urls)
            .run()
            .success();
        let lines = received.stderr.lines().zip(["nar", "version", "other", "nar"]);
        for (number, (line, endpoint)) in lines.enumerate() {
            let mut words = line.split(' ').map(|word| word.parse::<usize>().unwrap());
            let mut word = || words.next().unwrap();
            tally.add(endpoint, u16::try_from(word()).unwrap(), word());
            assert_eq!(word(), usize::from(number == 0), "one connection: {line}");
        }
    }
    tally.looked(&[[FOUND; 8].as_slice(), &[NAR; 6]].concat());
    tally.settle(|_| true);
    let page = tally.compare("");
    assert_eq!(page.by(CUT_SHORT, ["endpoint"]), BTreeMap::new());
    assert_eq!(page.by(REQUESTS, ["endpoint"]).len(), 4, "a label of its own for each");
}

#[test]
fn what_http_2_carries_is_counted_as_it_is_before_tls() {
    let store = TestStore::new(NixVersion::V2_34);
    let tree = Tree::new().file("f", random_bytes(1, 2_000_000)).file("empty", b"".as_slice());
    let hash = parse(&store.add_source("source", &tree)).hash().to_string();
    let Secure { server, authority, address } = Secure::with(&store, "compress-nars = true");
    let mut tally = Tally::of(server);
    let (nar, empty) = (format!("/nar/{hash}.nar"), format!("/serve/{hash}/empty"));
    let long = format!("/{}", "a".repeat(17_000));
    for (endpoint, options, target) in [
        ("nar", &["-s"][..], &nar),
        ("nar", &["-H", "Accept-Encoding: zstd"], &nar),
        ("nar", &["-r", "5-1500004"], &nar),
        ("nar", &["-I"], &nar),
        ("file", &["-s"], &empty),
        ("other", &["-s"], &long),
        ("other", &["-I"], &long),
    ] {
        let told = "%{stderr}%{http_version} %{http_code} %{size_download}";
        let options = [&["--http2", "-w", told][..], options].concat();
        let received = authority.curl(&options, &format!("https://{address}{target}")).success();
        let words: Vec<&str> = received.stderr.split(' ').collect();
        assert_eq!(words[0], "2", "{received}");
        tally.add(endpoint, words[1].parse().unwrap(), words[2].parse().unwrap());
    }
    tally.looked(&[FOUND, NAR, FOUND, NAR, FOUND, NAR, FOUND, FOUND, FILE]);
    tally.settle(|_| true);
    let page = tally.compare("");
    assert_eq!(page.by(CUT_SHORT, ["endpoint"]), BTreeMap::new());
}

#[test]
fn a_reload_keeps_the_counts() {
    let store = small_store();
    let mut tally = Tally::of(Server::of(&store));
    tally.get("health", 200, "/health");
    tally.looked(&[ABSENT]);
    tally.compare("");
    tally.server.process().signal(Signal::HUP);
    tally.server.process().wait_for_line("reloaded ");
    tally.get("version", 200, "/version");
    tally.compare("");
}

/// The addresses of `router.rs`, as it is written: what stands between the quotes after `.route(`.
fn routes() -> Vec<String> {
    let source =
        fs::read_to_string(workspace_root().join("crates/larder-web/src/router.rs")).unwrap();
    let literals = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    literals.map(str::to_owned).collect()
}

#[test]
fn every_route_is_counted_as_an_endpoint_of_its_own_name() {
    let routes = routes();
    assert!(routes.len() > 10, "{routes:?}");
    let store = small_store();
    let server = Server::of(&store);
    for route in &routes {
        // What stands for a name is any, but for the two kinds of files at the top.
        let target = if route == "/{file}" {
            "/x.narinfo".to_owned()
        } else {
            route.replace(['{', '}', '*'], "")
        };
        http::get(server.address(), &target);
    }
    let page = Page::of(server.address());
    let other = page.sum(REQUESTS, &[("endpoint", "other")]);
    assert_eq!((other, page.sum(REQUESTS, &[])), (0.0, routes.len() as f64));
}

#[test]
fn the_table_of_the_documentation_names_each_metric_and_its_labels() {
    let store = small_store();
    let folder = scratch("cache");
    let place = folder.path().display().to_string();
    let push = "[push]\nto = [\"main\"]\n";
    let notify = "[[notify]]\nname = \"team\"\nkind = \"command\"\ncommand = [\"true\"]\n";
    let server = Server::with(&store, &(cache("main", &place, "") + push + notify));
    let ledger = Ledger::open(&ledger_file(&server.folder().join("state"))).unwrap();
    let time = "2026-01-01T03:00:00Z".parse().unwrap();
    let run = ledger.begin_run(time, "/etc/nixos").unwrap();
    ledger.record(run, &"pc".parse().unwrap(), time, &Outcome::Built).unwrap();
    // It is looked once a second what waits to be pushed, and not much less often how the fleet is.
    let begun = Instant::now();
    let looked = ["larder_push_waiting_paths", "larder_host_failing", "larder_notices_waiting"];
    while looked.iter().any(|it| !Page::of(server.address()).families().contains_key(*it)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody looks");
        thread::sleep(Duration::from_millis(50));
    }
    http::get(server.address(), "/health");
    for _ in 0..2 {
        http::get(server.address(), &format!("/{NOWHERE}.narinfo"));
    }
    let _ = Page::of(server.address());
    let mut told = Page::of(server.address()).families();
    told.retain(|name, _| !name.starts_with("process_"));
    let docs = fs::read_to_string(workspace_root().join("docs/operations.md")).unwrap();
    let quoted = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `larder_"));
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let name = cells[0].trim_end_matches('`');
        (format!("larder_{name}"), quoted(cells[1]))
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), told);
    assert!(docs.contains("| `process_…` |"), "the family of the process");
    // Nothing in the examples is a name that is not there.
    let named = docs.split(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_');
    for name in named.filter(|word| word.starts_with("larder_") && *word != "larder_web") {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let name = family.unwrap_or(name);
        assert!(told.contains_key(name), "{name}");
    }
}
