//! An update that breaks a host: the guilty input is found and held, the rest is published.

use larder_testkit::NixVersion;

use super::parts::{FAIL, Parts, held, outcomes};
use crate::build_server::BuildServer;

#[test]
fn an_input_that_breaks_a_host_is_held_until_it_is_good_and_the_others_move() {
    for version in [NixVersion::V2_8, NixVersion::V2_34] {
        let parts = Parts::new(version, "");
        let good = parts.repo("games").rev();
        let theme = parts.set("theme", "echo theme 2");
        let bad = parts.set("games", FAIL);
        let _ = parts.built();

        let report = parts.night();
        assert_eq!(held(&report), ["games"], "{report:#}");
        assert_eq!(outcomes(&report), ["built", "unchanged", "unchanged"]);
        assert_eq!(parts.locked("alpha", "theme"), theme);
        assert_eq!(parts.locked("beta", "games"), good);
        let said = &report["held"][0];
        assert!(said["at"].as_str().unwrap().contains(&good), "{said}");
        assert!(said["bad"].as_str().unwrap().contains(&bad), "{said}");
        assert_eq!(said["hosts"], serde_json::json!(["beta"]));
        let failure = &said["failures"][0];
        assert!(failure["derivation"].as_str().unwrap().ends_with("-games.drv"), "{said}");
        assert_eq!(failure["lastLines"], serde_json::json!(["no such function"]));
        // What failed was tried once, and nothing was built twice.
        assert_eq!(parts.built(), ["alpha", "games", "theme"]);

        // The night after, nothing has changed but the day.
        let again = parts.night();
        assert_eq!(held(&again), ["games"]);
        assert_eq!(again["held"][0]["since"], said["since"]);
        assert_eq!(outcomes(&again), ["unchanged"; 3]);
        assert_eq!(parts.built(), ["games"]);

        // A build without an update says what is held as well.
        let plain = parts.server.build(&["--json"]).success();
        assert_eq!(held(&BuildServer::report(&plain)), ["games"]);

        let mended = parts.set("games", "echo games 3");
        let report = parts.night();
        assert_eq!(held(&report), [""; 0]);
        assert_eq!(parts.locked("beta", "games"), mended);
    }
}

#[test]
fn each_of_two_hosts_has_a_guilty_input_of_its_own() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let tools = parts.set("tools", "echo tools 2");
    for input in ["games", "theme"] {
        let _ = parts.set(input, FAIL);
    }
    let report = parts.night();
    assert_eq!(held(&report), ["games", "theme"], "{report:#}");
    assert_eq!(outcomes(&report), ["built"; 3]);
    assert_eq!(report["held"][0]["hosts"], serde_json::json!(["beta"]));
    assert_eq!(report["held"][1]["hosts"], serde_json::json!(["alpha"]));
    for host in ["alpha", "beta", "gamma"] {
        assert_eq!(parts.locked(host, "tools"), tools);
    }
}

#[test]
fn two_inputs_that_do_not_go_together_cost_only_one_of_them_its_update() {
    let parts = Parts::new(NixVersion::V2_26, "");
    let _ = parts.set("tools", "echo new-tools");
    let _ = parts.set("games", "echo new-games");
    // Fails when both are new.
    let both = "both=$($builder cat ${part \"tools\"} ${part \"games\"})
        case \"$both\" in *new-tools*new-games*) exit 1;; esac";
    parts.set_hosts(["", both, ""]);
    let _ = parts.server.build(&[]).success();
    let report = parts.night();
    assert_eq!(held(&report).len(), 1, "{report:#}");
    let outcomes = outcomes(&report);
    assert!(outcomes.iter().all(|outcome| ["built", "unchanged"].contains(outcome)), "{report:#}");
}

#[test]
fn an_input_that_cannot_be_evaluated_is_held_with_what_nix_says() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let bad = parts.set("tools", "throws: no longer here");
    let theme = parts.set("theme", "echo theme 2");
    let report = parts.night();
    assert_eq!(held(&report), ["tools"], "{report:#}");
    let said = &report["held"][0];
    assert_eq!(said["hosts"], serde_json::json!(["alpha", "beta", "gamma"]));
    assert!(said["message"].as_str().unwrap().contains("no longer here"), "{said}");
    assert!(said["bad"].as_str().unwrap().contains(&bad));
    assert_eq!(parts.locked("alpha", "theme"), theme);
}

#[test]
fn a_host_that_fails_by_itself_keeps_no_input_from_moving() {
    let parts = Parts::new(NixVersion::V2_34, "");
    parts.set_hosts(["", FAIL, ""]);
    let games = parts.set("games", "echo games 2");
    let theme = parts.set("theme", "echo theme 2");
    let report = parts.night();
    assert_eq!(held(&report), [""; 0], "{report:#}");
    assert_eq!(outcomes(&report), ["built", "build-failed", "unchanged"]);
    assert_eq!(parts.locked("alpha", "theme"), theme);
    assert_eq!(parts.locked("gamma", "games"), games);
}

#[test]
fn where_no_set_of_updates_builds_what_was_published_stays() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let before = parts.server.system("beta");
    let _ = parts.set("games", FAIL);
    let report = parts.night();
    assert_eq!(held(&report), ["games"], "{report:#}");
    assert_eq!(outcomes(&report), ["unchanged"; 3]);
    assert_eq!(parts.server.system("beta"), before);
    // With every host broken, and by several inputs at once.
    for input in ["games", "theme", "tools"] {
        let _ = parts.set(input, FAIL);
    }
    let report = parts.night();
    assert_eq!(held(&report), ["games", "theme", "tools"], "{report:#}");
    assert_eq!(outcomes(&report), ["unchanged"; 3]);
}

#[test]
fn a_host_that_may_fail_keeps_no_input_from_moving() {
    let parts = Parts::new(NixVersion::V2_34, "required-hosts = [\"alpha\"]");
    let games = parts.set("games", FAIL);
    let theme = parts.set("theme", "echo theme 2");
    let report = parts.night();
    assert_eq!(held(&report), [""; 0], "{report:#}");
    assert_eq!(outcomes(&report), ["built", "build-failed", "unchanged"]);
    assert_eq!(parts.locked("alpha", "theme"), theme);
    assert_eq!(parts.locked("gamma", "games"), games);
}

#[test]
fn a_search_that_may_not_evaluate_holds_nothing_and_one_that_ends_early_updates_nothing() {
    let mut parts = Parts::new(NixVersion::V2_34, "search-limit = 0");
    let _ = parts.set("games", FAIL);
    let theme = parts.set("theme", "echo theme 2");
    let report = parts.night();
    assert_eq!(held(&report), [""; 0], "{report:#}");
    assert_eq!(outcomes(&report), ["built", "build-failed", "unchanged"]);
    // All that was published moved on, which is no reason for beta to stay without.
    assert_eq!(parts.locked("alpha", "theme"), theme);

    // One look does not find out which of three it is: what all were good with is good still.
    parts.server.set("search-limit = 1");
    for input in ["tools", "theme"] {
        let _ = parts.set(input, FAIL);
    }
    let report = parts.night();
    assert_eq!(held(&report), ["games", "theme", "tools"], "{report:#}");
    assert!(outcomes(&report).iter().all(|outcome| *outcome != "build-failed"), "{report:#}");
    assert_ne!(parts.locked("alpha", "theme"), theme);
}

#[test]
fn a_host_goes_back_to_what_it_was_good_with_though_others_were_published_since() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let good = parts.repo("games").rev();
    let down = parts.server.gate().join("down");
    std::fs::write(&down, "").unwrap();
    let _ = parts.set(
        "games",
        "if [ -e $gate/down ]; then echo 'Could not resolve host' >&2; else echo 'no such function' >&2; fi; exit 1",
    );
    let theme = parts.set("theme", "echo theme 2");
    let report = parts.night();
    assert_eq!(held(&report), [""; 0], "{report:#}");
    assert_eq!(outcomes(&report), ["built", "build-failed", "unchanged"]);

    // What it failed for in the night before was not the last of it.
    std::fs::remove_file(&down).unwrap();
    let report = parts.night();
    assert_eq!(held(&report), ["games"], "{report:#}");
    assert_eq!(outcomes(&report), ["unchanged"; 3]);
    assert_eq!((parts.locked("beta", "games"), parts.locked("beta", "theme")), (good, theme));
}

#[test]
fn a_host_that_is_broken_for_long_sets_no_other_back() {
    let parts = Parts::new(NixVersion::V2_34, "");
    parts.set_hosts(["", FAIL, ""]);
    let mut theme = String::new();
    for night in ["2", "3"] {
        theme = parts.set("theme", &format!("echo theme {night}"));
        let _ = parts.night();
    }
    // Now an input breaks another one.
    let _ = parts.set("tools", FAIL);
    let report = parts.night();
    assert_eq!(held(&report), ["tools"], "{report:#}");
    assert_eq!(outcomes(&report), ["unchanged", "build-failed", "unchanged"]);
    assert_eq!(parts.locked("alpha", "theme"), theme);
}

#[test]
fn what_is_held_for_a_host_stays_where_it_is_in_a_run_without_that_host() {
    let parts = Parts::new(NixVersion::V2_26, "");
    let good = parts.repo("games").rev();
    let _ = parts.set("games", FAIL);
    let night = parts.night();
    assert_eq!(held(&night), ["games"], "{night:#}");

    let theme = parts.set("theme", "echo theme 2");
    let noon = parts.server.build(&["--update", "--json", "alpha"]).success();
    let noon = BuildServer::report(&noon);
    assert_eq!(noon["held"], night["held"], "{noon:#}");
    assert_eq!(parts.locked("alpha", "theme"), theme);
    assert_eq!(parts.locked("alpha", "games"), good);
    let night_after = parts.night();
    assert_eq!(night_after["held"][0]["since"], night["held"][0]["since"], "{night_after:#}");

    // Nothing is known of what mends it before that host is built with it.
    let mended = parts.set("games", "echo games 3");
    let noon = parts.server.build(&["--update", "--json", "alpha"]).success();
    assert_eq!(held(&BuildServer::report(&noon)), ["games"]);
    let report = parts.night();
    assert_eq!(held(&report), [""; 0], "{report:#}");
    assert_eq!(parts.locked("alpha", "games"), mended);
}

#[test]
fn a_night_that_ends_in_the_middle_of_a_search_publishes_what_is_done() {
    let mut parts = Parts::new(NixVersion::V2_34, "");
    // Only what a search tries comes this far: with the new tools and the old theme.
    let slow = "if [ -e $gate/slow ]; then echo > $gate/reached; while true; do $builder sleep 0.1; done; fi";
    parts.set_hosts([slow, "", ""]);
    let _ = parts.server.build(&[]).success();
    std::fs::write(parts.server.gate().join("slow"), "").unwrap();
    let before = parts.server.system("alpha");
    parts.server.set("time-limit = \"25s\"");
    let tools = parts.set("tools", "echo tools 2");
    let _ = parts.set("theme", FAIL);
    let report = parts.night();
    assert!(parts.server.gate().join("reached").exists(), "{report:#}");
    assert_eq!(report["end"]["result"], "stopped", "{report:#}");
    assert_eq!(held(&report), [""; 0]);
    assert_eq!(outcomes(&report), ["build-failed", "built", "built"]);
    assert_eq!(parts.locked("gamma", "tools"), tools);
    assert_eq!(parts.server.system("alpha"), before);
}
