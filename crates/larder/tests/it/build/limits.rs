//! The configured jobs and cores hold for the whole run, which is one run of Nix.

use std::fs;

use larder_testkit::NixVersion;

use crate::build_server::SmallFleet;

/// Tells how many run beside it, and does not end before it has seen another one.
const MEET: &str = "echo > $gate/$(echo $out | $builder cut -c12-43); \
    while [ $($builder ls $gate | $builder wc -l) -lt 2 ]; do $builder sleep 0.02; done; ";

/// Tells how many run beside it.
const COUNT: &str = "mine=$gate/run-$(echo $out | $builder cut -c12-43); echo > $mine; \
    $builder ls $gate/ | $builder grep -c ^run- >> $gate/counts; $builder sleep 0.1; $builder rm $mine; ";

#[test]
fn all_hosts_are_realised_by_one_invocation_of_nix() {
    for version in NixVersion::builders() {
        let (server, fleet) = SmallFleet::with_server(version, "");
        // What all need is built once.
        let shared = "# ${make \"shared\" \"echo >> $gate/shared-was-built; echo > $out\"}";
        let _ = fleet.set_hosts(&[("alpha", shared), ("beta", shared), ("gamma", shared)]);
        let log = server.store.work_dir().join("calls");
        let script = format!("echo \"$*\" >> {}\n$REAL \"$@\"", log.display());
        let path = server.path_where("nix-store", &script);
        let build = server.larder(&["build", "--no-publish"]).env("PATH", path);
        let _ = build.run().success();
        let calls = fs::read_to_string(log).unwrap();
        let realised: Vec<&str> = calls
            .lines()
            // Of derivations, that is: rooting what is built names the outputs.
            .filter(|call| call.contains("--realise") && !call.contains("--dry-run"))
            .filter(|call| call.contains(".drv"))
            .collect();
        assert_eq!(realised.len(), 1, "{calls}");
        assert!(realised[0].contains("--keep-going"), "{calls}");
        assert_eq!(realised[0].matches("-nixos-system.drv").count(), 3, "{calls}");
        let built = fs::read_to_string(server.gate().join("shared-was-built")).unwrap();
        assert_eq!(built.lines().count(), 1);
    }
}

#[test]
fn a_build_gets_the_configured_number_of_cores() {
    for version in NixVersion::builders() {
        let (server, fleet) = SmallFleet::with_server(version, "cores = 3");
        let _ = fleet.set_hosts(&[("alpha", "echo $NIX_BUILD_CORES > $gate/cores;")]);
        let _ = server.build(&[]).success();
        assert_eq!(fs::read_to_string(server.gate().join("cores")).unwrap(), "3\n");
    }
}

#[test]
fn as_many_builds_run_at_once_as_there_may_be_jobs() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "max-jobs = 2");
    let _ = fleet.set_hosts(&[("alpha", MEET), ("beta", MEET)]);
    let _ = server.build(&[]).success();
}

#[test]
fn never_more_builds_run_at_once_than_there_may_be_jobs_over_all_hosts() {
    for (version, most) in [(NixVersion::V2_26, 1), (NixVersion::V2_34, 2)] {
        let (server, fleet) = SmallFleet::with_server(version, &format!("max-jobs = {most}"));
        let _ = fleet.set_hosts(&[("a", COUNT), ("b", COUNT), ("c", COUNT), ("d", COUNT)]);
        let _ = server.build(&[]).success();
        let counts = fs::read_to_string(server.gate().join("counts")).unwrap();
        let counts: Vec<u32> = counts.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(counts.len(), 4, "{counts:?}");
        assert!(counts.iter().all(|count| *count <= most), "{counts:?}");
    }
}
