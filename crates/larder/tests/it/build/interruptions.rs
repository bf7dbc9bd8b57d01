//! Runs that are killed, stopped, doubled, or out of space: the next one needs no repair by hand.

use std::{fs, time::Duration};

use larder_fleet::night::ledger_file;
use larder_testkit::{Background, Nix, NixVersion, Tree};
use rustix::process::{Pid, Signal, kill_process};

use crate::build_server::{BuildServer, SmallFleet, WAIT};

const SOON: Duration = Duration::from_secs(60);

/// A run whose host alpha has built, and whose host beta waits at the gate.
fn halfway(version: NixVersion) -> (BuildServer, SmallFleet, Background) {
    let (server, fleet) = SmallFleet::with_server(version, "max-jobs = 2");
    let _ = fleet.set_hosts(&[("alpha", "echo > $gate/alpha-built;"), ("beta", WAIT)]);
    let mut running = server.larder(&["build"]).spawn();
    let reached = [server.gate().join("waiting"), server.gate().join("alpha-built")];
    running.wait_for("both hosts being built", SOON, |_| {
        reached.iter().all(|file| file.exists()).then_some(())
    });
    let database = server.store.state_dir().join("db/db.sqlite");
    let alpha = format!("/nix/store/{}", planned(&server, "alpha"));
    running.wait_for("alpha to be valid", SOON, |_| {
        (database.exists() && server.store.is_valid(&alpha)).then_some(())
    });
    (server, fleet, running)
}

/// The base name of a host's system, as its evaluation says.
fn planned(server: &BuildServer, host: &str) -> String {
    let link = server.state_dir().join("run/derivations-1").join(host);
    let derivation = fs::read_link(link).unwrap().display().to_string();
    let asked = server.store.nix(&["nix-store", "-q", "--outputs", &derivation]).success();
    asked.text().trim_start_matches("/nix/store/").to_owned()
}

#[test]
fn a_second_run_says_who_is_at_it_and_does_nothing() {
    let (server, _fleet, mut running) = halfway(NixVersion::V2_34);
    let second = server.build(&[]);
    assert_eq!(second.code(), 75, "{second}");
    assert!(second.stderr.contains("another run is under way"), "{second}");
    assert!(second.stderr.contains(&format!("process {} since ", running.pid())), "{second}");
    server.open_gate();
    assert_eq!(running.wait(SOON), 0);
    let _ = server.build(&[]).success();
}

#[test]
fn a_killed_run_leaves_no_lock_and_the_next_builds_only_what_is_missing() {
    for version in NixVersion::builders() {
        let (server, _fleet, mut running) = halfway(version);
        running.kill();
        // As a crash of the whole machine would.
        for (pid, _) in server.processes() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        assert_eq!(server.rev("alpha"), None, "nothing was published");
        server.open_gate();
        let next = server.build(&["--json"]).success();
        assert_eq!(BuildServer::report(&next)["built"], 1, "{next}");
        assert!(server.store.is_valid(&server.system("alpha")));
        assert!(server.store.is_valid(&server.system("beta")));
    }
}

#[test]
fn a_killed_run_whose_nix_goes_on_does_not_stop_the_next() {
    let (server, _fleet, mut running) = halfway(NixVersion::V2_34);
    running.kill();
    assert!(server.processes().iter().any(|(_, command)| command.contains("--realise")));
    let mut next = server.larder(&["build"]).spawn();
    let _ = next.wait_for_line("beta: 1 to build");
    server.open_gate();
    assert_eq!(next.wait(SOON), 0);
    assert!(server.store.is_valid(&server.system("beta")));
    assert!(server.rev("beta").is_some());
}

#[test]
fn a_root_that_a_crash_left_without_its_revision_goes_with_a_later_run() {
    let (server, _fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = server.build(&[]).success();
    let stray = server.store.add_tree("stray", &Tree::new().file("a", "1"));
    let folder = server.state_dir().join("gcroots/hosts/alpha");
    let link = folder.join(stray.trim_start_matches("/nix/store/")).display().to_string();
    let _ = server.store.nix(&["nix-store", "--realise", &stray, "--add-root", &link]).success();
    server.collect_garbage();
    assert!(server.store.is_valid(&stray));
    let _ = server.build(&[]).success();
    server.collect_garbage();
    assert!(!server.store.is_valid(&stray));
    assert!(server.store.is_valid(&server.system("alpha")));
}

#[test]
fn a_rev_folder_that_cannot_be_written_is_told_and_the_next_run_makes_up_for_it() {
    let (server, _fleet) = SmallFleet::with_server(NixVersion::V2_26, "");
    fs::write(server.rev_dir(), "in the way").unwrap();
    let refused = server.build(&[]).failure();
    assert_eq!(refused.code(), 3);
    assert!(refused.stderr.contains("alpha was built, but not published"), "{refused}");
    assert!(refused.stderr.contains(&server.rev_dir().display().to_string()), "{refused}");
    fs::remove_file(server.rev_dir()).unwrap();
    let _ = server.build(&[]).success();
    assert_eq!(fs::read_dir(server.rev_dir()).unwrap().count(), 3);
}

#[test]
fn a_run_that_is_told_to_stop_says_so_and_leaves_no_process_behind() {
    for (version, signal) in [(NixVersion::V2_26, Signal::INT), (NixVersion::V2_34, Signal::TERM)] {
        let (server, _fleet, mut running) = halfway(version);
        assert!(server.processes().iter().any(|(_, command)| command.contains("--realise")));
        running.signal(signal);
        assert_eq!(running.wait(SOON), 130);
        assert_eq!(server.processes(), []);
        assert!(running.output().contains("what was built so far is kept"), "{}", running.output());
        server.open_gate();
        let next = server.build(&["--json"]).success();
        assert_eq!(BuildServer::report(&next)["built"], 1, "{next}");
    }
}

#[test]
fn a_run_can_be_stopped_whatever_it_is_at() {
    let stuck =
        "[[ \"$*\" == *--version* ]] && $REAL \"$@\"\necho > \"$GATE/waiting\"; exec sleep 100";
    for (verb, command) in [
        ("build", "git"),
        ("build", "nix"),
        ("build", "nix-instantiate"),
        ("build", "nix-store"),
        ("check", "nix"),
    ] {
        let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
        let path = server.path_where(command, stuck);
        let run = server.larder(&[verb]).env("PATH", path).env("GATE", server.gate());
        let mut running = run.dir(fleet.config.dir()).spawn();
        let waiting = server.gate().join("waiting");
        running.wait_for("it to be stuck", SOON, |_| waiting.exists().then_some(()));
        running.signal(Signal::TERM);
        assert_eq!(running.wait(SOON), 130, "{verb} at {command}: {}", running.output());
        assert_eq!(server.processes(), [], "{verb} at {command}");
    }
}

#[test]
fn a_damaged_work_tree_is_fetched_again() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = server.build(&[]).success();
    let work = server.state_dir().join("work");
    let damages: [&dyn Fn(); 5] = [
        &|| fs::write(work.join(".git/HEAD"), "nonsense").unwrap(),
        &|| fs::remove_dir_all(work.join(".git/objects")).unwrap(),
        &|| fs::write(work.join(".git/index.lock"), "").unwrap(),
        &|| fs::write(work.join("flake.nix"), "not nix").unwrap(),
        &|| {
            fs::remove_dir_all(&work).unwrap();
            fs::write(&work, "a file").unwrap();
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        let commit = fleet.set_hosts(&[("alpha", &format!("# {number}"))]);
        let _ = server.build(&[]).success();
        assert_eq!(server.latest("alpha").unwrap().commit, Some(commit));
    }
}

#[test]
fn a_full_disk_is_told_and_the_next_run_with_space_works() {
    let (server, _fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    fs::create_dir_all(server.state_dir()).unwrap();
    // In a mount namespace of its own, so that nothing of it outlives the test.
    let script = "mount -t tmpfs -o size=4k tmpfs \"$1\"\n\
        for size in 4 16 32 64 96 128 160 192 256 320 384 448 65536; do\n\
          mount -o remount,size=${size}k \"$1\"\n\
          code=0; \"$2\" build 2>\"$3\" >/dev/null || code=$?\n\
          echo \"$size $code $(tail -c 4000 \"$3\" | tr '\\n' ' ')\"\n\
        done\n\
        cp \"$1/ledger.sqlite\" \"$4\"";
    let work = server.store.work_dir();
    let runs = server
        .inside_mount_namespace()
        .args(["sh", "-euc", script, "sh"])
        .arg(server.state_dir())
        .arg(env!("CARGO_BIN_EXE_larder"))
        .arg(work.join("said"))
        .arg(&work)
        .run()
        .success();
    let runs = runs.lines();
    assert!(runs.last().unwrap().starts_with("65536 0"), "{runs:#?}");
    let failed: Vec<&String> =
        runs.iter().filter(|run| run.split(' ').nth(1) != Some("0")).collect();
    assert!(failed.len() >= 3, "{runs:#?}");
    for run in failed {
        let lower = run.to_lowercase();
        // 3 where there was room for all but the publication.
        assert!(matches!(run.split(' ').nth(1), Some("1" | "3")), "{run}");
        // The system's words, SQLite's and git's.
        let words = ["no space left", "disk is full", "out of diskspace", "couldn't write"];
        assert!(words.iter().any(|words| lower.contains(words)), "{run}");
    }
    fs::copy(work.join("ledger.sqlite"), ledger_file(&server.state_dir())).unwrap();
    assert!(server.latest("alpha").is_some());
}

#[test]
fn what_was_there_before_a_run_stays_when_somebody_collects_garbage_in_the_middle() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let _ = fleet.set_hosts(&[("alpha", ""), ("beta", "")]);
    fleet.lock(&server.store);
    let beta = format!(
        "{}#nixosConfigurations.beta.config.system.build.toplevel",
        fleet.config.dir().display()
    );
    let _ = server.store.nix(&["nix", "build", "--no-link", &beta]).success();
    let path = server.path_where(
        "nix-store",
        "case \"$*\" in *--realise*--keep-going*) ($REAL --gc >&2);; esac; $REAL \"$@\"",
    );
    let built = server.larder(&["build", "--json"]).env("PATH", path).run().success();
    assert_eq!(BuildServer::report(&built)["built"], 1, "alpha: {built}");
    assert!(server.rev("alpha").is_some() && server.rev("beta").is_some());
}
