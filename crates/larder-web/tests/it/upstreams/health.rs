//! Who is dead is left alone, who is slow is waited for, and who lives again is asked again.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use larder_testkit::{
    BadLine, BlackHole, Fault, Machine, Network, NixVersion, Tree, nginx::Nginx,
    process::built_program,
};

use super::{Asked, NOWHERE, Origin, Proxy, asked};
use crate::{http, support::parse};

/// A path in a cache, and that cache.
fn one_path(name: &str, seed: u8) -> (Origin, String) {
    let origin = Origin::new(name, seed);
    let path = origin.store.add_tree(name, &Tree::new().file("x", name));
    origin.publish(&origin.store, &path, "zstd");
    (origin, path)
}

#[test]
fn a_dead_upstream_costs_nothing_once_it_is_known_to_be_dead() {
    let (origin, path) = one_path("origin", 1);
    let (hole, nginx) = (BlackHole::new(), origin.served());
    let urls = ([format!("http://{}", hole.address())], [nginx.url()]);
    let upstreams = [
        Asked { name: "dead", urls: &urls.0, key: &origin.key },
        Asked { name: "good", urls: &urls.1, key: &origin.key },
    ];
    let proxy = Proxy::of(&upstreams, "");
    let (status, took) = asked(&proxy, &path);
    assert_eq!(status, 200);
    assert!(took < Duration::from_secs(2), "its grace time: {took:?}");
    for _ in 0..3 {
        let _ = asked(&proxy, NOWHERE);
    }
    proxy.wait_until(&["down", "up"]);
    let begun = Instant::now();
    for number in 0..20 {
        let path =
            NOWHERE.replace("z-", &format!("{number:02}z-").replace(char::is_whitespace, ""));
        let _ = http::get(&proxy.address, &format!("/{}.narinfo", &path[11..43]));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Not all told, so it is not known that they are absent.
    assert!(proxy.status()["couldNotTell"].as_u64().unwrap() > 0);
}

#[test]
fn of_slow_upstreams_nothing_is_missed() {
    let (first, there) = one_path("first", 1);
    let (second, here) = one_path("second", 2);
    let nginx = (first.served(), second.served());
    let slow = |nginx: &Nginx| {
        let line = BadLine::to(&format!("127.0.0.1:{}", nginx.port()));
        line.obey(|_| Fault::Delay(Duration::from_millis(1500)));
        line
    };
    let lines = (slow(&nginx.0), slow(&nginx.1));
    let urls =
        ([format!("http://{}", lines.0.address())], [format!("http://{}", lines.1.address())]);
    let upstreams = [
        Asked { name: "first", urls: &urls.0, key: &first.key },
        Asked { name: "second", urls: &urls.1, key: &second.key },
    ];
    let proxy = Proxy::of(&upstreams, "");
    proxy.wait_until(&["up", "up"]);
    for path in [&there, &here] {
        assert_eq!(asked(&proxy, path).0, 200, "{path}");
    }
    assert_eq!(asked(&proxy, NOWHERE).0, 404);
    let status = proxy.status();
    assert_eq!((&status["couldNotTell"], &status["absent"]), (&0.into(), &1.into()), "{status:#}");
}

#[test]
fn the_highest_that_has_a_path_is_taken() {
    let (origin, path) = one_path("origin", 1);
    let nginx = (origin.served(), origin.served());
    let urls = ([nginx.0.url()], [nginx.1.url()]);
    let upstreams = [
        Asked { name: "first", urls: &urls.0, key: &origin.key },
        Asked { name: "second", urls: &urls.1, key: &origin.key },
    ];
    let proxy = Proxy::of(&upstreams, "");
    let info = http::get(&proxy.address, &format!("/{}.narinfo", parse(&path).hash())).text();
    let url = info.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    assert!(http::get(&proxy.address, &format!("/{url}")).complete);
    let nars = |nginx: &Nginx| nginx.access_log().iter().filter(|it| it.contains("/nar/")).count();
    assert_eq!((nars(&nginx.0), nars(&nginx.1)), (1, 0));
}

#[test]
fn one_cache_at_two_addresses_is_had_by_the_one_that_answers() {
    let (origin, path) = one_path("origin", 1);
    let (hole, nginx) = (BlackHole::new(), origin.served());
    let urls = [format!("http://{}", hole.address()), nginx.url()];
    let proxy = Proxy::of(&[Asked { name: "home", urls: &urls, key: &origin.key }], "");
    let (status, took) = asked(&proxy, &path);
    assert_eq!(status, 200);
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn who_asks_to_be_left_alone_is() {
    let (origin, _) = one_path("origin", 1);
    let nginx =
        Nginx::with_server_lines("location / { add_header Retry-After 60 always; return 429; }");
    let urls = [nginx.url()];
    let proxy = Proxy::of(&[Asked { name: "busy", urls: &urls, key: &origin.key }], "");
    proxy.wait_until(&["down"]);
    sleep(Duration::from_secs(4));
    let _ = asked(&proxy, NOWHERE);
    assert_eq!(nginx.access_log().len(), 1);
}

#[test]
fn a_laptop_that_comes_home_uses_its_cache_within_seconds() {
    let (origin, path) = one_path("origin", 1);
    let network = Network::new();
    let laptop = Machine::new(&network, "laptop", NixVersion::V2_34);
    let port = larder_testkit::nginx::free_port();
    let (host, root) = (network.host_address(), origin.root());
    let lines = format!(
        "server {{ listen 127.0.0.1:{port}; listen {host}:{port}; root {}; }}",
        root.display()
    );
    let _nginx = Nginx::with_http_lines(&lines, port);
    laptop.write(
        "/etc/larder/larder.toml",
        format!(
            "[[upstream]]\nname = \"home\"\nurls = [\"http://{host}:{port}\"]\npublic-keys = [{:?}]\n",
            origin.key.public
        ),
    );
    let larder = built_program("larder").display().to_string();
    let mut proxy = laptop.spawn(&[&larder, "proxy"]);
    let _ = proxy.wait_for_line("listening on ");
    let health = || {
        let json = laptop.run(&[&larder, "proxy", "status", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        json["upstreams"][0]["addresses"][0]["health"].as_str().unwrap().to_owned()
    };
    let wait_for = |wanted: &str, patience: u64| {
        let begun = Instant::now();
        while health() != wanted {
            assert!(begun.elapsed() < Duration::from_secs(patience), "not {wanted}: {}", health());
            sleep(Duration::from_millis(100));
        }
    };
    wait_for("up", 20);
    let hash = parse(&path).hash().to_string();
    let fetch = || {
        let url = format!("http://127.0.0.1:5001/{hash}.narinfo");
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/5001; printf 'GET {url} HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
        );
        laptop.run(&["/bin/bash", "-c", &script]).stdout
    };
    laptop.set_connected(&network, false);
    wait_for("down", 40);
    assert!(fetch().contains("404"));
    // Long enough that it is looked for but seldom.
    sleep(Duration::from_secs(12));
    laptop.set_connected(&network, true);
    wait_for("up", 6);
    assert!(fetch().contains("200"));
}
