//! The decision, over random nights, against a plain retelling of what changed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use larder_fleet::{
    ledger::{Failure, FailureKind, Held, Outcome},
    night::{End, HostReport, Report},
    notify::{Digest, Event, EventKind, Said, Standing, Wants, decide},
};
use proptest::prelude::*;

use crate::samples::time;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

pub(super) fn wants() -> Wants {
    Wants { events: EventKind::ALL.into(), digest: Digest::Never, overdue_after: HOUR * 72 }
}

pub(super) fn failing(package: &str) -> Outcome {
    let derivation = format!("{}-{package}-1.0.drv", "0".repeat(32));
    let last_lines = vec!["error: it is broken".to_owned()];
    let kind = FailureKind::Itself;
    let failures = vec![Failure { derivation, last_lines, kind, peak: None }];
    Outcome::BuildFailed { failures, message: String::new(), kind }
}

pub(super) fn report(hosts: &[(&str, Outcome)]) -> Report {
    let host = |(name, outcome): &(&str, Outcome)| HostReport {
        outcome: Some(outcome.clone()),
        ..HostReport::of(name.parse().unwrap())
    };
    Report { update: true, hosts: hosts.iter().map(host).collect(), ..Report::default() }
}

pub(super) fn held(input: &str, since: &str) -> Held {
    Held {
        input: input.to_owned(),
        at: "github:a/b/1".to_owned(),
        bad: "github:a/b/2".to_owned(),
        since: time(since),
        hosts: vec!["pc".parse().unwrap()],
        failures: Vec::new(),
        message: String::new(),
    }
}

/// What is said of these, one night after the other.
fn tell(reports: &[Report]) -> Vec<Vec<Event>> {
    let mut said = Said::default();
    let tell = |report: &Report| {
        let now = time("2026-01-01T03:00:00Z");
        let standing = Standing { report: Some(report), last_end: Some(now), now };
        let Some(step) = decide(&said, standing, &wants()) else { return Vec::new() };
        said = step.after;
        step.events
    };
    reports.iter().map(tell).collect()
}

fn kinds(told: &[Vec<Event>]) -> Vec<Vec<EventKind>> {
    told.iter().map(|events| events.iter().map(Event::kind).collect()).collect()
}

#[test]
fn what_an_evaluation_says_is_another_reason_only_if_its_words_are_others() {
    let night = |message: &str| {
        let message = message.to_owned();
        report(&[("pc", Outcome::EvaluationFailed { message })])
    };
    let told = tell(&[
        night(
            "trace\nerror: option `a' at /nix/store/0zqbcdfghijklmnpqrsvwxyz01234567-source/x.nix:12:3 is gone",
        ),
        night(
            "trace\nerror: option `a' at /nix/store/1zqbcdfghijklmnpqrsvwxyz01234567-source/x.nix:13:3 is gone",
        ),
        night(
            "trace\nerror: option `b' at /nix/store/1zqbcdfghijklmnpqrsvwxyz01234567-source/x.nix:13:3 is gone",
        ),
    ]);
    assert_eq!(kinds(&told), [vec![EventKind::Failure], vec![], vec![EventKind::Failure]]);
}

#[test]
fn the_error_counts_and_not_what_nix_writes_behind_it() {
    let night = |error: &str, behind: &str| {
        let message = format!("error:\n  … while calling `seq'\n  error: {error}\n{behind}");
        report(&[("pc", Outcome::EvaluationFailed { message })])
    };
    let excerpt =
        "  at /nix/store/x-source/x.nix:2:3:\n     1| {\n     2|   a = b;\n      |       ^\n";
    let hint = "(use '--show-trace' to show detailed location information)\n";
    for behind in [excerpt, hint] {
        let nights = ["undefined variable 'b'", "undefined variable 'b'", "attribute 'c' missing"];
        let told = tell(&nights.map(|error| night(error, behind)));
        assert_eq!(kinds(&told), [vec![EventKind::Failure], vec![], vec![EventKind::Failure]]);
    }
}

#[test]
fn a_build_that_fails_without_a_derivation_is_known_by_its_words() {
    let without = |message: &str| Outcome::BuildFailed {
        failures: Vec::new(),
        message: message.to_owned(),
        kind: FailureKind::Itself,
    };
    let nights = [
        without("error: no room"),
        without("error: no room"),
        without("error: no rights"),
        failing("one"),
    ];
    let nights = nights.map(|outcome| report(&[("pc", outcome)]));
    let failure = || vec![EventKind::Failure];
    assert_eq!(kinds(&tell(&nights)), [failure(), vec![], failure(), failure()]);
    let nights = [failing("one"), without(""), failing("one")];
    let nights = nights.map(|outcome| report(&[("pc", outcome)]));
    assert_eq!(kinds(&tell(&nights)), [failure(), vec![], vec![]], "it was known");
}

#[test]
fn of_several_failures_those_that_are_new_are_told_and_not_that_some_are_mended() {
    let night = |packages: &[&str]| {
        let failures = packages.iter().flat_map(|package| match failing(package) {
            Outcome::BuildFailed { failures, .. } => failures,
            _ => Vec::new(),
        });
        let (failures, kind) = (failures.collect(), FailureKind::Itself);
        report(&[("pc", Outcome::BuildFailed { failures, message: String::new(), kind })])
    };
    let told = tell(&[night(&["a", "b"]), night(&["a"]), night(&["a", "c"]), night(&["c", "a"])]);
    assert_eq!(kinds(&told), [vec![EventKind::Failure], vec![], vec![EventKind::Failure], vec![]]);
}

#[test]
fn a_hold_ends_only_by_a_whole_run_that_tried_an_update() {
    let with = |since: &str| Report { held: vec![held("nixpkgs", since)], ..report(&[]) };
    let first = "2026-01-01T03:00:00Z";
    let told = tell(&[
        with(first),
        with(first),
        Report { update: false, ..report(&[]) },
        Report { end: End::Cancelled, ..report(&[]) },
        with(first),
        report(&[]),
        with("2026-01-09T03:00:00Z"),
        with("2026-01-19T03:00:00Z"),
    ]);
    let (hold, ended) = (EventKind::Hold, EventKind::HoldEnded);
    assert_eq!(
        kinds(&told),
        [vec![hold], vec![], vec![], vec![], vec![], vec![ended], vec![hold], vec![hold]]
    );
}

#[test]
fn that_runs_of_one_schedule_fail_is_told_once_whatever_others_do_meanwhile() {
    let run = |schedule: &str, end: End| {
        let schedule = Some(schedule.to_owned());
        Report { schedule, end, ..report(&[]) }
    };
    let late = || End::Stopped { reason: "it is too late".to_owned() };
    let told = tell(&[
        run("nightly", late()),
        run("noon", End::Finished),
        run("nightly", late()),
        run("noon", End::Finished),
        run("nightly", End::Finished),
    ]);
    let (failure, recovery) = (EventKind::Failure, EventKind::Recovery);
    assert_eq!(kinds(&told), [vec![failure], vec![], vec![], vec![], vec![recovery]]);
}

#[test]
fn that_no_run_ends_is_told_once_and_over_with_the_next_end() {
    let mut said = Said::default();
    let last_end = Some(time("2026-01-01T03:00:00Z"));
    let mut ask = |now: &str, report: Option<&Report>, last_end: Option<Timestamp>| {
        let standing = Standing { report, last_end, now: time(now) };
        let step = decide(&said, standing, &wants());
        if let Some(step) = &step {
            said = step.after.clone();
        }
        step.map(|step| step.events).unwrap_or_default()
    };
    assert_eq!(ask("2026-01-04T02:59:00Z", None, last_end), []);
    let since = time("2026-01-01T03:00:00Z");
    assert_eq!(ask("2026-01-04T03:01:00Z", None, last_end), [Event::Overdue { since }]);
    assert_eq!(ask("2026-01-05T03:01:00Z", None, last_end), []);
    let cancelled = Report { end: End::Cancelled, ..Report::default() };
    assert_eq!(ask("2026-01-05T03:02:00Z", Some(&cancelled), last_end), []);
    let now = "2026-01-05T03:03:00Z";
    assert_eq!(ask(now, Some(&Report::default()), Some(time(now))), [Event::Resumed]);
    assert_eq!(ask("2026-01-05T03:04:00Z", None, None), [], "before any run nothing is late");
}

#[test]
fn an_end_that_a_wrong_clock_put_into_the_future_is_none() {
    let (ended, now) = (time("2026-01-01T03:00:00Z"), time("2026-01-09T03:00:00Z"));
    let never = Some(time("2038-01-01T00:00:00Z"));
    // Whether the ledger has it, or what was said before.
    for (said, told) in [(Some(ended), never), (never, Some(ended))] {
        let said = Said { last_end: said, ..Said::default() };
        let standing = Standing { report: None, last_end: told, now };
        let step = decide(&said, standing, &wants()).unwrap();
        assert_eq!(step.events, [Event::Overdue { since: ended }]);
    }
}

#[test]
fn a_run_that_has_just_ended_is_known_though_the_ledger_could_not_keep_it() {
    let (stale, now) = (Some(time("2026-01-01T03:00:00Z")), time("2026-01-09T03:00:00Z"));
    let ended = Report::default();
    let standing = Standing { report: Some(&ended), last_end: stale, now };
    let step = decide(&Said::default(), standing, &wants()).unwrap();
    assert_eq!(step.events, []);
    let later = Standing { report: None, last_end: stale, now: now + HOUR };
    assert_eq!(decide(&step.after, later, &wants()), None);
    let much_later = Standing { now: now + HOUR * 73, ..later };
    let told = decide(&step.after, much_later, &wants()).unwrap().events;
    assert_eq!(told, [Event::Overdue { since: now }]);
}

#[test]
fn a_digest_comes_with_the_first_run_of_another_day_or_without_one_a_while_later() {
    let wants = Wants { digest: Digest::Daily, ..wants() };
    let report = Report::default();
    let mut said = Said::default();
    let mut ask = |now: &str, with_a_run: bool| {
        let report = with_a_run.then_some(&report);
        let now = time(now);
        let step = decide(&said, Standing { report, last_end: Some(now), now }, &wants);
        if let Some(step) = &step {
            said = step.after.clone();
        }
        step.is_some_and(|step| step.digest)
    };
    assert!(!ask("2026-01-01T00:00:00Z", false), "nothing is known yet");
    assert!(ask("2026-01-01T03:10:00Z", true));
    assert!(!ask("2026-01-01T12:00:00Z", true));
    // Not a whole day later, since this run was quicker.
    assert!(ask("2026-01-02T03:05:00Z", true));
    assert!(!ask("2026-01-03T04:00:00Z", false), "the run of that day may still come");
    assert!(ask("2026-01-03T06:00:00Z", false));
    assert!(!ask("2026-01-03T07:00:00Z", true));
}

/// The schedules, each with its hosts and the input that only they take. Runs by hand are of all of them.
const PARTS: [(&str, &[&str], &str); 2] =
    [("nightly", &["pc", "nuc"], "theme"), ("noon", &["hp"], "games")];

/// One run: of which part (or by hand), how each host did (good, or failing at a package), whether the input of
/// each part is to be held, how it ended.
type Night = (usize, [u8; 3], [bool; 2], u8);

fn nights() -> impl Strategy<Value = Vec<Night>> {
    let outcomes = proptest::array::uniform3(1..4_u8);
    let holds = proptest::array::uniform2(proptest::bool::ANY);
    proptest::collection::vec((0..3_usize, outcomes, holds, 0..7_u8), 1..30)
}

/// How the world is: of whom or what something is wrong, and what.
type World = BTreeMap<String, String>;

/// What becomes of the world, and the report that a run makes of it.
fn of((part, hosts, holds, end): &Night, world: &mut World) -> Report {
    let parts: Vec<usize> =
        (0..PARTS.len()).filter(|it| part == it || *part >= PARTS.len()).collect();
    let schedule = PARTS.get(*part).map(|(name, _, _)| (*name).to_owned());
    let run = format!("run of {schedule:?}");
    let base = Report { schedule, update: true, ..Report::default() };
    match end {
        0 => {
            world.insert(run, "fails".to_owned());
            return Report { end: End::Failed { message: "no flake".to_owned() }, ..base };
        }
        1 => return Report { end: End::Cancelled, ..base },
        2 => drop(world.insert(run, "fails".to_owned())),
        _ => drop(world.remove(&run)),
    }
    let mut outcomes = Vec::new();
    let hosts_of = parts.iter().flat_map(|part| PARTS[*part].1);
    for (host, how) in hosts_of.zip(hosts) {
        outcomes.push((
            *host,
            match how {
                1 => {
                    world.remove(*host);
                    Outcome::Built
                }
                how => {
                    let package = ["one", "other"][usize::from(*how) - 2];
                    world.insert((*host).to_owned(), package.to_owned());
                    failing(package)
                }
            },
        ));
    }
    let end =
        if *end == 2 { End::Stopped { reason: "too late".to_owned() } } else { End::Finished };
    for part in parts.into_iter().filter(|_| end == End::Finished) {
        match holds[part] {
            true => drop(world.insert(PARTS[part].2.to_owned(), "held".to_owned())),
            false => drop(world.remove(PARTS[part].2)),
        }
    }
    // A run carries on what is held for hosts that took no part in it.
    let inputs =
        PARTS.iter().map(|(_, _, input)| input).filter(|input| world.contains_key(**input));
    let held = inputs.map(|input| held(input, "2026-01-01T03:00:00Z")).collect();
    Report { schedule: base.schedule, end, held, ..report(&outcomes) }
}

/// The reports of these runs, and how the world is after each.
fn retold(nights: &[Night]) -> (Vec<Report>, Vec<World>) {
    let mut world = World::new();
    let retell = |night| (of(night, &mut world), world.clone());
    nights.iter().map(retell).unzip()
}

/// Whom an event is about, and whether it says that something is wrong.
fn subject(event: &Event) -> (String, bool) {
    match event {
        Event::HostFailed(failed) => (failed.host.clone(), true),
        Event::HostRecovered { host, .. } => (host.clone(), false),
        Event::RunFailed { schedule, .. } => (format!("run of {schedule:?}"), true),
        Event::RunRecovered { schedule } => (format!("run of {schedule:?}"), false),
        Event::InputHeld { input, .. } => (input.clone(), true),
        Event::HoldEnded { input } => (input.clone(), false),
        other => panic!("{other:?}: no time passes here"),
    }
}

proptest! {
    #[test]
    fn each_change_is_told_once_and_no_state_twice_in_a_row(nights in nights()) {
        let mut before = World::new();
        let (reports, worlds) = retold(&nights);
        for (told, known) in tell(&reports).into_iter().zip(worlds) {
            let subjects: BTreeSet<&String> = before.keys().chain(known.keys()).collect();
            let changed: BTreeMap<String, bool> = subjects
                .into_iter()
                .filter(|subject| before.get(*subject) != known.get(*subject))
                .map(|subject| (subject.clone(), known.contains_key(subject)))
                .collect();
            prop_assert_eq!(told.len(), changed.len(), "{:?}", told);
            prop_assert_eq!(told.iter().map(subject).collect::<BTreeMap<_, _>>(), changed);
            before = known;
        }
    }

    #[test]
    fn whoever_wants_less_is_told_what_it_wants_as_if_it_wanted_all(
        nights in nights(),
        wanted in proptest::sample::subsequence(EventKind::ALL.to_vec(), 0..=5),
    ) {
        let (reports, _) = retold(&nights);
        let all = tell(&reports);
        let mut said = Said::default();
        let fewer = Wants { events: wanted.iter().copied().collect(), ..wants() };
        for (report, all) in reports.iter().zip(all) {
            let now = time("2026-01-01T03:00:00Z");
            let step = decide(&said, Standing { report: Some(report), last_end: Some(now), now }, &fewer);
            let told = step.map(|step| { said = step.after; step.events }).unwrap_or_default();
            let wished: Vec<Event> = all.into_iter().filter(|it| wanted.contains(&it.kind())).collect();
            prop_assert_eq!(told, wished);
        }
    }
}
