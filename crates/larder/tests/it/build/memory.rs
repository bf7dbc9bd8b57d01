//! Builds that really take memory, in a control group that really has none left.

use std::{fs, time::Duration};

use larder_testkit::NixVersion;
use serde_json::Value;

use crate::build_server::{BuildServer, SmallFleet};

const SOON: Duration = Duration::from_secs(60);

/// Says that it was tried, and takes 130 MB for five seconds once so many of these are there.
fn greedy(name: &str, together: usize) -> String {
    format!(
        "echo {name} >> $gate/tries; echo > $gate/here-{name}; \
         while [ $($builder ls $gate | $builder grep -c ^here-) -lt {together} ]; do $builder sleep 0.02; done; \
         $builder timeout 5 $builder dd if=/dev/zero of=/dev/null bs=130M || code=$?; \
         [ $code = 143 ] || exit $code; "
    )
}

/// One that says that it was tried.
const COUNTED: &str = "echo shared >> $gate/tries; echo > $out";

fn tries(server: &BuildServer, name: &str) -> usize {
    let tries = fs::read_to_string(server.gate().join("tries")).unwrap_or_default();
    tries.lines().filter(|line| *line == name).count()
}

/// Whether a run can have a control group of its own here. Where not, that is said, since the test then shows less.
fn has_groups() -> bool {
    let there = larder_nix::cgroup::Hierarchies::find();
    let own = larder_nix::cgroup::OwnGroup::create(&there, Some(200_000_000));
    if let Err(error) = &own {
        larder_testkit::lacking(error);
    }
    own.is_ok()
}

fn host<'a>(report: &'a Value, name: &str) -> &'a Value {
    let hosts = report["hosts"].as_array().unwrap();
    hosts.iter().find(|host| host["host"] == name).unwrap()
}

#[test]
fn two_that_do_not_fit_together_are_built_one_after_the_other_and_nothing_finished_twice() {
    if !has_groups() {
        return;
    }
    for version in NixVersion::builders() {
        let bounds = "max-jobs = 2\nmemory = \"200MB\"";
        let (server, fleet) = SmallFleet::with_server(version, bounds);
        let _ = fleet.write_hosts(&format!(
            "alpha = make \"nixos-system\" \"echo ${{make \"shared\" \"{COUNTED}\"}} > $out\";\n\
             beta = make \"nixos-system\" \"{} echo beta > $out\";\n\
             gamma = make \"nixos-system\" \"{} echo gamma > $out\";\n",
            greedy("beta", 2),
            greedy("gamma", 2),
        ));
        let built = server.build(&["--json"]).success();
        let report = BuildServer::report(&built);
        for name in ["alpha", "beta", "gamma"] {
            assert_eq!(host(&report, name)["outcome"]["outcome"], "built", "{built}");
        }
        assert_eq!(tries(&server, "shared"), 1);
        assert_eq!(
            tries(&server, "beta") + tries(&server, "gamma"),
            3,
            "one of them died: {built}"
        );
        let [retry] = report["retries"].as_array().unwrap().as_slice() else {
            panic!("{report:#}")
        };
        assert_eq!((&retry["jobs"], &retry["succeeded"]), (&1.into(), &true.into()));
        assert_eq!(
            retry["why"],
            serde_json::json!({ "of": "memory", "inferred": false }),
            "{built}"
        );
        assert!(built.stderr.contains("died of memory"), "{built}");
        assert_eq!(report["built"], 4);
        assert!(most(&report) <= 200_000_000, "the whole tree was held to it: {report:#}");
        assert!(most(&report) > 130_000_000, "and nearly got there: {report:#}");

        // The next night knows what they take, and nothing has to die.
        let _ = fleet.move_nixpkgs("2");
        let built = server.build(&["--update", "--json"]).success();
        assert_eq!(BuildServer::report(&built)["retries"], serde_json::json!([]), "{built}");
        assert_eq!(tries(&server, "beta") + tries(&server, "gamma"), 5, "{built}");
    }
}

/// The peak of the whole run, as the kernel counted it.
fn most(report: &Value) -> u64 {
    let peaks = report["peaks"].as_array().unwrap();
    let counted = peaks.iter().find(|peak| peak["how"] == "counted");
    counted.unwrap_or_else(|| panic!("{report:#}"))["bytes"].as_u64().unwrap()
}

#[test]
fn what_never_fits_fails_for_want_of_memory_and_says_what_it_took_while_others_are_published() {
    if !has_groups() {
        return;
    }
    let bounds = "max-jobs = 4\nmemory = \"200MB\"";
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, bounds);
    // Takes half of it for a while, so that there is something to be seen.
    let hog = "echo hog >> $gate/tries; \
        $builder dd if=/dev/zero of=/dev/null bs=100M count=25; \
        $builder dd if=/dev/zero of=/dev/null bs=400M count=2; echo > $out";
    let _ = fleet.write_hosts(&format!(
        "alpha = make \"nixos-system\" \"echo > $out\";\n\
         beta = make \"nixos-system\" \"cp ${{make \"hog\" \"{hog}\"}} $out\";\n"
    ));
    let built = server.build(&[]);
    assert_eq!(built.code(), 3, "{built}");
    assert!(built.stdout.contains("-hog.drv failed for want of memory, having taken"), "{built}");
    assert_eq!(tries(&server, "hog"), 3, "half the jobs, then one, which is alone: {built}");
    assert!(server.rev("alpha").is_some() && server.rev("beta").is_none());
}

#[test]
fn a_builder_killed_from_outside_is_tried_again_and_memory_is_called_an_inference() {
    for version in NixVersion::all() {
        let (server, fleet) = SmallFleet::with_server(version, "");
        let hang = "echo beta >> $gate/tries; if [ ! -e $gate/killed ]; then echo > $gate/waiting; \
                    while true; do $builder sleep 0.05; done; fi;";
        let _ = fleet.set_hosts(&[("alpha", ""), ("beta", hang)]);
        let mut running = server.larder(&["build", "--json"]).spawn();
        let waiting = server.gate().join("waiting");
        running.wait_for("the build", SOON, |_| waiting.exists().then_some(()));
        let of_beta = |(pid, command): (i32, String)| {
            (command.contains("-euc") && command.contains("gate/killed")).then_some(pid)
        };
        let builder = server.processes().into_iter().find_map(of_beta).unwrap();
        fs::write(server.gate().join("killed"), "").unwrap();
        let builder = rustix::process::Pid::from_raw(builder).unwrap();
        rustix::process::kill_process(builder, rustix::process::Signal::KILL).unwrap();
        assert_eq!(running.wait(SOON), 0, "{}", running.output());
        let said = running.output();
        assert!(said.contains("seems to have died of memory"), "Nix {version}: {said}");
        assert!(said.contains("\"inferred\": true"), "Nix {version}: {said}");
        assert_eq!(tries(&server, "beta"), 2);
    }
}

#[test]
fn a_host_whose_evaluation_takes_too_much_fails_alone_and_says_so() {
    if !has_groups() {
        return;
    }
    for version in NixVersion::builders() {
        let (server, fleet) = SmallFleet::with_server(version, "memory = \"250MB\"");
        let _ = fleet.write_hosts(
            "alpha = make \"nixos-system\" \"echo > $out\";\n\
             beta = builtins.seq (builtins.length (builtins.genList (x: x) 60000000)) null;\n",
        );
        let built = server.build(&["--json"]);
        assert_eq!(built.code(), 3, "{built}");
        let report = BuildServer::report(&built);
        assert_eq!(host(&report, "alpha")["outcome"]["outcome"], "built");
        let failed = &host(&report, "beta")["outcome"];
        assert_eq!(failed["outcome"], "evaluation-failed", "{built}");
        assert!(
            failed["message"].as_str().unwrap().contains("the evaluation died of memory"),
            "{built}"
        );
        let of_beta = |peak: &&Value| peak["name"] == "evaluation of beta";
        let peak = report["peaks"].as_array().unwrap().iter().find(of_beta);
        let peak = peak.unwrap_or_else(|| panic!("{built}"));
        assert_eq!(peak["how"], "died");
        assert!(peak["bytes"].as_u64().unwrap() > 0, "{built}");
    }
}
