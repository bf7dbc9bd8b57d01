//! Behind `larder proxy`, which says that nobody has it: what those say whom it asks.

use std::{
    fs,
    time::{Duration, Instant},
};

use larder_testkit::{Background, BadLine, Fault, NixVersion, nginx::Nginx, scratch::scratch};
use serde_json::Value;
use tempfile::TempDir;

use super::{World, hello, key, kinds};

/// `larder proxy`, before one upstream, whose health it knows.
fn proxy(url: &str, public: &str, health: &str) -> (Background, TempDir, String) {
    let folder = scratch("proxy");
    let port = larder_testkit::nginx::free_port();
    let config = folder.path().join("larder.toml");
    let text = format!(
        "state-dir = {:?}\n[proxy]\nlisten = [\"127.0.0.1:{port}\"]\n\
         [[upstream]]\nname = \"origin\"\nurls = [{url:?}]\npublic-keys = [{public:?}]\n",
        folder.path().join("state"),
    );
    std::fs::write(&config, text).unwrap();
    let mut process = larder_testkit::Program::new(env!("CARGO_BIN_EXE_larder"))
        .args(["proxy", "--config"])
        .arg(&config)
        .spawn();
    process.wait_for_port(&format!("127.0.0.1:{port}"));
    let own = format!("http://127.0.0.1:{port}");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let told = larder_testkit::Program::new(env!("CARGO_BIN_EXE_larder"))
            .args(["proxy", "status", "--json", "--url", &own])
            .run();
        if told.stdout.contains(&format!("\"health\":\"{health}\"")) {
            return (process, folder, own);
        }
        assert!(Instant::now() < end, "{told}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn configured(world: &World, url: &str, public: &str) {
    world.configure(&format!(
        "[[upstream]]\nname = \"origin\"\nurls = [{url:?}]\npublic-keys = [{public:?}]"
    ));
}

#[test]
fn an_upstream_that_is_down_is_named() {
    let world = World::new(NixVersion::V2_34);
    let nginx: Nginx = world.served();
    let line = BadLine::to(nginx.url().strip_prefix("http://").unwrap());
    line.obey(|_| Fault::Status(503));
    let url = format!("http://{}", line.address());
    let public = key("origin-1", 1).public().to_string();
    let (_proxy, _folder, own) = proxy(&url, &public, "down");
    world.asks(&[&own]);
    configured(&world, &url, &public);
    let derivation = world.wanted(&hello(""));
    let said = world.why(&[&derivation]);
    assert_eq!(kinds(&said["subject"])[0], "upstreamDown", "{said:#}");
    assert!(said["subject"]["verdicts"][0]["said"].as_str().unwrap().contains("503"), "{said:#}");
}

#[test]
fn an_upstream_whose_key_the_proxy_does_not_know_is_named() {
    let world = World::new(NixVersion::V2_34);
    let nginx = world.served();
    let _ = world.publish(&hello(""), true);
    let derivation = world.wanted(&hello(""));
    let stranger = key("stranger-1", 9).public().to_string();
    let (_proxy, _folder, own) = proxy(&nginx.url(), &stranger, "up");
    world.asks(&[&own]);
    configured(&world, &nginx.url(), &stranger);
    let said = world.why(&[&derivation]);
    assert_eq!(kinds(&said["subject"])[0], "upstreamUntrusted", "{said:#}");
    // Neighbours: it knows the key; and it has it not.
    let public = key("origin-1", 1).public().to_string();
    let (_proxy, _folder, own) = proxy(&nginx.url(), &public, "up");
    world.asks(&[&own]);
    configured(&world, &nginx.url(), &public);
    assert_eq!(world.kinds(&derivation), ["downloaded"]);
    assert_eq!(world.kinds(&world.wanted(&hello("a = \"1\";"))), ["absent"]);
}

#[test]
fn who_says_that_it_is_a_proxy_is_told_no_login_and_has_no_folder_opened() {
    let world = World::new(NixVersion::V2_34);
    let nginx = world.served();
    let public = key("origin-1", 1).public().to_string();
    let (_proxy, _folder, own) = proxy(&nginx.url(), &public, "up");
    let told = larder_testkit::Program::new(env!("CARGO_BIN_EXE_larder"))
        .args(["proxy", "status", "--json", "--url", &own])
        .run();
    let mut status: Value = serde_json::from_str(&told.success().stdout).unwrap();
    let others = Nginx::with_server_lines(
        "location / { if ($http_authorization) { return 418; } return 404; }",
    );
    let made = world.folder.path().join("made");
    let urls =
        [others.url(), format!("local?root={}", made.display()), format!("/{}", made.display())];
    let upstreams = urls.map(|url| {
        let mut upstream = status["upstreams"][0].clone();
        upstream["addresses"][0]["url"] = url.into();
        upstream
    });
    status["upstreams"] = upstreams.to_vec().into();
    fs::write(world.cache().join("status"), status.to_string()).unwrap();
    let netrc = world.folder.path().join("netrc");
    fs::write(&netrc, "machine 127.0.0.1 login me password secret\n").unwrap();
    world.asks_with(&[&nginx.url()], &format!("netrc-file = {}", netrc.display()));
    configured(&world, &nginx.url(), &public);
    assert_eq!(world.kinds(&world.wanted(&hello(""))), ["absent"]);
    assert!(!made.exists());
    let log = others.access_log();
    assert!(!log.is_empty() && !log.iter().any(|line| line.contains(" 418 ")), "{log:#?}");
}
