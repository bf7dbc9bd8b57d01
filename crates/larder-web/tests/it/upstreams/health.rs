//! Who is dead is left alone, who is slow is waited for, and who lives again is asked again.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use larder_testkit::{
    BadLine, BlackHole, Fault, Machine, Network, NixVersion, Tree, nginx::Nginx,
    process::built_program,
};

use serde_json::Value;

use super::{Asked, NOWHERE, Origin, Proxy};
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
    let upstreams = [
        Asked::at("dead", format!("http://{}", hole.address()), &origin.key),
        Asked::at("good", nginx.url(), &origin.key),
    ];
    let proxy = Proxy::of(&upstreams, "");
    assert_eq!(proxy.asked(&path), 200, "it is not waited for longer than its grace time");
    for _ in 0..3 {
        let _ = proxy.asked(NOWHERE);
    }
    proxy.wait_until(&["down", "up"]);
    // What it was asked before it was known to be dead, it may leave unanswered a little longer.
    sleep(Duration::from_secs(1));
    let (before, could_not_tell) = (proxy.failures(0), proxy.status()["couldNotTell"].clone());
    for number in 0..20 {
        let nowhere = http::get(&proxy.address, &format!("/{number:032}.narinfo"));
        assert_eq!(nowhere.status, 404);
    }
    assert_eq!(proxy.failures(0), before, "it was not asked again");
    // Not all told, so it is not known that they are absent.
    let more = |now: &Value| now.as_u64().unwrap() - could_not_tell.as_u64().unwrap();
    assert_eq!(more(&proxy.status()["couldNotTell"]), 20);
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
    let upstreams = [
        Asked::at("first", format!("http://{}", lines.0.address()), &first.key),
        Asked::at("second", format!("http://{}", lines.1.address()), &second.key),
    ];
    let proxy = Proxy::of(&upstreams, "");
    proxy.wait_until(&["up", "up"]);
    for path in [&there, &here] {
        assert_eq!(proxy.asked(path), 200, "{path}");
    }
    assert_eq!(proxy.asked(NOWHERE), 404);
    let status = proxy.status();
    assert_eq!((&status["couldNotTell"], &status["absent"]), (&0.into(), &1.into()), "{status:#}");
}

#[test]
fn the_highest_that_has_a_path_is_taken() {
    let (origin, path) = one_path("origin", 1);
    let nginx = (origin.served(), origin.served());
    let upstreams = [
        Asked::at("first", nginx.0.url(), &origin.key),
        Asked::at("second", nginx.1.url(), &origin.key),
    ];
    let proxy = Proxy::of(&upstreams, "");
    assert!(http::get(&proxy.address, &proxy.nar(&path)).complete);
    let nars = |nginx: &Nginx| nginx.access_log().iter().filter(|it| it.contains("/nar/")).count();
    assert_eq!((nars(&nginx.0), nars(&nginx.1)), (1, 0));
}

#[test]
fn one_cache_at_two_addresses_is_had_by_the_one_that_answers() {
    let (origin, path) = one_path("origin", 1);
    let (hole, nginx) = (BlackHole::new(), origin.served());
    let home = Asked::at("home", format!("http://{}", hole.address()), &origin.key);
    let proxy = Proxy::of(&[home.or_at(nginx.url())], "");
    assert_eq!(proxy.asked(&path), 200);
}

#[test]
fn who_asks_to_be_left_alone_is() {
    let (origin, _) = one_path("origin", 1);
    let nginx =
        Nginx::with_server_lines("location / { add_header Retry-After 60 always; return 429; }");
    let proxy = Proxy::of(&[Asked::at("busy", nginx.url(), &origin.key)], "");
    proxy.wait_until(&["down"]);
    sleep(Duration::from_secs(4));
    let _ = proxy.asked(NOWHERE);
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
    // By now it is looked for every sixteen seconds.
    sleep(Duration::from_secs(17));
    laptop.set_connected(&network, true);
    wait_for("up", 10);
    assert!(fetch().contains("200"));
}
