//! Who is told of what, by real runs: each change once, whatever the receiver does.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use larder_fleet::{
    ledger::Ledger,
    night::{Report, ledger_file},
};
use larder_testkit::{Finished, NixVersion, Program};
use serde_json::Value;

use super::{
    FAIL,
    receiver::{Behaviour, Receiver},
    serving,
};
use crate::build_server::{BuildServer, SmallFleet};

/// A server and its fleet, one host of which will not always build.
fn fleet() -> (BuildServer, SmallFleet) {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    fleet.lock(&server.store);
    (server, fleet)
}

/// One whose first run was good, and whom it tells.
fn all_is_well() -> (BuildServer, SmallFleet, Receiver) {
    let (server, fleet) = fleet();
    let receiver = Receiver::that_takes_all();
    server.also(&webhook(&receiver));
    let _ = server.build(&[]).success();
    assert_eq!(receiver.taken().len(), 0, "all is well, as nobody ever doubted");
    (server, fleet, receiver)
}

fn webhook(receiver: &Receiver) -> String {
    format!("[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = {:?}\n", receiver.url("/hook"))
}

/// Alpha needs a package of this name, which does not build; beta builds.
fn breaks_at(fleet: &SmallFleet, package: &str) {
    let _ = fleet.write_hosts(&format!(
        "alpha = make \"nixos-system\" ''cp ${{make \"{package}\" ''{FAIL}''}} $out'';\n\
         beta = make \"nixos-system\" \"echo beta > $out\";\n",
    ));
}

fn mends(fleet: &SmallFleet) {
    let _ = fleet.set_hosts(&[("alpha", ""), ("beta", "")]);
}

/// The kinds of what a message tells.
fn events(message: &Value) -> Vec<&str> {
    let events = message["events"].as_array().unwrap().iter();
    events.map(|event| event["event"].as_str().unwrap()).collect()
}

/// Messages that wait for this receiver.
fn waiting(server: &BuildServer, receiver: &str) -> usize {
    let folder = server.state_dir().join("notices").join(receiver);
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".json") && name != "sent.json").count()
}

#[test]
fn a_change_is_told_once_and_the_same_thing_never_again() {
    let (server, fleet, receiver) = all_is_well();
    breaks_at(&fleet, "broken-1.0");
    assert_eq!(server.build(&[]).code(), 3);
    let message = receiver.took_one();
    assert_eq!(events(&message), ["host-failed"], "{message:#}");
    assert_eq!(message["run"], 2);
    let event = &message["events"][0];
    assert_eq!(event["host"], "alpha");
    assert_eq!(event["lastGood"]["revision"], 1, "{event:#}");
    let text = message["text"].as_str().unwrap();
    assert!(text.contains("main.c:42: error: no such thing"), "{text}");

    assert_eq!(server.build(&[]).code(), 3);
    // Another version and other hashes are no other reason.
    breaks_at(&fleet, "broken-1.1");
    let _ = fleet.move_nixpkgs("2");
    assert_eq!(server.build(&["--update"]).code(), 3);
    assert_eq!(receiver.taken().len(), 0, "it fails as it did");

    breaks_at(&fleet, "other-1.0");
    assert_eq!(server.build(&[]).code(), 3);
    assert_eq!(receiver.took_one()["events"][0]["failedBefore"], true);

    mends(&fleet);
    let _ = server.build(&[]).success();
    assert_eq!(events(&receiver.took_one()), ["host-recovered"]);
    let _ = server.build(&[]).success();
    assert_eq!(receiver.taken().len(), 0);
}

#[test]
fn a_run_that_comes_to_no_host_is_told_and_so_is_its_recovery() {
    let (server, fleet, receiver) = all_is_well();
    let (there, away) = (fleet.config.dir().to_owned(), fleet.config.dir().with_extension("away"));
    fs::rename(&there, &away).unwrap();
    for _ in 0..2 {
        assert_eq!(server.build(&[]).code(), 1);
    }
    assert_eq!(events(&receiver.took_one()), ["run-failed"]);
    fs::rename(&away, &there).unwrap();
    let _ = server.build(&[]).success();
    assert_eq!(events(&receiver.took_one()), ["run-recovered"]);
}

#[test]
fn a_run_that_cannot_even_begin_is_told_too() {
    let (server, _fleet, receiver) = all_is_well();
    let (key, away) = (server.fleet_key(), server.fleet_key().with_extension("away"));
    let ledger = server.state_dir().join("ledger.sqlite");
    let sql = |text: &str| Program::new("sqlite3").arg(&ledger).arg(text).run().success();
    let known = sql("pragma user_version").text().to_owned();
    let no_nix = || server.larder(&["build"]).env("PATH", "/nowhere").run();
    let no_key = || {
        fs::rename(&key, &away).unwrap();
        let run = server.build(&[]);
        fs::rename(&away, &key).unwrap();
        run
    };
    let newer_ledger = || {
        let _ = sql("pragma user_version = 99");
        let run = server.build(&[]);
        let _ = sql(&format!("pragma user_version = {known}"));
        run
    };
    for (run, has_report) in
        [(&no_nix as &dyn Fn() -> Finished, true), (&no_key, true), (&newer_ledger, false)]
    {
        let failed = run();
        assert_eq!(failed.code(), 1, "{failed}");
        let message = receiver.took_one();
        assert_eq!(events(&message), ["run-failed"]);
        let why = message["events"][0]["message"].as_str().unwrap();
        assert!(failed.stderr.contains(why), "{why}: {failed}");
        assert_eq!(message["run"].is_i64(), has_report, "{message:#}");
        if has_report {
            let kept = server.larder(&["report"]).run().success();
            assert!(kept.stdout.contains(why), "{kept}");
        }
        assert_eq!(run().code(), 1);
        assert_eq!(receiver.taken().len(), 0, "once");
        let _ = server.build(&[]).success();
        assert_eq!(events(&receiver.took_one()), ["run-recovered"]);
    }
}

#[test]
fn a_dead_receiver_fails_no_run_and_is_told_later_by_the_next() {
    for dead in [Behaviour::Says("500 Internal Server Error"), Behaviour::Closes, Behaviour::Hangs]
    {
        let (server, fleet) = fleet();
        let receiver = Receiver::that(dead.clone());
        server.also(&format!("{}timeout = \"1s\"\n", webhook(&receiver)));
        breaks_at(&fleet, "broken");
        let run = server.build(&[]);
        assert_eq!(run.code(), 3, "{dead:?}: {run}");
        assert!(run.stderr.contains("hook is told later: "), "{dead:?}: {run}");
        assert!(server.latest("beta").is_some());
        assert_eq!(waiting(&server, "hook"), 1);
        let first = receiver.taken().remove(0).json();

        receiver.now(Behaviour::Says("204 No Content"));
        mends(&fleet);
        let _ = server.build(&[]).success();
        let told: Vec<Value> =
            receiver.taken().iter().map(super::receiver::Request::json).collect();
        assert_eq!(told.len(), 2, "each in its turn: {told:#?}");
        assert_eq!(told[0], first, "the same message, by its name");
        assert_eq!(events(&told[1]), ["host-recovered"]);
        assert_eq!(waiting(&server, "hook"), 0);
    }
}

#[test]
fn what_a_killed_run_had_written_and_not_sent_is_sent_by_the_next() {
    let (server, fleet) = fleet();
    let receiver = Receiver::that(Behaviour::Hangs);
    server.also(&format!("{}timeout = \"10m\"\n", webhook(&receiver)));
    breaks_at(&fleet, "broken");
    let mut run = server.larder(&["build"]).spawn();
    let first = receiver.wait().json();
    run.kill();
    assert_eq!(waiting(&server, "hook"), 1);
    receiver.now(Behaviour::Says("200 OK"));
    let _ = receiver.taken();
    assert_eq!(server.build(&[]).code(), 3);
    assert_eq!(receiver.took_one(), first, "once, and not again as a failure of this run");
}

#[test]
fn a_server_sends_what_waits_and_tells_that_no_run_ends_any_more() {
    let (server, fleet) = fleet();
    let receiver = Receiver::that(Behaviour::Says("503 Service Unavailable"));
    server.also(&format!("{}overdue-after = \"1s\"\n", webhook(&receiver)));
    breaks_at(&fleet, "broken");
    assert_eq!(server.build(&[]).code(), 3);
    assert_eq!(receiver.taken().len(), 1);
    receiver.now(Behaviour::Says("200 OK"));
    // As if its pause were over.
    let sent = server.state_dir().join("notices/hook/sent.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&sent).unwrap()).unwrap();
    assert_eq!(state["trouble"]["tries"], 1, "{state:#}");
    state["trouble"]["next"] = "2020-01-01T00:00:00Z".into();
    fs::write(&sent, state.to_string()).unwrap();

    let (mut serving, _) = serving(&server);
    let told = serving.wait_for("the messages", std::time::Duration::from_secs(60), |_| {
        let told = receiver.requests();
        (told.len() == 2).then_some(told)
    });
    assert_eq!(events(&told[0].json()), ["host-failed"]);
    assert_eq!(events(&told[1].json()), ["overdue"]);
    assert_eq!(serving.stop(), 0);
    let _ = receiver.taken();
    assert_eq!(server.build(&[]).code(), 3);
    assert_eq!(events(&receiver.taken()[0].json()), ["resumed"]);
}

#[test]
fn a_week_is_not_late_by_a_weekly_schedule_and_a_broken_folder_is_in_nobodys_way() {
    let (server, _fleet) = fleet();
    let (usual, strict) = (Receiver::that_takes_all(), Receiver::that_takes_all());
    let hook = |name: &str, receiver: &Receiver, more: &str| {
        let url = receiver.url("/");
        format!("[[notify]]\nname = {name:?}\nkind = \"webhook\"\nurl = {url:?}\n{more}\n")
    };
    // Their turn comes in this order.
    server.also(&hook("broken", &usual, ""));
    server.also(&hook("usual", &usual, ""));
    server.also(&hook("strict", &strict, "overdue-after = \"3d\""));
    server.also("[[schedule]]\nname = \"weekly\"\nat = \"0 3 * * SUN\"\n");
    fs::create_dir_all(server.state_dir().join("notices")).unwrap();
    fs::write(server.state_dir().join("notices/broken"), "not a folder").unwrap();
    let ledger = Ledger::open(&ledger_file(&server.state_dir())).unwrap();
    let now =
        Timestamp::try_from(fs::metadata(server.config()).unwrap().modified().unwrap()).unwrap();
    let days = SignedDuration::from_hours(24 * 5);
    let run = ledger.begin_run(now - days, "flake").unwrap();
    ledger.keep_report(run, now - days, &Report::default().write()).unwrap();
    let (mut serving, _) = serving(&server);
    assert_eq!(events(&strict.wait().json()), ["overdue"]);
    assert_eq!(usual.requests().len(), 0);
    assert!(serving.output().contains("broken is not told how the fleet is"));
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_program_reads_the_message_or_a_whole_mail() {
    let (server, fleet) = fleet();
    let files = ["text", "mail", "json"].map(|name| server.store.work_dir().join(name));
    let receivers: String = [("text", ""), ("mail", "mail-to = [\"ops@example.org\"]"), ("json", "json = true")]
        .iter()
        .zip(&files)
        .map(|((name, more), file)| {
            format!(
                "[[notify]]\nname = {name:?}\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"cat > $1\", \"x\", {file:?}]\n{more}\n"
            )
        })
        .collect();
    server.also(&receivers);
    breaks_at(&fleet, "broken");
    assert_eq!(server.build(&[]).code(), 3);
    let [text, mail, json] = files.map(|file| fs::read_to_string(file).unwrap());
    assert!(
        text.starts_with("Larder: alpha fails\n\nalpha does not build: broken, since "),
        "{text}"
    );
    let (head, body) = mail.split_once("\n\n").unwrap();
    assert!(head.starts_with("To: ops@example.org\nSubject: Larder: alpha fails\n"), "{head}");
    assert!(body.contains("main.c:42"), "{body}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["title"], "Larder: alpha fails");
}

#[test]
fn only_what_is_wanted_is_told_and_a_digest_when_it_is_asked_for() {
    let (server, fleet) = fleet();
    let (some, digest) = (Receiver::that_takes_all(), Receiver::that_takes_all());
    server.also(&format!(
        "{}events = [\"recovery\"]\n[[notify]]\nname = \"digest\"\nkind = \"webhook\"\nurl = {:?}\ndigest = \"daily\"\n\
         events = [\"overdue\"]\n",
        webhook(&some),
        digest.url("/")
    ));
    breaks_at(&fleet, "broken");
    assert_eq!(server.build(&[]).code(), 3);
    assert_eq!(some.taken().len(), 0, "failures are not wanted");
    let told = digest.taken();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].json()["kind"], "digest");
    assert!(told[0].body.contains("alpha fails since "), "{told:?}");
    mends(&fleet);
    let _ = server.build(&[]).success();
    assert_eq!(events(&some.took_one()), ["host-recovered"], "of what was not told");
    assert_eq!(digest.taken().len(), 0, "once a day");
}
