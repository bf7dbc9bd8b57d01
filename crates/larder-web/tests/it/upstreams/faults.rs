//! Every way in which an upstream fails, with every Nix: what another one has is had, and what nobody has is built
//! here. What this says is the table in `docs/proxy.md`.

use larder_testkit::{
    BadLine, BlackHole, Fault, Nix, NixVersion, TestStore, Tree,
    nginx::{Nginx, free_port},
    nix::workspace_root,
    tree::random_bytes,
};

use super::{Asked, Origin, Proxy, fetches};
use crate::support::{client, with_every_client};

/// The page of a hotel.
const PORTAL: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 29\r\n\r\n<html>Welcome, guest.</html>\n";
const TO_PORTAL: &str = "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n";
const GARBAGE: &str = "\x01\x02 no HTTP at all\r\n\r\n";

/// One way to fail.
struct Way {
    what: &'static str,
    /// What an upstream's server is like that fails so; the origin is one that has the path.
    make: fn(&Origin) -> Failing,
}

/// Something that runs, and its address.
struct Failing {
    url: String,
    _running: Box<dyn std::any::Any>,
}

fn failing(url: String, running: impl std::any::Any) -> Failing {
    Failing { url, _running: Box::new(running) }
}

/// A line to a server that is well, with this fault on each connection.
fn line(origin: &Origin, fault: Fault) -> Failing {
    let nginx = origin.served();
    let line = BadLine::to(&format!("127.0.0.1:{}", nginx.port()));
    line.obey(move |_| fault);
    failing(format!("http://{}", line.address()), (line, nginx))
}

fn status(status: u16) -> Failing {
    let nginx = Nginx::always(status);
    failing(nginx.url(), nginx)
}

/// A cache whose NARs are not as its narinfos say.
fn altered(origin: &Origin, lines: &str) -> Failing {
    let nginx = Nginx::with_server_lines(&format!("root {}; {lines}", origin.root().display()));
    failing(nginx.url(), nginx)
}

const WAYS: [Way; 19] = [
    Way {
        what: "refuses connections",
        make: |_| failing(format!("http://127.0.0.1:{}", free_port()), ()),
    },
    Way {
        what: "swallows packets, as a firewall does",
        make: |_| {
            let hole = BlackHole::new();
            failing(format!("http://{}", hole.address()), hole)
        },
    },
    Way { what: "resets connections", make: |origin| line(origin, Fault::CutAnswer(0)) },
    Way { what: "takes connections and says nothing", make: |origin| line(origin, Fault::Silence) },
    Way {
        what: "stops in the middle of an answer's head",
        make: |origin| line(origin, Fault::HoldAnswer(30)),
    },
    Way {
        what: "stops in the middle of a narinfo",
        make: |origin| line(origin, Fault::HoldAnswer(400)),
    },
    Way { what: "sends 20 bytes a second", make: |origin| line(origin, Fault::Trickle(20)) },
    Way { what: "answers 500", make: |_| status(500) },
    Way { what: "answers 503", make: |_| status(503) },
    Way { what: "answers 429", make: |_| status(429) },
    Way { what: "answers 403", make: |_| status(403) },
    Way { what: "answers 401", make: |_| status(401) },
    Way {
        what: "is a hotel's page, for every address",
        make: |origin| line(origin, Fault::Says(PORTAL)),
    },
    Way {
        what: "sends everybody to a hotel's page",
        make: |origin| line(origin, Fault::Says(TO_PORTAL)),
    },
    Way { what: "speaks no HTTP", make: |origin| line(origin, Fault::Says(GARBAGE)) },
    Way {
        what: "has narinfos, but no NARs",
        make: |origin| altered(origin, "location /nar/ { return 404; }"),
    },
    Way {
        what: "answers 500 for NARs",
        make: |origin| altered(origin, "location /nar/ { return 500; }"),
    },
    Way {
        what: "breaks off in the middle of NARs",
        make: |origin| line(origin, Fault::CutAnswer(300_000)),
    },
    Way {
        what: "stands still in the middle of NARs",
        make: |origin| line(origin, Fault::HoldAnswer(300_000)),
    },
];

/// The first upstream fails in this way, the second one is well.
fn survives(version: NixVersion, what: &str) {
    let way = WAYS.iter().find(|way| way.what == what).unwrap();
    let origin = Origin::new("origin", 1);
    let small = origin.store.add_tree("small", &Tree::new().file("x", random_bytes(1, 30_000)));
    let tree = Tree::new().file("x", random_bytes(2, 2 << 20));
    let top = origin.store.add_tree_referring("top", &tree, &[small]);
    origin.publish(&origin.store, &top, "zstd");
    let bad = (way.make)(&origin);
    let good = origin.served();
    let upstreams = [
        Asked::at("bad", bad.url.clone(), &origin.key),
        Asked::at("good", good.url(), &origin.key),
    ];
    let proxy = Proxy::of(&upstreams, "");
    fetches(version, &proxy.url(), &origin, &top);
    builds_what_nobody_has(version, &proxy, &origin);
    // Alone, it is no reason to fail either.
    let alone = Proxy::of(&upstreams[..1], "");
    builds_what_nobody_has(version, &alone, &origin);
    builds_what_it_cannot_have(version, &alone);
}

/// With `fallback`, as `larder init client` writes it, even what is promised and not delivered is built.
fn builds_what_it_cannot_have(version: NixVersion, proxy: &Proxy) {
    let lines = format!("substituters = {}\nfallback = true", proxy.url());
    let reader = TestStore::with_config(version, &lines);
    let again = reader.add_tree("small", &Tree::new().file("x", random_bytes(1, 30_000)));
    assert!(reader.is_valid(&again));
}

fn builds_what_nobody_has(version: NixVersion, proxy: &Proxy, origin: &Origin) {
    let reader = client(version, &proxy.url(), &[&origin.key.public]);
    let local = reader.add_tree("local", &Tree::new().file("x", "of this machine"));
    assert!(reader.built_here().contains(&local));
}

macro_rules! every_way {
    ($($claim:ident: $what:literal),+ $(,)?) => {
        with_every_client!($($claim),+);
        $(fn $claim(version: NixVersion) { survives(version, $what); })+

        #[test]
        fn no_way_is_left_out() {
            let tested = [$($what),+];
            assert_eq!(WAYS.map(|way| way.what), tested);
        }
    };
}

every_way!(
    one_that_refuses: "refuses connections",
    one_that_swallows: "swallows packets, as a firewall does",
    one_that_resets: "resets connections",
    one_that_is_silent: "takes connections and says nothing",
    one_that_stops_in_a_head: "stops in the middle of an answer's head",
    one_that_stops_in_a_narinfo: "stops in the middle of a narinfo",
    one_that_trickles: "sends 20 bytes a second",
    one_that_says_500: "answers 500",
    one_that_says_503: "answers 503",
    one_that_says_429: "answers 429",
    one_that_says_403: "answers 403",
    one_that_says_401: "answers 401",
    one_that_is_a_portal: "is a hotel's page, for every address",
    one_that_sends_to_a_portal: "sends everybody to a hotel's page",
    one_that_speaks_no_http: "speaks no HTTP",
    one_without_nars: "has narinfos, but no NARs",
    one_with_failing_nars: "answers 500 for NARs",
    one_that_breaks_off: "breaks off in the middle of NARs",
    one_that_stands_still: "stands still in the middle of NARs",
);

/// What the guide says of every way: the tests above fail where it is not so.
#[test]
fn the_table_in_the_guide_is_what_is_tested() {
    let guide = workspace_root().join("docs/proxy.md");
    let text = std::fs::read_to_string(&guide).unwrap();
    let (before, _) = text.split_once("writes it anew -->\n").unwrap();
    let mut made = format!(
        "{before}writes it anew -->\n\n| the first upstream … | the path that the second one has | what nobody has |\n\
         | --- | --- | --- |\n"
    );
    for way in &WAYS {
        made.push_str(&format!("| {} | is had | is built here |\n", way.what));
    }
    made.push_str(
        "\nThe same with nobody behind the first one: what it does not deliver is built here.\n",
    );
    #[expect(clippy::disallowed_methods, reason = "how a person asks the test to write the table")]
    let bless = std::env::var_os("LARDER_BLESS").is_some();
    if bless {
        std::fs::write(&guide, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&guide).unwrap(), made, "LARDER_BLESS=1 writes it anew");
}
