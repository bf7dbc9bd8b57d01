//! What built is published: a `.rev` file, a signed revision, and roots.

use std::{collections::BTreeSet, fs, path::Path};

use larder_fleet::{
    ledger::Ledger,
    night::ledger_file,
    revision::{Circumstances, Revision},
};
use larder_formats::{envelope::Envelope, signature::PublicKey, store_path::StoreDir};
use larder_testkit::{Nix, NixVersion, SampleFleet, fleet::HOSTS, nix::system};

use crate::build_server::{BuildServer, SmallFleet};

const ALL: [&str; 3] = ["alpha", "beta", "gamma"];

#[test]
fn what_is_published_names_the_lock_the_commit_and_the_system_and_is_signed() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    fleet.lock(&server.store);
    let _ = server.build(&[]).success();
    let revision = server.latest("alpha").unwrap();
    assert_eq!(revision.commit.as_deref(), Some(fleet.config.rev().as_str()));
    assert_eq!(revision.nixpkgs.as_deref(), Some(fleet.nixpkgs.rev().as_str()));
    assert_eq!(revision.lock, fleet.config.read("flake.lock"));
    assert_eq!(revision.inputs.keys().collect::<Vec<_>>(), ["nixpkgs"]);
    assert_eq!(revision.sources.len(), 1, "the source of nixpkgs");
    let path = server.system("alpha");
    let query = |what: &str| server.store.nix(&["nix-store", "-q", what, &path]).success();
    assert_eq!(query("--hash").text(), revision.nar_hash.to_string());
    assert_eq!(query("--size").text(), revision.closure_size.to_string());

    let ledger = Ledger::read(&ledger_file(&server.state_dir())).unwrap().unwrap();
    let host = "alpha".parse().unwrap();
    let envelope = Envelope::parse(&ledger.latest_envelope(&host).unwrap().unwrap()).unwrap();
    let key = server.fleet_key().display().to_string();
    let key = server.larder(&["key", "public", &key]).run().success();
    let keys: [PublicKey; 1] = [key.text().parse().unwrap()];
    let here = Circumstances {
        keys: &keys,
        host: &host,
        system: &system(),
        store_dir: &StoreDir::default(),
        now: revision.time,
        accepted: None,
        allow_older: false,
    };
    assert_eq!(Revision::accept(&envelope, &here).unwrap(), revision);
}

#[test]
fn a_rev_file_is_the_commit_of_nixpkgs_alone_and_anybody_may_read_it() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    let _ = server.build(&[]).success();
    for host in ALL {
        assert_eq!(server.rev(host).unwrap(), format!("{}\n", fleet.nixpkgs.rev()));
        let mode = fs::metadata(server.rev_dir().join(format!("{host}.rev"))).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o644);
    }
    assert_eq!(names(&server.rev_dir()), ["alpha.rev", "beta.rev", "gamma.rev"].map(str::to_owned));
}

#[test]
fn what_is_published_can_be_served_by_who_may_not_write_to_the_state_folder() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = server.build(&[]).success();
    server.serve("listen = [\"127.0.0.1:0\"]");
    let read_only =
        "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; exec \"$2\" serve";
    let mut serving = server
        .inside_mount_namespace()
        .args(["sh", "-euc", read_only, "sh"])
        .arg(server.state_dir())
        .arg(env!("CARGO_BIN_EXE_larder"))
        .spawn();
    let line = serving.wait_for_line("listening on ");
    let address = line.split_whitespace().last().unwrap();
    let get = |path: &str| {
        let url = format!("http://{address}{path}");
        larder_testkit::Program::new("curl").args(["--silent", "--fail", &url]).run().success()
    };
    assert_eq!(get("/fleet/alpha.rev").text(), fleet.nixpkgs.rev());
    assert!(Envelope::parse(&get("/fleet/alpha.json").stdout).is_ok());
}

#[test]
fn updating_moves_the_lock_and_the_rev_file_follows_but_the_repository_stays_as_it_is() {
    for version in NixVersion::builders() {
        let (server, fleet) = SmallFleet::with_server(version, "");
        fleet.lock(&server.store);
        let (old, head) = (fleet.nixpkgs.rev(), fleet.config.rev());
        let new = fleet.move_nixpkgs("2");
        let _ = server.build(&[]).success();
        assert_eq!(server.rev("alpha").unwrap().trim(), old, "the lock holds it");
        let before = server.system("alpha");
        let updated = server.build(&["--update"]).success();
        assert!(updated.stdout.contains("nixpkgs: "), "{updated}");
        assert!(updated.stdout.contains(&new[..7]), "{updated}");
        assert_eq!(server.rev("alpha").unwrap().trim(), new);
        assert_eq!(server.latest("alpha").unwrap().nixpkgs, Some(new));
        assert_ne!(server.system("alpha"), before);
        assert_eq!(fleet.config.rev(), head);
        assert_eq!(fleet.config.git(&["status", "--porcelain"]).text(), "");
    }
}

#[test]
fn a_dry_run_says_what_it_would_do_and_builds_and_publishes_nothing() {
    let (server, _fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let planned = server.build(&["--dry-run"]).success();
    assert_eq!(planned.stdout.matches("1 to build").count(), 3, "{planned}");
    let report = BuildServer::report(&server.build(&["--dry-run", "--json"]).success());
    for host in report["hosts"].as_array().unwrap() {
        assert_eq!(host["plan"]["build"].as_array().unwrap().len(), 1, "{host}");
        assert!(host["revision"].is_null() && host["outcome"].is_null(), "{host}");
        let path = format!("/nix/store/{}", host["storePath"].as_str().unwrap());
        assert!(!server.store.is_valid(&path));
    }
    assert!(!server.rev_dir().exists());
    assert!(!ledger_file(&server.state_dir()).exists());
}

#[test]
fn without_publication_systems_are_built_and_nobody_is_told() {
    let (server, _fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    // It needs no key either.
    fs::remove_file(server.fleet_key()).unwrap();
    let built = server.build(&["--no-publish", "--json"]).success();
    let report = BuildServer::report(&built);
    assert_eq!(report["built"], 3);
    for host in report["hosts"].as_array().unwrap() {
        assert!(host["revision"].is_null());
        let path = format!("/nix/store/{}", host["storePath"].as_str().unwrap());
        assert!(server.store.is_valid(&path));
    }
    assert!(!server.rev_dir().exists());
    assert!(!ledger_file(&server.state_dir()).exists());
}

#[test]
fn a_missing_fleet_key_is_told_with_the_command_that_makes_one() {
    let (server, _fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    fs::remove_file(server.fleet_key()).unwrap();
    let refused = server.build(&[]).failure();
    assert_eq!(refused.code(), 1);
    let key = server.fleet_key().display().to_string();
    assert!(
        refused.stderr.contains(&format!("larder key generate NAME --output {key}")),
        "{refused}"
    );
}

#[test]
fn published_systems_and_their_inputs_survive_the_collector() {
    for version in NixVersion::builders() {
        let (server, _fleet) = SmallFleet::with_server(version, "");
        let _ = server.build(&[]).success();
        server.collect_garbage();
        for host in ALL {
            let revision = server.latest(host).unwrap();
            assert!(server.store.is_valid(&server.system(host)));
            for source in revision.sources {
                assert!(server.store.is_valid(&format!("/nix/store/{source}")));
            }
        }
    }
}

#[test]
fn as_many_different_systems_of_a_host_are_kept_as_configured_and_older_ones_are_collected() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "keep-revisions = 2");
    let mut systems = Vec::new();
    for generation in ["1", "2", "3"] {
        let _ = fleet.move_nixpkgs(generation);
        let _ = server.build(&["alpha", "--update"]).success();
        systems.push(server.system("alpha"));
        // A run in which nothing changes uses up nothing.
        let _ = server.build(&["alpha"]).success();
    }
    assert_eq!(systems.iter().collect::<BTreeSet<_>>().len(), 3);
    server.collect_garbage();
    let kept: Vec<bool> = systems.iter().map(|path| server.store.is_valid(path)).collect();
    assert_eq!(kept, [false, true, true]);
}

#[test]
fn without_a_lock_in_the_repository_only_an_update_moves_anything() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = server.build(&[]).success();
    let before = server.system("alpha");
    let _ = fleet.move_nixpkgs("2");
    let plain = server.build(&[]).success();
    assert_eq!(server.system("alpha"), before, "{plain}");
    assert!(plain.stdout.contains("started from the lock that run 1 published"), "{plain}");
    let _ = server.build(&["--update"]).success();
    assert_ne!(server.system("alpha"), before);
}

#[test]
fn a_run_in_which_nothing_changed_is_a_new_revision_of_the_same_system() {
    let (server, _fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    let _ = server.build(&[]).success();
    let first = server.latest("beta").unwrap();
    let again = server.build(&["--json"]).success();
    let report = BuildServer::report(&again);
    assert_eq!(report["built"], 0);
    assert_eq!(report["hosts"][1]["outcome"]["outcome"], "unchanged", "{report:#}");
    let second = server.latest("beta").unwrap();
    assert_eq!(second.store_path, first.store_path);
    assert!(second.number > first.number, "so that it does not expire");
}

#[test]
fn only_the_hosts_named_are_built() {
    let (mut server, _fleet) = SmallFleet::with_server(NixVersion::V2_34, "hosts = [\"beta\"]");
    let _ = server.build(&[]).success();
    assert_eq!(names(&server.rev_dir()), ["beta.rev".to_owned()]);
    let _ = server.build(&["gamma", "beta", "gamma"]).success();
    assert_eq!(names(&server.rev_dir()), ["beta.rev", "gamma.rev"].map(str::to_owned));
    server.set("");
    let refused = server.build(&["delta"]).failure();
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("no host `delta`: it has alpha, beta, gamma"), "{refused}");
}

fn builds_real_software(version: NixVersion) {
    let mut server = BuildServer::new(version);
    let fleet = SampleFleet::create(&server.store.work_dir().join("fleet"));
    server.configure(&fleet.config.flake_url(), "max-jobs = 2");
    let built = server.build(&[]).success();
    assert!(built.stdout.contains("3 of 3 hosts good"), "{built}");
    for host in HOSTS {
        assert_eq!(server.rev(host).unwrap().trim(), fleet.nixpkgs.rev());
        let closure = server.store.closure(&server.system(host));
        assert!(closure.len() > fleet.programs_of(host).len(), "{host}: {closure:?}");
    }
}

#[test]
fn a_fleet_of_real_software_is_built_and_published_by_2_26() {
    builds_real_software(NixVersion::V2_26);
}

#[test]
fn a_fleet_of_real_software_is_built_and_published_by_2_34() {
    builds_real_software(NixVersion::V2_34);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
