//! Schedules, with real servers and runs: what is due is built, once, whatever is killed meanwhile.

use std::{
    fs,
    ops::Deref,
    thread::sleep,
    time::{Duration, Instant},
};

use larder_testkit::{Background, BlackHole, Nix, NixVersion, Program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::build_server::{BuildServer, SmallFleet, WAIT};

/// A build server with schedules; its runs end with it.
struct Scheduled {
    server: BuildServer,
    fleet: SmallFleet,
}

const NIGHTLY: &str = "[[schedule]]\nname = \"nightly\"\nat = \"02:00\"\njitter = \"off\"\n";

impl Scheduled {
    fn new(schedules: &str) -> Self {
        let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, schedules);
        server.serve("listen = [\"127.0.0.1:0\"]");
        Self { server, fleet }
    }

    /// One whose run of `nightly` is due, has built the host alpha, and waits at the gate with beta.
    fn halfway() -> (Self, Background) {
        let all = Self::new(&format!("max-jobs = 2\n{NIGHTLY}"));
        let _ = all.fleet.set_hosts(&[("alpha", "echo > $gate/alpha-built;"), ("beta", WAIT)]);
        all.miss("nightly", "02:00");
        let mut serving = all.serve();
        let _ = serving.wait_for_line("the run of nightly begins");
        let there = ["waiting", "alpha-built"].map(|file| all.gate().join(file));
        wait_until("both hosts are being built", || there.iter().all(|file| file.exists()));
        let alpha = all.planned("alpha");
        wait_until("alpha is valid", || all.store.is_valid(&alpha));
        (all, serving)
    }

    /// A host's system, as its evaluation says.
    fn planned(&self, host: &str) -> String {
        let link = self.state_dir().join("run/derivations-1").join(host);
        let derivation = fs::read_link(link).unwrap().display().to_string();
        let asked = self.store.nix(&["nix-store", "-q", "--outputs", &derivation]).success();
        asked.text().to_owned()
    }

    /// Makes as if a schedule had been done last long ago.
    fn miss(&self, name: &str, at: &str) {
        self.missed(&format!(
            "\"{name}\":{{\"at\":\"{at}\",\"settled\":\"2020-01-01T00:00:00Z\"}}"
        ));
    }

    fn missed_all_and_some(&self) {
        let settled = "{\"at\":\"02:00\",\"settled\":\"2020-01-01T00:00:00Z\"}";
        self.missed(&format!("\"all\":{settled},\"some\":{settled}"));
    }

    fn missed(&self, schedules: &str) {
        let text = format!("{{\"version\":1,\"schedules\":{{{schedules}}}}}");
        fs::create_dir_all(self.state_dir()).unwrap();
        fs::write(self.state_dir().join("schedule.json"), text).unwrap();
    }

    fn serve(&self) -> Background {
        let mut serving = self.larder(&["serve"]).spawn();
        let _ = serving.wait_for_line("listening on");
        serving
    }

    /// A run by hand that waits at the gate, and a server, one of whose schedules is due and waits for that.
    fn behind_one_by_hand(&self) -> (Background, Background) {
        let _ = self.fleet.set_hosts(&[("alpha", WAIT), ("beta", "")]);
        let by_hand = self.larder(&["build"]).spawn();
        wait_until("it waits", || self.gate().join("waiting").exists());
        let mut serving = self.serve();
        let _ = serving.wait_for_line("a run is due, and waits for the one under way");
        (by_hand, serving)
    }

    fn log(&self, name: &str) -> String {
        let log = self.state_dir().join(format!("schedule/{name}.log"));
        fs::read_to_string(log).unwrap_or_default()
    }

    /// The runs under way.
    fn runs(&self) -> Vec<Pid> {
        let runs = self.processes().into_iter();
        let runs = runs.filter(|(_, command)| command.contains("schedule run"));
        runs.map(|(pid, _)| Pid::from_raw(pid).unwrap()).collect()
    }

    /// What `larder schedule --json` says of the first.
    fn listed(&self) -> Value {
        let listed = self.larder(&["schedule", "--json"]).run();
        serde_json::from_str(listed.lines().first().map_or("", String::as_str))
            .unwrap_or_else(|error| panic!("{error}: {listed}"))
    }

    /// How many runs the ledger knows.
    fn count(&self) -> i64 {
        let ledger = larder_fleet::night::ledger_file(&self.state_dir());
        let count =
            Program::new("sqlite3").arg(ledger).arg("select count(*) from runs").run().success();
        count.text().parse().unwrap()
    }
}

impl Deref for Scheduled {
    type Target = BuildServer;

    fn deref(&self) -> &BuildServer {
        &self.server
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        kill_all(&self.server);
    }
}

/// As a crash of the whole machine would.
fn kill_all(server: &BuildServer) {
    for (pid, _) in server.processes() {
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not after a minute: {what}");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_was_missed_is_built_once_and_a_restart_builds_it_not_again() {
    let all = Scheduled::new(NIGHTLY);
    let idle = all.larder(&["schedule"]).run();
    assert_eq!(idle.code(), 3, "{idle}");
    assert!(idle.stdout.contains("no run has ended yet"), "{idle}");
    assert!(idle.stderr.contains("no `larder serve` is running"), "{idle}");
    all.miss("nightly", "02:00");
    let mut serving = all.serve();
    let _ = serving.wait_for_line("the run of nightly has ended: all is well");
    assert!(all.rev("alpha").is_some() && all.rev("gamma").is_some());
    let listed = all.larder(&["schedule"]).run().success();
    assert!(listed.stdout.contains("nightly: 02:00, next "), "{listed}");
    assert!(listed.stdout.contains(": all is well"), "{listed}");
    assert_eq!(serving.stop(), 0);
    let mut serving = all.serve();
    wait_until("it looks", || all.larder(&["schedule"]).run().ok());
    assert_eq!(all.runs(), []);
    assert!(!serving.output().contains("begins"), "{}", serving.output());
    assert_eq!(all.listed()["last"]["status"], 0);
    assert_eq!(all.count(), 1);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_run_survives_its_server_and_the_next_one_says_so() {
    let (all, mut serving) = Scheduled::halfway();
    assert_eq!(all.listed()["state"], "underWay");
    serving.kill();
    assert_eq!(all.runs().len(), 1);
    let mut next = all.serve();
    let _ = next.wait_for_line("the run of nightly, begun ");
    // So does a configuration that is read again.
    next.signal(Signal::HUP);
    let _ = next.wait_for_line("reloaded");
    assert_eq!(all.runs().len(), 1);
    all.open_gate();
    let _ = next.wait_for_line("the run of nightly has ended: all is well");
    assert_eq!(all.count(), 1);
    assert!(all.rev("beta").is_some());
    assert_eq!(next.stop(), 0);
}

#[test]
fn a_server_that_is_stopped_lets_its_run_go_on() {
    let (all, mut serving) = Scheduled::halfway();
    assert_eq!(serving.stop(), 0);
    assert_eq!(all.runs().len(), 1);
    all.open_gate();
    wait_until("the run has ended", || all.runs().is_empty());
    let mut next = all.serve();
    let _ = next.wait_for_line("the run of nightly has ended: all is well");
    assert_eq!(next.stop(), 0);
    assert_eq!(all.count(), 1);
}

#[test]
fn a_run_that_goes_down_with_the_machine_is_resumed_and_builds_what_is_missing() {
    let (all, mut serving) = Scheduled::halfway();
    serving.kill();
    kill_all(&all);
    wait_until("nothing runs", || all.processes().is_empty());
    assert_eq!(all.listed()["state"], "brokenOff");
    all.open_gate();
    let mut next = all.serve();
    let _ = next.wait_for_line("the run of nightly ended unfinished and is resumed (1 of 3)");
    let _ = next.wait_for_line("the run of nightly has ended: all is well");
    assert!(all.log("nightly").contains("alpha: everything is there"), "{}", all.log("nightly"));
    assert!(all.rev("alpha").is_some() && all.rev("beta").is_some());
    assert_eq!(next.stop(), 0);
}

#[test]
fn a_run_that_the_system_ends_is_resumed_and_one_that_dies_each_time_is_given_up() {
    let (all, mut serving) = Scheduled::halfway();
    for n in 1..=3 {
        let signal = if n == 1 { Signal::TERM } else { Signal::KILL };
        let run = all.runs()[0];
        kill_process(run, signal).unwrap();
        let _ = serving.wait_for_line(&format!("is resumed ({n} of 3)"));
        wait_until("another is at work", || all.runs().iter().any(|now| *now != run));
    }
    kill_process(all.runs()[0], Signal::KILL).unwrap();
    let _ =
        serving.wait_for_line("the run of nightly ended unfinished and is not resumed any more");
    assert_eq!(all.runs(), []);
    assert_eq!(all.listed()["state"], Value::Null);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_run_that_has_ended_and_is_only_told_is_not_done_again() {
    let all = Scheduled::new(NIGHTLY);
    let _ = all.fleet.set_hosts(&[("alpha", "exit 1;")]);
    let telling = all.gate().join("telling");
    all.also(&format!(
        "[[notify]]\nname = \"slow\"\nkind = \"command\"\ntimeout = \"10m\"\n\
         command = [\"sh\", \"-c\", \"echo > $1; exec sleep 600\", \"x\", {telling:?}]\n"
    ));
    all.miss("nightly", "02:00");
    let mut serving = all.serve();
    wait_until("the receiver is told", || telling.exists());
    kill_process(all.runs()[0], Signal::TERM).unwrap();
    let _ = serving.wait_for_line("the run of nightly has ended: some hosts failed");
    assert_eq!(all.count(), 1);
    assert!(!serving.output().contains("resumed"), "{}", serving.output());
    assert_eq!(serving.stop(), 0);
}

#[test]
fn while_one_run_pushes_what_it_published_the_next_begins() {
    let all = Scheduled::new(
        "[[schedule]]\nname = \"all\"\nat = \"02:00\"\njitter = \"off\"\n\
         [[schedule]]\nname = \"some\"\nat = \"02:00\"\njitter = \"off\"\nhosts = [\"beta\"]\n",
    );
    all.missed_all_and_some();
    let (mut by_hand, mut serving) = all.behind_one_by_hand();
    // The server, which has not read this, does not push; a run does.
    let hole = BlackHole::new();
    all.also(&format!(
        "[[cache]]\nname = \"far\"\nurl = \"http://{}/\"\n[push]\nto = [\"far\"]\ntrusted-upstreams = []\n",
        hole.address()
    ));
    all.open_gate();
    assert_eq!(by_hand.wait(Duration::from_secs(60)), 0);
    let _ = serving.wait_for_line("the run of some begins");
    assert!(serving.output().contains("the run of all has ended: all is well"));
    let of_all = |(_, command): &(i32, String)| command.contains("schedule run all");
    assert!(all.processes().iter().any(of_all), "it still pushes: {}", all.log("all"));
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_run_that_is_cancelled_twice_is_cancelled() {
    let (all, mut serving) = Scheduled::halfway();
    let run = all.runs()[0];
    // The second ends it at once.
    while kill_process(run, Signal::INT).is_ok() {
        sleep(Duration::from_millis(1));
    }
    let _ = serving.wait_for_line("the run of nightly has ended: cancelled");
    assert!(!serving.output().contains("resumed"), "{}", serving.output());
    assert_eq!(all.count(), 1);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_run_that_is_cancelled_ends_is_not_resumed_and_keeps_what_was_built() {
    let (all, mut serving) = Scheduled::halfway();
    let cancelled = all.build(&["--cancel"]).success();
    assert!(cancelled.stderr.contains("has ended; what was built so far is kept"), "{cancelled}");
    let _ = serving.wait_for_line("the run of nightly has ended: cancelled");
    assert_eq!(all.listed()["last"]["status"], 130);
    assert_eq!(all.listed()["state"], Value::Null);
    assert_eq!(all.runs(), []);
    let nothing = all.build(&["--cancel"]).success();
    assert!(nothing.stderr.contains("no run is under way"), "{nothing}");
    assert_eq!(all.count(), 1, "it was not begun again");
    all.open_gate();
    let next = all.build(&["--json"]).success();
    assert_eq!(BuildServer::report(&next)["built"], 1, "{next}");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn anybodys_run_can_be_cancelled_and_one_that_does_not_end_is_told_of() {
    let all = Scheduled::new("");
    let _ = all.fleet.set_hosts(&[("alpha", WAIT)]);
    let mut running = all.larder(&["build"]).spawn();
    wait_until("it waits", || all.gate().join("waiting").exists());
    let cancelled = all.build(&["--cancel"]).success();
    assert!(cancelled.stderr.contains(&format!("process {}", running.pid())), "{cancelled}");
    assert_eq!(running.wait(Duration::from_secs(30)), 130);
    let refused = all.build(&["--cancel", "--update"]).failure();
    assert_eq!(refused.code(), 2);
    // A lock that names nobody is nobody's to signal.
    let lock = all.state_dir().join("run.lock");
    for text in ["", "process 1 since today", "process -5 since", "process x"] {
        fs::write(&lock, text).unwrap();
        let mut holder = Program::new("flock").arg(&lock).args(["sleep", "60"]).spawn();
        wait_until("it is held", || !all.build(&["--dry-run"]).ok());
        let unknown = all.build(&["--cancel"]).failure();
        assert!(unknown.stderr.contains("does not say which process"), "{text:?}: {unknown}");
        assert!(holder.is_running());
    }
}

#[test]
fn a_run_that_is_due_waits_for_another_and_begins_after_it() {
    let all = Scheduled::new(NIGHTLY);
    all.miss("nightly", "02:00");
    let (mut by_hand, mut serving) = all.behind_one_by_hand();
    assert_eq!(all.runs(), []);
    all.open_gate();
    assert_eq!(by_hand.wait(Duration::from_secs(60)), 0);
    let _ = serving.wait_for_line("the run of nightly has ended: all is well");
    assert_eq!(all.count(), 2);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_run_that_is_due_waits_for_a_configuration_that_can_be_read() {
    let all = Scheduled::new(NIGHTLY);
    all.miss("nightly", "02:00");
    let (mut by_hand, mut serving) = all.behind_one_by_hand();
    let good = fs::read_to_string(all.config()).unwrap();
    all.also("[[schedule]]\nname = 7\n");
    all.open_gate();
    assert_eq!(by_hand.wait(Duration::from_secs(60)), 0);
    let _ = serving.wait_for_line("a run is due, and waits until it can be configured");
    assert_eq!((all.runs(), all.count()), (Vec::new(), 1));
    // A schedule that is no longer there is not begun again and again.
    fs::write(all.config(), good.replace("nightly", "weekly")).unwrap();
    let _ = serving.wait_for_line("the run of nightly has ended: ");
    assert!(!serving.output().contains("resumed"), "{}", serving.output());
    assert!(all.log("nightly").contains("there is no schedule nightly"), "{}", all.log("nightly"));
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_run_that_cannot_be_started_is_as_if_it_had_not_been_tried() {
    let all = Scheduled::new(NIGHTLY);
    let folder = all.state_dir().join("schedule");
    fs::create_dir_all(folder.join("nightly.previous.log")).unwrap();
    fs::write(folder.join("nightly.log"), "the run before").unwrap();
    let (ending, busy) = (folder.join("nightly.json"), 75);
    let last_word =
        json!({ "begun": "2020-01-01T00:00:00Z", "ended": "2020-01-01T00:00:01Z", "status": busy });
    fs::write(&ending, last_word.to_string()).unwrap();
    all.miss("nightly", "02:00");
    let mut serving = all.serve();
    let _ = serving.wait_for_line("the schedules: cannot lock");
    let memory = fs::read_to_string(all.state_dir().join("schedule.json")).unwrap();
    let memory: Value = serde_json::from_str(&memory).unwrap();
    let nightly = &memory["schedules"]["nightly"];
    assert_eq!(nightly["settled"], "2020-01-01T00:00:00Z", "{nightly}");
    assert_eq!(nightly["run"], Value::Null);
    let kept: Value = serde_json::from_slice(&fs::read(&ending).unwrap()).unwrap();
    assert_eq!(kept["status"], busy, "the last word stays until another run can have one");
    assert_eq!(serving.stop(), 0);
    fs::remove_dir(folder.join("nightly.previous.log")).unwrap();
    let mut serving = all.serve();
    let _ = serving.wait_for_line("the run of nightly begins");
    let _ = serving.wait_for_line("the run of nightly has ended: all is well");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn each_schedule_builds_its_hosts_and_one_after_the_other() {
    let all = Scheduled::new(
        "[[schedule]]\nname = \"all\"\nat = \"02:00\"\njitter = \"off\"\nexcept = [\"gamma\", \"unknown\"]\n\
         [[schedule]]\nname = \"some\"\nat = \"02:00\"\njitter = \"off\"\nhosts = [\"beta\"]\n",
    );
    all.missed_all_and_some();
    let mut serving = all.serve();
    let _ = serving.wait_for_line("the run of some has ended: all is well");
    assert!(serving.output().contains("the run of all has ended: all is well"), "the first first");
    assert!(all.log("all").contains("alpha"), "{}", all.log("all"));
    assert!(!all.log("all").contains("beta") && !all.log("all").contains("gamma"));
    assert!(all.log("some").contains("beta") && !all.log("some").contains("alpha"));
    assert_eq!(all.rev("gamma"), None);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn the_lock_goes_home_by_a_schedule_of_all_hosts_and_not_by_one_of_some() {
    let home = |schedules: &str| {
        let all = Scheduled::new(&format!("push-lock-to = \"review\"\n{NIGHTLY}{schedules}"));
        all.fleet.lock(&all.store);
        let _ = all.fleet.move_nixpkgs("2");
        let _ = all.larder(&["schedule", "run", "nightly"]).run().success();
        let report = all.larder(&["report", "--json"]).run().success();
        let report: Value = serde_json::from_str(&report.stdout).unwrap();
        assert_eq!(report["schedule"], "nightly");
        (report["whole"].clone(), report["lock"]["home"].clone())
    };
    assert_eq!(home(""), (true.into(), "pushed".into()));
    let noon = "[[schedule]]\nname = \"noon\"\nat = \"12:00\"\nhosts = [\"gamma\"]\n";
    assert_eq!(home(noon), (false.into(), "not-pushed".into()));
}

#[test]
fn a_scheduled_run_lets_go_of_what_was_built_long_ago() {
    let all = Scheduled::new(NIGHTLY);
    let _ = all.fleet.write_hosts(
        "alpha = make \"nixos-system\" ''$builder cat ${make \"tool\" \"echo 1 > $out\"} > $out'';\n",
    );
    let old = "00000000000000000000000000000000-built";
    let roots = all.store.state_dir().join("gcroots/larder/built");
    fs::create_dir_all(&roots).unwrap();
    fs::write(roots.join(old), "").unwrap();
    let _ = all.larder(&["pin", "prune"]).run().success();
    let record = all.state_dir().join("built.sqlite");
    let ended = Program::new("sqlite3").arg(record).arg("update leases set until = 1");
    let _ = ended.run().success();
    all.miss("nightly", "02:00");
    let mut serving = all.serve();
    let _ = serving.wait_for_line("the run of nightly has ended: all is well");
    assert!(!roots.join(old).exists());
    assert!(fs::read_dir(&roots).unwrap().count() > 0, "what the hosts are built with is leased");
    assert!(all.log("nightly").contains(&format!("{old} was built long enough ago")));
    assert_eq!(serving.stop(), 0);
}

#[test]
fn hosts_can_be_left_out_of_a_run() {
    let all = Scheduled::new("");
    let built = all.build(&["--json", "--without", "beta", "--without", "gamma"]).success();
    let report = BuildServer::report(&built);
    let hosts: Vec<_> = report["hosts"].as_array().unwrap().iter().map(|it| &it["host"]).collect();
    assert_eq!(hosts, ["alpha"]);
    let slip = all.build(&["--without", "btea"]).failure();
    assert!(slip.stderr.contains("the flake has no host `btea`"), "{slip}");
}

#[test]
fn what_cannot_be_understood_or_done_is_told() {
    let all = Scheduled::new(NIGHTLY);
    fs::create_dir_all(all.state_dir()).unwrap();
    fs::write(all.state_dir().join("schedule.json"), "{").unwrap();
    let mut serving = all.serve();
    let _ = serving.wait_for_line("schedule.json.broken");
    assert!(all.larder(&["schedule"]).run().success().stdout.contains("no run has ended yet"));
    let mut second = all.larder(&["serve"]).spawn();
    let _ = second.wait_for_line("another server builds by the schedules");
    let unknown = all.larder(&["schedule", "run", "weekly"]).run().failure();
    assert!(unknown.stderr.contains("there is no schedule weekly"), "{unknown}");
    assert!(unknown.stderr.contains("Configured: nightly"), "{unknown}");
    let _ = all.larder(&["schedule", "run", "nightly"]).run().success();
    assert_eq!(all.listed()["last"]["status"], 0);
    assert_eq!((second.stop(), serving.stop()), (0, 0));
}
