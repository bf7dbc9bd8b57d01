//! The updated lock goes home to its repository, without undoing what people do there.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use larder_fleet::night::{Home, Night, Options, WentHome};
use larder_nix::command::CancellationToken;
use larder_testkit::NixVersion;
use serde_json::Value;

use super::parts::{FAIL, Parts, held, outcomes};
use crate::{
    build_server::BuildServer,
    whole_run::{Deaf, night, nix, publisher},
};

/// What became of the lock, as a report says it.
fn home(report: &Value) -> &str {
    report["lock"]["home"].as_str().unwrap_or("nowhere")
}

fn from(report: &Value) -> &str {
    report["lock"]["start"]["from"].as_str().unwrap()
}

/// Has the forge refuse whatever is pushed, or take it again.
fn refuse_pushes(parts: &Parts, refuse: bool) {
    let hook = parts.forge.join("hooks/pre-receive");
    if refuse {
        fs::write(&hook, "#!/bin/sh\necho 'this repository is read-only' >&2\nexit 1\n").unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    } else {
        fs::remove_file(&hook).unwrap();
    }
}

/// A night in which people do something in a clone of theirs just before the lock is pushed. In their script `real` is
/// git, and `commit` makes one of what was added.
fn night_with(parts: &Parts, people_do: &str) -> Value {
    let people = parts.server.store.work_dir().join("people");
    let _ = parts.small.clone_config(&people, &parts.forge);
    let script = format!(
        "real() {{ ($REAL \"$@\"); }}
         commit() {{ real -c user.name=p -c user.email=p commit -qm \"$1\"; }}
         case \"$*\" in *' push '*) (cd {p} && {people_do});; esac
         real \"$@\"",
        p = people.display(),
    );
    let path = parts.server.path_where("git", &script);
    let night = parts.server.larder(&["build", "--update", "--json"]).env("PATH", path).run();
    BuildServer::report(&night)
}

/// A run that is killed as soon as its lock is pushed.
fn killed_when_pushed(parts: &Parts) {
    let script =
        "case \"$*\" in *' push '*) ($REAL \"$@\"); kill -9 $PPID;; *) $REAL \"$@\";; esac";
    let path = parts.server.path_where("git", script);
    let killed = parts.server.larder(&["build", "--update"]).env("PATH", path).run();
    assert!(!killed.ok(), "{killed}");
}

#[test]
fn the_commit_names_what_moved_and_what_was_held_and_changes_nothing_else() {
    let parts =
        Parts::new(NixVersion::V2_34, "push-lock-to = \"main\"\nlock-author = \"Night <n@b>\"");
    let before = parts.forge(&["rev-parse", "main"]).text().to_owned();
    let old = parts.repo("theme").rev();
    let theme = parts.set("theme", "echo theme 2");
    let games = (parts.repo("games").rev(), parts.set("games", FAIL));
    let report = parts.night();
    assert_eq!((home(&report), held(&report)), ("pushed", vec!["games"]), "{report:#}");
    let commit = parts.forge(&["rev-parse", "main"]).text().to_owned();
    assert_eq!(report["lock"]["commit"], commit);
    assert_eq!(parts.forge(&["rev-parse", "main^"]).text(), before);
    assert_eq!(
        parts.forge(&["show", "--name-only", "--format=%an <%ae>", "main"]).lines(),
        ["Night <n@b>", "", "flake.lock"]
    );
    let message = parts.forge(&["show", "--no-patch", "--format=%B", "main"]).stdout;
    for said in [
        "flake.lock: update theme",
        &old,
        &theme,
        "Held back:",
        &games.0,
        &games.1,
        "breaks beta",
        "-games.drv fails",
        "no such function",
    ] {
        assert!(message.contains(said), "{said} is not in:\n{message}");
    }
    assert_eq!(parts.at_home("main", "theme"), theme);
    // What was published is what the repository has, so that nothing is left to do.
    let revision = parts.server.latest("alpha").unwrap();
    assert_eq!(revision.lock, parts.forge(&["show", "main:flake.lock"]).stdout);
    let report = parts.night();
    assert_eq!((home(&report), from(&report)), ("nowhere", "repository"), "{report:#}");
    assert_eq!(parts.forge(&["rev-parse", "main"]).text(), commit);
}

#[test]
fn a_repository_that_takes_nothing_is_told_of_and_the_next_run_goes_on_from_what_was_published() {
    let parts = Parts::new(NixVersion::V2_34, "push-lock-to = \"main\"");
    refuse_pushes(&parts, true);
    let theme = parts.set("theme", "echo theme 2");
    let report = parts.night();
    assert_eq!(home(&report), "not-pushed", "{report:#}");
    assert!(report["lock"]["reason"].as_str().unwrap().contains("this repository is read-only"));
    assert_eq!(parts.locked("alpha", "theme"), theme);

    // Without an update: the older lock of the repository is not published under a newer number.
    let plain = parts.server.build(&["--json"]).success();
    let report = BuildServer::report(&plain);
    assert_eq!((outcomes(&report), from(&report)), (["unchanged"; 3], "published"));
    assert_eq!(parts.locked("alpha", "theme"), theme);
    assert_eq!(report["changes"], serde_json::json!([]));

    // As soon as it may, it goes home, though nothing moved any more.
    refuse_pushes(&parts, false);
    let report = parts.night();
    assert_eq!(home(&report), "pushed", "{report:#}");
    assert_eq!(parts.at_home("main", "theme"), theme);
}

#[test]
fn a_lock_that_people_commit_counts_and_what_gets_older_by_it_is_told() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let (old, new) = (parts.repo("theme").rev(), parts.set("theme", "echo theme 2"));
    let report = parts.night();
    assert_eq!((home(&report), from(&report)), ("nowhere", "repository"));
    assert_eq!(parts.locked("alpha", "theme"), new);
    // Another input is moved by hand, in the lock that never had the newer theme.
    let games = parts.set("games", "echo games 2");
    let lock = parts.small.config.read("flake.lock");
    parts.small.lock(&parts.server.store);
    let by_hand = parts.small.config.read("flake.lock");
    assert_eq!(lock, by_hand, "locking what is locked changes nothing");
    let dir = parts.small.config.dir().display().to_string();
    let _ = larder_testkit::Nix::nix(
        &parts.server.store,
        &["nix", "flake", "update", "games", "--flake", &dir],
    )
    .success();
    let _ = parts.small.config.commit("games by hand");
    parts.publish_config();
    let finished = parts.server.build(&[]).success();
    assert!(finished.stdout.contains("OLDER than what was published before: theme"), "{finished}");
    assert_eq!((parts.locked("alpha", "theme"), parts.locked("beta", "games")), (old, games));
}

#[test]
fn whoever_pushes_at_the_same_moment_loses_nothing_and_neither_does_the_lock() {
    let parts = Parts::new(NixVersion::V2_26, "push-lock-to = \"main\"");
    let theme = parts.set("theme", "echo theme 2");
    // Somebody is faster, twice, each time between the fetch and the push.
    let report = night_with(
        &parts,
        "n=$(ls | grep -c note); [ $n -ge 2 ] || { touch note-$n && real add note-$n && commit note-$n && \
         real push -q origin HEAD:main; }",
    );
    assert_eq!(home(&report), "pushed", "{report:#}");
    assert_eq!(parts.at_home("main", "theme"), theme);
    let subjects = parts.forge(&["log", "--format=%s", "-3", "main"]).lines();
    assert_eq!(subjects, ["flake.lock: update theme", "note-1", "note-0"]);
}

#[test]
fn a_lock_that_people_change_meanwhile_is_theirs() {
    let parts = Parts::new(NixVersion::V2_34, "push-lock-to = \"main\"");
    let _ = parts.set("theme", "echo theme 2");
    let report = night_with(
        &parts,
        "[ -e done ] || { touch done && echo >> flake.lock && real add flake.lock && commit theirs && \
         real push -q origin HEAD:main; }",
    );
    assert_eq!(home(&report), "not-pushed", "{report:#}");
    assert!(
        report["lock"]["reason"].as_str().unwrap().contains("somebody else changed flake.lock")
    );
    assert_eq!(parts.forge(&["log", "--format=%s", "-1", "main"]).text(), "theirs");
}

#[test]
fn a_branch_for_review_grows_by_one_commit_a_night_whether_or_not_it_is_merged() {
    let parts = Parts::new(NixVersion::V2_34, "push-lock-to = \"larder/update\"");
    let _ = parts.set("theme", "echo theme 2");
    assert_eq!(home(&parts.night()), "pushed");
    let main = parts.forge(&["rev-parse", "main"]).text().to_owned();
    assert_eq!(parts.forge(&["rev-parse", "larder/update^"]).text(), main);

    // Nobody merged it; the lock is there.
    let report = parts.night();
    assert_eq!((home(&report), from(&report)), ("already-there", "published"), "{report:#}");

    // Nobody merged it, and the flake went on.
    parts.set_hosts(["true", "", ""]);
    let main = parts.forge(&["rev-parse", "main"]).text().to_owned();
    let tools = parts.set("tools", "echo tools 2");
    let report = parts.night();
    assert_eq!(home(&report), "pushed", "{report:#}");
    assert_eq!(parts.at_home("larder/update", "tools"), tools);
    let contains = parts.forge(&["branch", "--contains", &main, "--format=%(refname:short)"]);
    assert_eq!(contains.lines(), ["larder/update", "main"]);
    let differ = parts.forge(&["diff", "--name-only", "main", "larder/update"]);
    assert_eq!(differ.lines(), ["flake.lock"]);

    // Merged, and moved once more.
    let _ = parts.forge(&["update-ref", "refs/heads/main", "larder/update"]);
    let theme = parts.set("theme", "echo theme 3");
    let report = parts.night();
    assert_eq!((home(&report), from(&report)), ("pushed", "repository"), "{report:#}");
    assert_eq!(parts.at_home("larder/update", "theme"), theme);
}

#[test]
fn a_lock_with_which_a_required_host_fails_stays() {
    let parts = Parts::new(NixVersion::V2_34, "push-lock-to = \"main\"");
    parts.set_hosts(["", FAIL, ""]);
    let before = parts.forge(&["rev-parse", "main"]).text().to_owned();
    let theme = parts.set("theme", "echo theme 2");
    let report = parts.night();
    assert_eq!(home(&report), "not-pushed", "{report:#}");
    assert!(report["lock"]["reason"].as_str().unwrap().contains("beta"));
    assert_eq!(parts.forge(&["rev-parse", "main"]).text(), before);
    assert_eq!(parts.locked("alpha", "theme"), theme);
}

#[test]
fn a_run_that_is_killed_when_the_lock_has_gone_home_leaves_nothing_to_mend() {
    let parts = Parts::new(NixVersion::V2_34, "push-lock-to = \"review\"");
    let _ = parts.set("theme", "echo theme 2");
    killed_when_pushed(&parts);
    let report = parts.night();
    assert_eq!((home(&report), from(&report)), ("already-there", "published"), "{report:#}");
    let theme = parts.set("theme", "echo theme 3");
    let report = parts.night();
    assert_eq!(home(&report), "pushed", "{report:#}");
    assert_eq!(parts.at_home("review", "theme"), theme);
}

#[test]
fn a_lock_that_only_some_hosts_were_built_with_stays() {
    let parts = Parts::new(NixVersion::V2_34, "push-lock-to = \"main\"");
    let _ = parts.set("theme", "echo theme 2");
    let night = parts.server.build(&["--update", "--json", "beta"]).success();
    let report = BuildServer::report(&night);
    assert_eq!(home(&report), "not-pushed", "{report:#}");
    assert!(report["lock"]["reason"].as_str().unwrap().contains("took part"), "{report:#}");
    // With all of them, it goes.
    assert_eq!(home(&parts.night()), "pushed");
}

#[test]
fn what_people_put_on_a_branch_for_review_stays_there_whatever_comes_after() {
    let parts = Parts::new(NixVersion::V2_34, "push-lock-to = \"review\"");
    let _ = parts.set("theme", "echo theme 2");
    assert_eq!(home(&parts.night()), "pushed");
    // A reviewer mends something there.
    let people = parts.server.store.work_dir().join("people");
    let clone = parts.small.clone_config(&people, &parts.forge);
    let _ = clone.git(&["checkout", "--quiet", "review"]);
    clone.write("mended.nix", "{ }");
    let theirs = clone.commit("mended");
    let _ = clone.git(&["push", "--quiet", "origin", "review"]);
    // Another night on top of it, and then main moves.
    let _ = parts.set("theme", "echo theme 3");
    assert_eq!(home(&parts.night()), "pushed");
    parts.set_hosts(["true", "", ""]);
    let theme = parts.set("theme", "echo theme 4");
    let report = parts.night();
    assert_eq!(home(&report), "pushed", "{report:#}");
    assert_eq!(parts.at_home("review", "theme"), theme);
    assert_eq!(parts.forge(&["show", "review:mended.nix"]).stdout, "{ }");
    assert!(parts.forge(&["rev-list", "review"]).lines().contains(&theirs));
}

#[test]
fn a_killed_run_s_commit_is_known_after_others_were_published_too() {
    let parts = Parts::new(NixVersion::V2_34, "push-lock-to = \"review\"");
    let _ = parts.set("theme", "echo theme 2");
    killed_when_pushed(&parts);
    // A lock that only beta was built with is published, and sent nowhere.
    let _ = parts.set("theme", "echo theme 3");
    let _ = parts.server.build(&["--update", "beta"]).success();
    let theme = parts.set("theme", "echo theme 4");
    let report = parts.night();
    assert_eq!(home(&report), "pushed", "{report:#}");
    assert_eq!(parts.at_home("review", "theme"), theme);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_does_not_answer_holds_no_run_up() {
    let parts = Parts::new(NixVersion::V2_34, "");
    let _ = parts.set("theme", "echo theme 2");
    let waiting = parts.server.store.work_dir().join("waiting");
    let hook = parts.forge.join("hooks/pre-receive");
    let script = format!("#!/bin/sh\ntrap '' TERM\n: > {}\nsleep 1000\n", waiting.display());
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let server = &parts.server;
    let cancel = CancellationToken::new();
    let nix = nix(&server.store, &[], &cancel).await;
    let home = Home {
        branch: "main".to_owned(),
        name: "Night".to_owned(),
        email: "n@b".to_owned(),
        patience: Duration::from_secs(10),
    };
    let flake = format!("git+file://{}?ref=main", parts.forge.display());
    let (home, publisher) = (Some(home), Some(publisher(server)));
    let night = Night { home, publisher, ..night(server, nix, &flake) };
    let options = Options { update: true, ..Options::default() };
    let report = night.run(options, &mut Deaf, &cancel).await.unwrap();
    assert!(waiting.exists(), "it was asked");
    let lock = report.lock.unwrap();
    let Some(WentHome::NotPushed { reason, .. }) = lock.home else { panic!("{:?}", lock.home) };
    assert_eq!(reason, "the repository took longer than 10 s");
    assert_eq!(server.processes(), [], "nor is anything left of it");
}
