//! One host's failure leaves the others as they would be, and is told truly.

use std::fs;

use insta::assert_snapshot;
use larder_testkit::{Nix, NixVersion, nix::busybox};

use crate::build_server::{BuildServer, SmallFleet};

const FAIL: &str = "echo compiling; echo 'main.c:42: error: no such thing' >&2; exit 3;";

/// A text without what is different in every run: hashes, commits, days, what it took and the server's folder.
fn steady(server: &BuildServer, text: &str) -> String {
    let folder = server.store.work_dir();
    let today = server.latest("alpha").unwrap().time.strftime("%Y-%m-%d").to_string();
    let taken = |line: &&str| line.starts_with("took ") || line.starts_with("most memory: ");
    let lines: Vec<&str> = text.lines().filter(|line| !taken(line)).collect();
    let text = lines.join("\n").replace(&today, "<day>");
    let text = text.replace(&folder.display().to_string(), "<server>");
    let text = text.replace("<server>/state/work", "<tree>");
    let text = text.replace(&folder.parent().unwrap().display().to_string(), "<store>");
    let mut steady = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            word.push(c);
            continue;
        }
        steady.push_str(if word.len() >= 32 { "<hash>" } else { &word });
        word.clear();
        steady.push(c);
    }
    steady.truncate(steady.trim_end().len());
    match steady.split_once("/state/log/") {
        Some((before, _)) => format!("{before}/state/log/<time>.log"),
        None => steady,
    }
}

/// A fleet whose host alpha builds, beta does not evaluate, and gamma does not build.
fn broken(fleet: &SmallFleet) {
    let _ = fleet.write_hosts(&format!(
        "alpha = make \"nixos-system\" \"echo alpha > $out\";\n\
         beta = throw \"beta wants an option that is gone\";\n\
         gamma = make \"nixos-system\" ''cp ${{make \"broken\" ''{FAIL}''}} $out'';\n",
    ));
}

#[test]
fn hosts_that_fail_leave_the_others_untouched_and_the_summary_says_which_and_why() {
    for version in NixVersion::builders() {
        let (server, fleet) = SmallFleet::with_server(version, "");
        fleet.lock(&server.store);
        let _ = server.build(&[]).success();
        let (old_commit, old) = (fleet.nixpkgs.rev(), ["beta", "gamma"].map(|h| server.system(h)));

        let new_commit = fleet.move_nixpkgs("2");
        broken(&fleet);
        let built = server.build(&["--update"]);
        assert_eq!(built.code(), 3, "{built}");
        assert_snapshot!(
            format!("summary_of_a_run_with_failures_{version}"),
            steady(&server, &built.stdout)
        );
        assert_eq!(server.rev("alpha").unwrap().trim(), new_commit);
        for host in ["beta", "gamma"] {
            assert_eq!(server.rev(host).unwrap().trim(), old_commit, "the last good one of {host}");
        }
        assert_eq!(["beta", "gamma"].map(|host| server.system(host)), old);
        server.collect_garbage();
        assert!(old.iter().all(|path| server.store.is_valid(path)));
    }
}

#[test]
fn the_report_for_programs_says_the_same_as_the_summary() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    broken(&fleet);
    let built = server.build(&["--json"]);
    assert_eq!(built.code(), 3, "{built}");
    let report = BuildServer::report(&built);
    let [alpha, beta, gamma] = report["hosts"].as_array().unwrap().as_slice() else {
        panic!("three hosts: {report:#}")
    };
    assert_eq!(alpha["outcome"]["outcome"], "built");
    assert_eq!(alpha["revision"], 1);
    assert_eq!(beta["outcome"]["outcome"], "evaluation-failed");
    assert!(beta["outcome"]["message"].as_str().unwrap().contains("an option that is gone"));
    assert!(beta["revision"].is_null() && beta["storePath"].is_null());
    assert_eq!(gamma["outcome"]["outcome"], "build-failed");
    assert!(gamma["revision"].is_null());
    let failures = gamma["outcome"]["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "what only waited for it did not fail itself: {failures:?}");
    assert!(failures[0]["derivation"].as_str().unwrap().ends_with("-broken.drv"));
    let lines = failures[0]["lastLines"].as_array();
    assert_eq!(lines.unwrap().as_slice(), ["compiling", "main.c:42: error: no such thing"]);
    assert_eq!(report["commit"], fleet.config.rev());
    let log = fs::read_to_string(report["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("main.c:42: error"), "the whole log is kept");
}

#[test]
fn a_long_log_is_cut_to_its_end_and_the_whole_is_kept() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    let _ = fleet
        .set_hosts(&[("alpha", "for i in $($builder seq 1 500); do echo line $i; done; exit 1;")]);
    let built = server.build(&[]);
    assert_eq!(built.code(), 3);
    assert!(
        built.stdout.contains("  line 500\n") && !built.stdout.contains("line 400\n"),
        "{built}"
    );
    let named = built.stdout.lines().find_map(|line| line.strip_prefix("the whole log: "));
    let log = fs::read_to_string(named.unwrap()).unwrap();
    assert!(log.contains("line 1\"") && log.contains("line 500\""));
}

#[test]
fn a_rev_file_that_a_crash_left_behind_the_ledger_is_mended_even_if_the_host_fails_now() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    fleet.lock(&server.store);
    let _ = server.build(&[]).success();
    let good = server.rev("beta").unwrap();
    broken(&fleet);
    fs::remove_file(server.rev_dir().join("beta.rev")).unwrap();
    fs::write(server.rev_dir().join("gamma.rev"), "0123456789012345678901234567890123456789\n")
        .unwrap();
    assert_eq!(server.build(&[]).code(), 3);
    assert_eq!(server.rev("beta").unwrap(), good);
    assert_eq!(server.rev("gamma").unwrap(), good);
}

#[test]
fn a_name_that_would_lead_elsewhere_is_reported_touches_no_file_and_stops_no_other_host() {
    for name in ["a/b", "..", "../../escape", "a b", "a\"b", "-x", "$(echo x)", "", "a\\nb"] {
        let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
        let _ = fleet.set_hosts(&[("alpha", ""), (name, "")]);
        let files =
            |server: &BuildServer| {
                let listed = larder_testkit::Program::new("find")
                    .arg(server.store.work_dir())
                    .args(["-not", "-path", "*/state/*", "-not", "-path", "*/.git/*"]);
                listed.run().success().lines()
            };
        let before = files(&server);
        let refused = server.build(&[]).failure();
        assert_eq!(refused.code(), 3, "{refused}");
        assert!(refused.stdout.contains("cannot be a host's name"), "{refused}");
        assert!(server.rev("alpha").is_some(), "{name:?}");
        let mut after = files(&server);
        let expected = ["/state", "/alpha.rev", "/rev"];
        after.retain(|path| !expected.iter().any(|end| path.ends_with(end)));
        assert_eq!(after, before, "{name:?}");
    }
}

#[test]
fn a_configured_host_that_is_gone_from_the_flake_is_told_and_stops_no_other() {
    let (server, _fleet) =
        SmallFleet::with_server(NixVersion::V2_34, "hosts = [\"alpha\", \"gone\"]");
    let run = server.build(&[]).failure();
    assert_eq!(run.code(), 3, "{run}");
    assert!(run.stdout.contains("\"gone\" was left out"), "{run}");
    assert!(server.rev("alpha").is_some() && server.rev("beta").is_none());
}

#[test]
fn a_host_that_reads_files_of_the_server_is_refused() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = fleet.write_hosts(
        "alpha = make \"nixos-system\" \"echo ${builtins.readFile /etc/hostname} > $out\";\n\
         beta = make \"nixos-system\" \"echo beta > $out\";\n",
    );
    let run = server.build(&[]).failure();
    assert_eq!(run.code(), 3, "{run}");
    assert!(run.stdout.contains("alpha cannot be evaluated"), "{run}");
    assert!(server.rev("alpha").is_none() && server.rev("beta").is_some());
}

#[test]
fn a_host_whose_path_is_known_only_once_it_is_built_is_refused() {
    for version in [NixVersion::V2_26, NixVersion::V2_34] {
        let (server, fleet) = SmallFleet::with_server(version, "");
        let shell = busybox();
        server.store.configure(&format!(
            "extra-experimental-features = ca-derivations\nsandbox-paths = /bin/sh={shell} {shell}",
            shell = shell.display()
        ));
        let addressed = "derivation ((make \"part\" \"echo part > $out\").drvAttrs // { \
             __contentAddressed = true; outputHashMode = \"recursive\"; outputHashAlgo = \"sha256\"; })";
        let _ = fleet.write_hosts(&format!(
            "alpha = {addressed};\nbeta = make \"nixos-system\" \"cat ${{{addressed}}} > $out\";\n\
             gamma = make \"nixos-system\" \"echo gamma > $out\";\n"
        ));
        let run = server.build(&[]).failure();
        assert_eq!(run.code(), 3, "{run}");
        let reason = "where its system will lie in the store is known only once it is built";
        assert_eq!(run.stdout.matches(reason).count(), 2, "{run}");
        assert!(server.rev("gamma").is_some());
    }
}

#[test]
fn a_host_that_cannot_be_published_keeps_no_other_from_it_and_no_later_run() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = fleet.set_hosts(&[("alpha", ""), ("beta", "")]);
    let in_the_way = server.rev_dir().join("alpha.rev");
    std::fs::create_dir_all(in_the_way.join("full")).unwrap();
    let run = server.build(&[]).failure();
    assert_eq!(run.code(), 3, "{run}");
    assert!(run.stdout.contains("alpha was built, but could not be published"), "{run}");
    assert!(run.stdout.contains("alpha.rev"), "{run}");
    assert!(server.rev("beta").is_some());
    std::fs::remove_dir_all(&in_the_way).unwrap();
    let _ = server.build(&["beta"]).success();
    assert!(server.rev("alpha").is_some(), "mended by the next run, whichever host that is for");
}

#[test]
fn a_host_may_be_called_as_one_of_the_files_of_a_run() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = fleet.set_hosts(&[("result", ""), ("result-2", ""), ("fleet.example.org", "")]);
    let _ = server.build(&[]).success();
    server.collect_garbage();
    assert!(server.store.is_valid(&server.system("result")));
    assert!(server.rev("fleet.example.org").is_some());
}

#[test]
fn a_flake_without_hosts_is_an_error() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    let _ = fleet.set_hosts(&[]);
    let refused = server.build(&[]).failure();
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("no nixosConfigurations"), "{refused}");
}
