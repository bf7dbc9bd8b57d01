//! What a build publishes goes to the caches, with what it takes to evaluate it.

use std::{fs, path::PathBuf};

use larder_testkit::{Nix, NixVersion, TestStore, process::find_program};

use crate::build_server::{BuildServer, SmallFleet};

/// A server whose builds go to a cache in a folder.
fn pushing(version: NixVersion) -> (BuildServer, SmallFleet, PathBuf) {
    let (server, fleet) = SmallFleet::with_server(version, "");
    let cache = server.store.work_dir().join("cache");
    let text = fs::read_to_string(server.config()).unwrap();
    let more = format!(
        "[[cache]]\nname = \"main\"\nurl = {cache:?}\n[push]\nto = [\"main\"]\ntrusted-upstreams = []\n"
    );
    fs::write(server.config(), text + &more).unwrap();
    (server, fleet, cache)
}

#[test]
fn a_client_that_has_only_the_cache_evaluates_and_downloads() {
    for builder in NixVersion::builders() {
        let (server, fleet, cache) = pushing(builder);
        fleet.lock(&server.store);
        let built = server.build(&[]).success();
        assert!(built.stderr.contains("main: "), "{built}");
        let system = server.system("alpha");
        // The forge is gone.
        fs::rename(fleet.nixpkgs.dir(), server.store.work_dir().join("elsewhere")).unwrap();
        for version in NixVersion::all() {
            let settings =
                format!("substituters = file://{}\nrequire-sigs = false", cache.display());
            let client = TestStore::with_config(version, &settings);
            let checkout = client.work_dir().join("checkout");
            let clone = larder_testkit::Program::new(find_program("git")).args(["clone", "-q"]);
            let _ = clone.arg(fleet.config.dir()).arg(&checkout).run().success();
            let flake = format!(
                "{}#nixosConfigurations.alpha.config.system.build.toplevel",
                checkout.display()
            );
            let link = client.work_dir().join("result");
            let link_text = link.display().to_string();
            let _ = client.nix(&["nix", "build", "--out-link", &link_text, &flake]).success();
            let got = fs::read_link(&link).unwrap();
            assert_eq!(got.display().to_string(), system, "{version} from {builder}");
            assert!(!client.built_here().contains(&system), "{version}: downloaded, not built");
        }
    }
}

#[test]
fn a_cache_that_is_down_is_no_failure_of_the_build_and_gets_it_later() {
    let (server, _fleet, cache) = pushing(NixVersion::V2_34);
    fs::write(&cache, "not a folder").unwrap();
    let built = server.build(&[]).success();
    assert!(built.stderr.contains("larder push --status"), "{built}");
    assert!(server.latest("alpha").is_some());
    let status = server.larder(&["push", "--status"]).run();
    assert_eq!(status.code(), 3);
    assert!(status.stdout.contains("main: "), "{status}");
    fs::remove_file(&cache).unwrap();
    let built = server.build(&["--json"]).success();
    let _ = BuildServer::report(&built);
    let base = server.system("alpha").rsplit('/').next().unwrap()[..32].to_owned();
    assert!(cache.join(format!("{base}.narinfo")).exists(), "{built}");
    let status = server.larder(&["push", "--status"]).run();
    assert_eq!(status.stdout.lines().next(), Some("main: nothing waits"), "{status}");
}

#[test]
fn what_is_not_published_is_not_pushed() {
    let (server, _fleet, cache) = pushing(NixVersion::V2_34);
    let _ = server.build(&["--no-publish"]).success();
    let _ = server.build(&["--dry-run"]).success();
    assert!(!cache.exists());
    assert!(!server.store.state_dir().join("gcroots/larder/queue").exists());
}
