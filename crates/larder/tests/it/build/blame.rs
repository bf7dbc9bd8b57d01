//! What is an input's fault, and what is not.

use larder_testkit::NixVersion;

use super::parts::{FAIL, Parts, held, outcomes};
use crate::build_server::BuildServer;

#[test]
fn what_fails_for_the_moment_is_blamed_on_no_input() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let theme = parts.set("theme", "echo theme 2");
    let _ = parts.set("games", "echo 'curl: (6) Could not resolve host: example.org' >&2; exit 1");
    let report = parts.night();
    assert_eq!(held(&report), [""; 0], "{report:#}");
    assert_eq!(outcomes(&report), ["built", "build-failed", "unchanged"]);
    assert_eq!(parts.locked("alpha", "theme"), theme);
}

#[test]
fn what_fails_for_the_moment_night_after_night_is_believed_no_longer() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let good = parts.repo("games").rev();
    let _ = parts.set("games", "echo 'curl: (22) unable to download: 404' >&2; exit 1");
    for night in ["1", "2", "3"] {
        let theme = parts.set("theme", &format!("echo theme {night}"));
        let report = parts.night();
        assert_eq!(held(&report), [""; 0], "night {night}: {report:#}");
        assert_eq!(parts.locked("alpha", "theme"), theme);
    }
    let report = parts.night();
    assert_eq!(held(&report), ["games"], "{report:#}");
    assert_eq!(parts.locked("beta", "games"), good);
}

#[test]
fn an_evaluation_that_fails_for_the_moment_night_after_night_is_believed_no_longer() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let _ = parts.set("games", "throws: unable to download");
    for _ in 1..=3 {
        let report = parts.night();
        assert_eq!(held(&report), [""; 0], "{report:#}");
        assert_eq!(outcomes(&report), ["unchanged", "evaluation-failed", "unchanged"]);
    }
    let report = parts.night();
    assert_eq!(held(&report), ["games"], "{report:#}");
}

#[test]
fn that_the_old_lock_fails_for_the_moment_is_not_taken_for_its_failing() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let theme = parts.repo("theme").rev();
    // What was good is gone from the store, and cannot be had again just now.
    alpha_fails_while_down(&parts);
    let _ = parts.set("tools", FAIL);
    let _ = parts.set("theme", "echo theme 2");
    let report = parts.night();
    assert_eq!(held(&report), [""; 0], "{report:#}");
    assert!(report["lock"]["undecided"].is_string(), "{report:#}");
    assert_eq!(parts.locked("gamma", "theme"), theme);
}

#[test]
fn an_evaluation_that_somebody_killed_is_done_again_and_blamed_on_no_input() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let left = parts.server.gate().join("kills");
    let script = format!(
        "case \"$*\" in *eval*beta*) left=$(cat {left}); [ $left = 0 ] || {{ echo $((left - 1)) > {left}; kill -9 $$; }};; esac
         $REAL \"$@\"",
        left = left.display()
    );
    let path = parts.server.path_where("nix", &script);
    let night = |kills: &str| {
        std::fs::write(&left, kills).unwrap();
        let night = parts.server.larder(&["build", "--update", "--json"]).env("PATH", &path).run();
        assert_eq!(std::fs::read_to_string(&left).unwrap().trim(), "0", "{night}");
        BuildServer::report(&night)
    };
    let games = parts.set("games", "echo games 2");
    let report = night("1");
    assert_eq!(outcomes(&report), ["unchanged", "built", "unchanged"], "{report:#}");

    let _ = parts.set("games", "echo games 3");
    let report = night("2");
    assert_eq!(outcomes(&report), ["unchanged", "evaluation-failed", "unchanged"], "{report:#}");
    assert_eq!(held(&report), [""; 0]);
    assert_eq!(parts.locked("beta", "games"), games);
}

#[test]
fn a_lock_that_nix_cannot_take_just_now_decides_nothing() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let theme = parts.repo("theme").rev();
    let failed = parts.server.gate().join("failed");
    let script = format!(
        "case \"$*\" in *'flake lock'*) [ -e {f} ] || {{ echo > {f}; echo 'error: try again' >&2; exit 1; }};; esac
         $REAL \"$@\"",
        f = failed.display()
    );
    let path = parts.server.path_where("nix", &script);
    let _ = parts.set("games", FAIL);
    let _ = parts.set("theme", "echo theme 2");
    let night = parts.server.larder(&["build", "--update", "--json"]).env("PATH", path).run();
    let report = BuildServer::report(&night);
    assert!(failed.exists(), "{night}");
    let undecided = report["lock"]["undecided"].as_str().unwrap_or_default();
    assert!(undecided.contains("try again"), "{report:#}");
    assert_eq!(held(&report), [""; 0]);
    assert_eq!(parts.locked("alpha", "theme"), theme);
    // The night after knows.
    assert_eq!(held(&parts.night()), ["games"]);
}

/// A host's own script for alpha, which fails of the network while a file is there.
fn alpha_fails_while_down(parts: &Parts) {
    parts.set_hosts([
        "if [ -e $gate/down ]; then echo 'Could not resolve host' >&2; exit 1; fi",
        "",
        "",
    ]);
    std::fs::write(parts.server.gate().join("down"), "").unwrap();
}

#[test]
fn what_is_held_for_others_is_held_once_however_undecided_a_run_is() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let _ = parts.set("games", FAIL);
    assert_eq!(held(&parts.night()), ["games"]);
    alpha_fails_while_down(&parts);
    let _ = parts.set("tools", FAIL);
    for _ in 1..=2 {
        let run = parts.server.build(&["--update", "--json", "alpha"]);
        let report = BuildServer::report(&run);
        assert!(report["lock"]["undecided"].is_string(), "{report:#}");
        assert_eq!(held(&report), ["games"], "{report:#}");
    }
}

#[test]
fn what_nix_says_without_naming_a_derivation_is_a_failure_all_the_same() {
    for version in NixVersion::all() {
        let parts = Parts::new(version, "");
        let hosts = parts
            .small
            .config
            .read("hosts.nix")
            .replace("  alpha = host", "  alpha = forbid \"theme\" host");
        // What a part of this kind makes may not be referred to.
        let forbid = "forbid = name: host: n: p: more: derivation ((host n p more).drvAttrs // {
            disallowedReferences = if builtins.match \".*forbidden.*\" inputs.${name}.script == null
              then [ ] else [ (part name) ];
          });
        in {";
        parts.small.config.write("hosts.nix", hosts.replacen("in {", forbid, 1));
        let _ = parts.small.config.commit("forbidden");
        parts.publish_config();
        let _ = parts.server.build(&[]).success();
        let good = parts.repo("theme").rev();
        let _ = parts.set("theme", ": forbidden");
        let _ = parts.built();
        let report = parts.night();
        assert_eq!(held(&report), ["theme"], "{version}: {report:#}");
        assert_eq!(parts.locked("alpha", "theme"), good);
        assert_eq!(parts.built(), ["alpha", "theme"], "once");
    }
}
