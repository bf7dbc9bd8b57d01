//! `larder init` writes a file that `larder config check` understands, once.

use std::{fs, path::Path};

use larder::config::{Config, Role, starting_file};
use larder_testkit::{Nix, NixVersion, Program, TestStore, scratch::scratch};

fn larder(config: &Path) -> Program {
    Program::new(env!("CARGO_BIN_EXE_larder")).env("LARDER_CONFIG", config)
}

#[test]
fn each_role_gets_its_file_and_the_next_steps() {
    let dir = scratch("init");
    for (name, role) in [("server", Role::Server), ("client", Role::Client)] {
        let file = dir.path().join(name).join("larder.toml");
        let made = larder(&file).args(["init", name]).run().success();
        assert!(made.stdout.starts_with(&format!("wrote {}\nNext:", file.display())), "{made}");
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, starting_file(role));
        assert!(Config::load(&file).is_ok());
    }
}

#[test]
fn the_settings_for_nix_are_understood_by_every_nix() {
    let dir = scratch("init");
    let file = dir.path().join("larder.toml");
    let _ = larder(&file).args(["init", "client"]).run().success();
    let settings = dir.path().join("nix.conf");
    for version in NixVersion::all() {
        let store = TestStore::with_config(version, &format!("!include {}", settings.display()));
        let shown = store.nix(&["nix", "show-config"]).success();
        for line in [
            "substituters = http://127.0.0.1:5001",
            "narinfo-cache-negative-ttl = 0",
            "fallback = true",
            "connect-timeout = 5",
        ] {
            assert!(shown.lines().iter().any(|shown| shown == line), "{version}: {line}");
        }
        assert!(!shown.stderr.contains("unknown setting"), "{shown}");
    }
    // What somebody wrote there stays.
    let own = scratch("own");
    fs::write(own.path().join("nix.conf"), "# mine").unwrap();
    let _ = larder(&own.path().join("larder.toml")).args(["init", "client"]).run().success();
    assert_eq!(fs::read_to_string(own.path().join("nix.conf")).unwrap(), "# mine");
}

#[test]
fn a_configuration_is_never_overwritten() {
    let dir = scratch("init");
    let file = dir.path().join("larder.toml");
    fs::write(&file, "# mine").unwrap();
    let refused = larder(&file).args(["init", "server"]).run().failure();
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("is not overwritten"), "{refused}");
    assert!(refused.stderr.contains("--print"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine");
}

#[test]
fn printing_writes_no_file() {
    let dir = scratch("init");
    let file = dir.path().join("larder.toml");
    let printed = larder(&file).args(["init", "client", "--print"]).run().success();
    assert_eq!(printed.text(), starting_file(Role::Client).trim());
    assert!(!file.exists());
}

#[test]
fn a_checked_configuration_is_good_or_all_its_problems_are_told_with_their_lines() {
    let dir = scratch("init");
    let file = dir.path().join("larder.toml");
    let missing = larder(&file).args(["config", "check"]).run().failure();
    assert_eq!(missing.code(), 1);
    assert!(missing.stderr.contains("larder init server"), "{missing}");

    let _ = larder(&file).args(["init", "client"]).run().success();
    let good = larder(&file).args(["config", "check"]).run().success();
    assert_eq!(good.text(), format!("{}: good", file.display()));

    fs::write(&file, "[build]\nmax-job = 2\ncores = \"all\"\n").unwrap();
    let bad = larder(&file).args(["config", "check"]).run().failure();
    assert_eq!(bad.code(), 1);
    for part in ["max-job", "max-jobs", "cores", "larder.toml:2", "larder.toml:3"] {
        assert!(bad.stderr.contains(part), "{part}: {bad}");
    }

    let key = dir.path().join("cache.key");
    fs::write(&file, format!("[serve]\nsigning-keys = [{key:?}]\n")).unwrap();
    let bad = larder(&file).args(["config", "check"]).run().failure();
    assert!(bad.stderr.contains("larder key generate"), "{bad}");
}
