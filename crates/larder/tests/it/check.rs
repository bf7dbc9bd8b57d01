//! `larder check` evaluates a working copy as it is, and builds nothing.

use std::fs;

use larder_testkit::{Finished, Nix, NixVersion, Program};

use crate::build_server::{BuildServer, SmallFleet};

/// Run in the fleet's working copy, on a machine without a configuration.
fn check(server: &BuildServer, fleet: &SmallFleet, arguments: &[&str]) -> Finished {
    unconfigured(server).arg("check").args(arguments).dir(fleet.config.dir()).run()
}

fn unconfigured(server: &BuildServer) -> Program {
    server.larder(&[]).env("LARDER_CONFIG", server.store.work_dir().join("no-such-file"))
}

/// The store paths that a report names, none of which was built.
fn unbuilt(server: &BuildServer, report: &serde_json::Value) -> Vec<String> {
    let hosts = report["hosts"].as_array().unwrap();
    let paths = hosts.iter().filter_map(|host| host["storePath"].as_str());
    let paths: Vec<String> = paths.map(|path| format!("/nix/store/{path}")).collect();
    assert!(paths.iter().all(|path| !server.store.is_valid(path)), "{paths:?}");
    paths
}

fn evaluates_uncommitted_edits(version: NixVersion) {
    let (server, fleet) = SmallFleet::with_server(version, "");
    let _ = check(&server, &fleet, &[]).success();
    let before = BuildServer::report(&check(&server, &fleet, &["--json"]).success());
    let hosts = fleet.config.read("hosts.nix");
    fleet.config.write("hosts.nix", hosts.replace("echo \"beta\"", "echo \"another beta\""));
    let status = fleet.config.git(&["status", "--porcelain"]).stdout;
    let after = BuildServer::report(&check(&server, &fleet, &["--json"]).success());
    let (before, after) = (unbuilt(&server, &before), unbuilt(&server, &after));
    assert_eq!((before.len(), &before[0], &before[2]), (3, &after[0], &after[2]));
    assert_ne!(before[1], after[1]);
    assert_eq!(fleet.config.git(&["status", "--porcelain"]).stdout, status, "nothing is written");
    assert!(!fleet.config.dir().join("flake.lock").exists());
    assert!(!server.state_dir().exists() && !server.rev_dir().exists());
}

#[test]
fn uncommitted_edits_are_evaluated_and_nothing_is_built_or_written_by_2_26() {
    evaluates_uncommitted_edits(NixVersion::V2_26);
}

#[test]
fn uncommitted_edits_are_evaluated_and_nothing_is_built_or_written_by_2_34() {
    evaluates_uncommitted_edits(NixVersion::V2_34);
}

#[test]
fn a_host_that_does_not_evaluate_is_told_beside_the_others() {
    for version in NixVersion::builders() {
        let (server, fleet) = SmallFleet::with_server(version, "");
        let hosts = fleet.config.read("hosts.nix");
        let broken =
            hosts.replace("\"beta\" = ", "\"beta\" = throw \"an option that is gone\"; \"x\" = ");
        fleet.config.write("hosts.nix", broken);
        let checked = check(&server, &fleet, &[]);
        assert_eq!(checked.code(), 3, "{checked}");
        assert!(checked.stdout.contains("an option that is gone"), "{checked}");
        assert!(checked.stdout.contains("alpha  evaluates"), "{checked}");
        assert!(checked.stdout.contains("3 of 4 hosts good"), "{checked}");
        let report = BuildServer::report(&check(&server, &fleet, &["--json"]));
        assert_eq!(report["hosts"][1]["outcome"]["outcome"], "evaluation-failed");
        assert_eq!(unbuilt(&server, &report).len(), 3);
        let _ = check(&server, &fleet, &["alpha", "gamma"]).success();
    }
}

#[test]
fn a_host_that_would_not_build_evaluates() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = fleet.set_hosts(&[("alpha", "exit 1;")]);
    let _ = check(&server, &fleet, &[]).success();
}

#[test]
fn without_a_flake_here_the_configured_one_is_checked() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let elsewhere = server.store.work_dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let configured = server.larder(&["check", "--json"]).dir(&elsewhere).run().success();
    assert_eq!(unbuilt(&server, &BuildServer::report(&configured)).len(), 3);
    let named = ["check", "--json", "--flake"];
    let by_url = unconfigured(&server).args(named).arg(fleet.config.flake_url()).dir(&elsewhere);
    assert_eq!(unbuilt(&server, &BuildServer::report(&by_url.run().success())).len(), 3);
    let relative = unconfigured(&server).args(named).arg("../config").dir(&elsewhere);
    assert_eq!(unbuilt(&server, &BuildServer::report(&relative.run().success())).len(), 3);
    let none = unconfigured(&server).arg("check").dir(&elsewhere).run().failure();
    assert!(none.stderr.contains("no flake is configured"), "{none}");
}

#[test]
fn a_plain_folder_and_a_subfolder_of_a_repository_are_checked_as_they_are() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    let plain = server.store.work_dir().join("plain");
    let sub = fleet.config.dir().join("sub");
    for folder in [&plain, &sub] {
        fs::create_dir(folder).unwrap();
        for file in ["flake.nix", "hosts.nix"] {
            fs::write(folder.join(file), fleet.config.read(file)).unwrap();
        }
    }
    let _ = fleet.config.git(&["add", "--all"]);
    for folder in [&plain, &sub] {
        let checked = unconfigured(&server).args(["check", "--json"]).dir(folder).run().success();
        assert_eq!(unbuilt(&server, &BuildServer::report(&checked)).len(), 3);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
    }
}

#[test]
fn an_unknown_host_is_an_error_that_names_those_there_are() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let refused = check(&server, &fleet, &["delta"]).failure();
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("it has alpha, beta, gamma"), "{refused}");
}
