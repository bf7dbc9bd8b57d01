//! The ledger only grows, whoever writes it, and can be read while it does.

use std::{collections::BTreeSet, convert::Infallible, ops::ControlFlow, path::PathBuf, thread};

use larder_fleet::{
    ledger::{
        Failure, FailureKind, Ledger, LedgerError, Measured, Outcome, Peak, PublishError,
        Remembered,
    },
    night::{End, Headline, HostReport, LeftOut, Report},
    revision::Revision,
};
use larder_formats::envelope::Envelope;
use larder_testkit::scratch::scratch;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::samples::{fleet_key, path, revision, time};

fn fresh() -> (TempDir, PathBuf, Ledger) {
    let dir = scratch("ledger");
    let file = dir.path().join("state/ledger.sqlite");
    let ledger = Ledger::open(&file).unwrap();
    (dir, file, ledger)
}

fn seal(revision: &Revision) -> Result<Envelope, serde_json::Error> {
    revision.seal(&fleet_key())
}

fn publish(ledger: &Ledger, host: &str, system: &str) -> Revision {
    let run = ledger.begin_run(time("2026-01-01T03:00:00Z"), "/etc/nixos").unwrap();
    let mut revision = revision();
    revision.host = host.parse().unwrap();
    revision.store_path = path(system);
    ledger.publish(run, revision, seal).unwrap()
}

#[test]
fn numbers_grow_over_all_hosts_and_over_restarts() {
    let (_dir, file, ledger) = fresh();
    assert_eq!(publish(&ledger, "pc", "a").number, 1);
    assert_eq!(publish(&ledger, "nuc", "b").number, 2);
    drop(ledger);
    let ledger = Ledger::open(&file).unwrap();
    assert_eq!(publish(&ledger, "pc", "a").number, 3);
    assert_eq!(ledger.latest(&"pc".parse().unwrap()).unwrap().unwrap().number, 3);
    assert_eq!(ledger.latest(&"nuc".parse().unwrap()).unwrap().unwrap().number, 2);
}

#[test]
fn what_is_sealed_carries_the_number_it_is_published_under() {
    let (_dir, _file, ledger) = fresh();
    let _ = publish(&ledger, "pc", "a");
    let published = publish(&ledger, "pc", "b");
    let host = "pc".parse().unwrap();
    let envelope = Envelope::parse(&ledger.latest_envelope(&host).unwrap().unwrap()).unwrap();
    let inside: Revision = serde_json::from_slice(&envelope.payload).unwrap();
    assert_eq!(inside, published);
    assert_eq!(inside.number, 2);
    assert_eq!(ledger.latest_envelope(&"nuc".parse().unwrap()).unwrap(), None);
}

#[test]
fn what_cannot_be_sealed_is_not_published_and_uses_up_no_number() {
    let (_dir, _file, ledger) = fresh();
    let run = ledger.begin_run(time("2026-01-01T03:00:00Z"), "/etc/nixos").unwrap();
    let failed = ledger.publish(run, revision(), |_| Err("no key"));
    assert!(matches!(failed, Err(PublishError::Seal("no key"))));
    assert!(ledger.latest(&"pc".parse().unwrap()).unwrap().is_none());
    assert_eq!(publish(&ledger, "pc", "a").number, 1);
}

#[test]
fn a_revision_of_a_run_that_never_began_is_refused() {
    let (_dir, _file, ledger) = fresh();
    assert!(matches!(ledger.publish(99, revision(), seal), Err(PublishError::Ledger(_))));
}

#[test]
fn published_revisions_cannot_be_changed_or_removed_by_anybody() {
    let (_dir, file, ledger) = fresh();
    let _ = publish(&ledger, "pc", "a");
    let connection = Connection::open(&file).unwrap();
    for statement in [
        "update revisions set system = 'other'",
        "update revisions set number = 9 where number = 1",
        "delete from revisions",
        "insert or replace into revisions select number, run, host, 'other', revision, envelope from revisions",
    ] {
        let refused = connection.execute(statement, []);
        assert!(refused.is_err(), "{statement}");
    }
    let latest = ledger.latest(&"pc".parse().unwrap()).unwrap().unwrap();
    assert_eq!((latest.number, latest.store_path), (1, path("a")));
}

#[test]
fn two_that_write_at_once_get_different_numbers_and_lose_nothing() {
    let (_dir, file, ledger) = fresh();
    drop(ledger);
    let each = 20;
    let numbers: Vec<u64> = thread::scope(|scope| {
        let writers = ["pc", "nuc"].map(|host| {
            let file = &file;
            scope.spawn(move || {
                let ledger = Ledger::open(file).unwrap();
                (0..each).map(|_| publish(&ledger, host, "a").number).collect::<Vec<_>>()
            })
        });
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let different: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(different, (1..=2 * each).collect());
}

#[test]
fn it_is_read_while_it_is_being_written_and_shows_what_is_whole() {
    let (_dir, file, ledger) = fresh();
    let _ = publish(&ledger, "pc", "a");
    let reader = Ledger::read(&file).unwrap().unwrap();
    let host = "pc".parse().unwrap();
    let run = ledger.begin_run(time("2026-01-01T03:00:00Z"), "/etc/nixos").unwrap();
    let during = ledger.publish(run, revision(), |revision| {
        assert_eq!(reader.latest(&host).unwrap().unwrap().number, 1);
        Ok::<_, Infallible>(seal(revision).unwrap())
    });
    assert_eq!(during.unwrap().number, 2);
    assert_eq!(reader.latest(&host).unwrap().unwrap().number, 2);
}

#[test]
fn a_reader_cannot_write() {
    let (_dir, file, ledger) = fresh();
    drop(ledger);
    let reader = Ledger::read(&file).unwrap().unwrap();
    assert!(reader.begin_run(time("2026-01-01T03:00:00Z"), "/etc/nixos").is_err());
}

#[test]
fn where_there_is_none_there_is_nothing_to_read_and_none_is_made() {
    let dir = scratch("ledger");
    let file = dir.path().join("ledger.sqlite");
    assert!(Ledger::read(&file).unwrap().is_none());
    assert!(!file.exists());
}

#[test]
fn one_by_a_newer_program_is_refused_and_left_as_it_is() {
    let (_dir, file, ledger) = fresh();
    drop(ledger);
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for opened in [Ledger::open(&file).map(drop), Ledger::read(&file).map(drop)] {
        let refused = opened.unwrap_err();
        assert!(matches!(refused, LedgerError::Newer { found: 99, .. }), "{refused}");
        assert!(refused.to_string().contains("upgrade Larder here"), "{refused}");
    }
    let connection = Connection::open(&file).unwrap();
    let version: i64 = connection.query_row("pragma user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[test]
fn a_file_that_is_no_ledger_is_an_error_that_names_it() {
    let dir = scratch("ledger");
    let file = dir.path().join("ledger.sqlite");
    std::fs::write(&file, "not a database, but long enough to be looked at".repeat(30)).unwrap();
    for opened in [Ledger::open(&file).map(drop), Ledger::read(&file).map(drop)] {
        let error = opened.unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
}

#[test]
fn the_newest_revision_of_each_different_system_is_found_newest_first() {
    let (_dir, _file, ledger) = fresh();
    for system in ["a", "b", "b", "c", "a", "c"] {
        let _ = publish(&ledger, "pc", system);
    }
    let _ = publish(&ledger, "nuc", "z");
    let host = "pc".parse().unwrap();
    let systems = |most| -> Vec<(u64, String)> {
        let found = ledger.systems(&host, most).unwrap();
        found.into_iter().map(|it| (it.number, it.store_path.name().to_owned())).collect()
    };
    let all = [(6, "c".to_owned()), (5, "a".to_owned()), (3, "b".to_owned())];
    assert_eq!(systems(5), all);
    assert_eq!(systems(2), all[..2]);
}

#[test]
fn the_last_outcome_and_the_last_good_revision_of_every_host_are_known() {
    let (_dir, _file, ledger) = fresh();
    let good = publish(&ledger, "pc", "a");
    let run = ledger.begin_run(time("2026-01-02T03:00:00Z"), "/etc/nixos").unwrap();
    let failed = Outcome::BuildFailed {
        failures: vec![Failure {
            derivation: "x.drv".to_owned(),
            last_lines: vec!["error".to_owned()],
            kind: FailureKind::Memory { inferred: true },
            peak: Some(1 << 30),
        }],
        message: "it failed".to_owned(),
        kind: FailureKind::Memory { inferred: true },
    };
    let evaluation = Outcome::EvaluationFailed { message: "no".to_owned() };
    let now = time("2026-01-02T03:04:05Z");
    ledger.record(run, &"pc".parse().unwrap(), now, &Outcome::Built).unwrap();
    ledger.record(run, &"pc".parse().unwrap(), now, &failed).unwrap();
    ledger.record(run, &"nuc".parse().unwrap(), now, &evaluation).unwrap();
    let hosts = ledger.hosts().unwrap();
    let names: Vec<&str> = hosts.iter().map(|state| state.host.as_str()).collect();
    assert_eq!(names, ["nuc", "pc"]);
    assert_eq!(hosts[0].last_run, Some((now, evaluation)));
    assert_eq!(hosts[0].revision, None);
    assert_eq!(hosts[1].last_run, Some((now, failed)));
    assert_eq!(hosts[1].revision, Some(good));
}

#[test]
fn the_largest_of_a_names_newest_peaks_is_remembered() {
    let folder = scratch("ledger");
    let ledger = Ledger::open(&folder.path().join("ledger.sqlite")).unwrap();
    assert!(ledger.peaks().unwrap().is_empty());
    let linux = |bytes| Peak { name: "linux".to_owned(), bytes, how: Measured::Sampled };
    for bytes in [9, 2, 7, 3, 5, 4] {
        let run = ledger.begin_run(time("2026-01-02T03:04:05Z"), "/flake").unwrap();
        let other = Peak { name: "hello".to_owned(), bytes: 1, how: Measured::Died };
        ledger.record_peaks(run, &[linux(bytes), other]).unwrap();
    }
    // The first of six is forgotten.
    let remembered = ledger.peaks().unwrap();
    assert_eq!(
        remembered.into_iter().collect::<Vec<_>>(),
        [
            ("hello".to_owned(), Remembered { bytes: 1, died: true }),
            ("linux".to_owned(), Remembered { bytes: 7, died: false }),
        ]
    );
}

#[test]
fn what_an_older_larder_wrote_of_a_failure_can_be_read() {
    let old = r#"{"outcome":"build-failed","failures":[{"derivation":"x.drv","lastLines":["e"]}],"message":"m"}"#;
    let Outcome::BuildFailed { failures, kind, .. } = serde_json::from_str(old).unwrap() else {
        panic!("it is another outcome now")
    };
    assert_eq!(
        (kind, failures[0].kind, failures[0].peak),
        (FailureKind::Itself, FailureKind::Itself, None)
    );
}

#[test]
fn reports_are_kept_once_and_the_oldest_go() {
    let (_dir, file, ledger) = fresh();
    let begin = || ledger.begin_run(time("2026-01-01T03:00:00Z"), "/etc/nixos").unwrap();
    assert_eq!(ledger.last_end().unwrap(), None);
    let (old, first) = (begin(), begin());
    assert_eq!(ledger.last_end().unwrap(), Some(time("2026-01-01T03:00:00Z")), "the first began");
    ledger.keep_report(old, time("2024-12-31T03:00:00Z"), "{}").unwrap();
    let finished = r#"{"end":{"result":"finished"}}"#;
    ledger.keep_report(first, time("2026-01-01T04:00:00Z"), finished).unwrap();
    assert!(ledger.keep_report(first, time("2026-01-01T05:00:00Z"), "{}").is_err());
    assert_eq!(ledger.run(old).unwrap().unwrap().report, None, "over a year old");
    let failed = begin();
    let text = r#"{"end":{"result":"failed","message":"x"}}"#;
    ledger.keep_report(failed, time("2026-01-02T04:00:00Z"), text).unwrap();
    ledger.keep_report(begin(), time("2026-01-02T05:00:00Z"), "not JSON").unwrap();
    assert_eq!(ledger.last_end().unwrap(), Some(time("2026-01-01T04:00:00Z")));
    let mut connection = Connection::open(file).unwrap();
    let transaction = connection.transaction().unwrap();
    for run in 5..504 {
        let row = (run, "2026-01-03T04:00:00Z");
        transaction.execute("insert into runs values (?1, ?2, 'x')", row).unwrap();
        transaction.execute("insert into reports values (?1, ?2, '{}')", row).unwrap();
    }
    transaction.commit().unwrap();
    ledger.keep_report(begin(), time("2026-01-03T04:00:00Z"), "{}").unwrap();
    let kept = ledger.runs(None, 1000).unwrap();
    assert_eq!(kept.len(), 504);
    assert_eq!(kept.iter().filter(|run| run.report.is_some()).count(), 500);
    assert!(kept[0].report.is_some() && kept[0].number == 504);
    assert_eq!(
        ledger.runs(Some(3), 10).unwrap().iter().map(|run| run.number).collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(ledger.run(1000).unwrap(), None);
    assert!(connection.execute("update reports set report = 'x'", []).is_err());
    assert!(
        connection.execute("insert or replace into reports values (504, 'x', 'x')", []).is_err()
    );
}

#[test]
fn reports_are_gone_through_from_the_newest_until_told_to_stop() {
    let (_dir, _file, ledger) = fresh();
    for number in 1..=3 {
        let run = ledger.begin_run(time("2026-01-01T03:00:00Z"), "/etc/nixos").unwrap();
        ledger.keep_report(run, time("2026-01-01T04:00:00Z"), &format!("{number}")).unwrap();
    }
    let mut seen = Vec::new();
    let see = |text: &str| {
        seen.push(text.to_owned());
        if text == "2" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    ledger.each_report(see).unwrap();
    assert_eq!(seen, ["3", "2"]);
}

#[test]
fn a_headline_says_of_a_kept_report_what_the_report_says() {
    let host = |name: &str, outcome: Option<Outcome>| HostReport {
        outcome,
        ..HostReport::of(name.parse().unwrap())
    };
    let message = "x".to_owned();
    let failed = vec![
        Outcome::EvaluationFailed { message: message.clone() },
        Outcome::BuildFailed {
            failures: Vec::new(),
            message: message.clone(),
            kind: FailureKind::Itself,
        },
        Outcome::Unfinished { message: message.clone() },
        Outcome::NotPublished { message },
    ];
    let good = [Some(Outcome::Built), Some(Outcome::Unchanged), None];
    let outcomes = good.into_iter().chain(failed.into_iter().map(Some));
    let hosts: Vec<HostReport> =
        outcomes.enumerate().map(|(n, outcome)| host(&format!("host-{n}"), outcome)).collect();
    let left_out = vec![LeftOut { name: "gone".to_owned(), reason: "is gone".into() }];
    for report in [
        Report::default(),
        Report { left_out, ..Report::default() },
        Report { end: End::Cancelled, hosts: hosts[..3].to_vec(), ..Report::default() },
        Report { hosts: hosts[..3].to_vec(), ..Report::default() },
        Report { hosts, ..Report::default() },
    ] {
        assert_eq!(Headline::read(&report.write()), Some(Headline::from(&report)));
    }
    for text in ["", "[1]", "{\"end\":{\"result\":\"sublimed\"}}"] {
        assert_eq!(Headline::read(text), None, "{text}");
    }
}

#[test]
fn since_when_a_host_fails_is_counted_from_its_last_good_run() {
    let (_dir, _file, ledger) = fresh();
    let pc = "pc".parse().unwrap();
    let bad = Outcome::EvaluationFailed { message: "x".to_owned() };
    let mut since = Vec::new();
    for (hour, outcome) in
        [&bad, &bad, &Outcome::Unchanged, &Outcome::Built, &bad, &bad].into_iter().enumerate()
    {
        let now = time(&format!("2026-01-01T0{hour}:00:00Z"));
        let run = ledger.begin_run(now, "/etc/nixos").unwrap();
        ledger.record(run, &pc, now, outcome).unwrap();
        ledger.record(run, &"nuc".parse().unwrap(), now, &Outcome::Built).unwrap();
        since.push(ledger.failing_since(&pc).unwrap().map(|time| time.strftime("%H").to_string()));
    }
    let since: Vec<Option<&str>> = since.iter().map(Option::as_deref).collect();
    assert_eq!(since, [Some("00"), Some("00"), None, None, Some("04"), Some("04")]);
}
