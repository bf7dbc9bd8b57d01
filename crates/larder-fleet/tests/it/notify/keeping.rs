//! What waits to be sent, whatever happens between writing and sending.

use std::{cell::Cell, collections::BTreeMap, ffi::OsString, fs, path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use larder_cache::storage::Secret;
use larder_fleet::{
    ledger::Outcome,
    lock::Lock,
    night::Report,
    notify::{Digest, Outbox, Receiver, Sender, Standing, Wants, Way},
};
use larder_nix::command::CancellationToken;
use larder_testkit::scratch::scratch;

use super::deciding::{failing, report, wants};
use crate::samples::time;

fn at(now: Timestamp, report: &Report) -> Standing<'_> {
    Standing { report: Some(report), last_end: Some(now), now }
}

fn receiver(script: &str) -> Receiver {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let way = Way::Command { command, json: false, mail_to: Vec::new() };
    Receiver { name: "test".to_owned(), way, timeout: Duration::from_secs(20) }
}

/// Who sends; the program installs what speaks TLS when it starts.
fn sender() -> Sender {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Sender::new().unwrap()
}

fn noon() -> Timestamp {
    time("2026-01-10T12:00:00Z")
}

#[tokio::test]
async fn what_grew_too_old_is_dropped_and_what_still_holds_of_it_is_told_again() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let night = report(&[("pc", failing("one"))]);
    let long_ago = noon() - SignedDuration::from_hours(8 * 24);
    assert!(outbox.add(&wants(), at(long_ago, &night), || None).unwrap());
    assert!(!outbox.add(&wants(), at(noon(), &night), || None).unwrap(), "it waits already");
    let (sender, cancel) = (sender(), CancellationToken::new());
    let delivery = outbox.deliver(&receiver("exit 1"), &sender, noon, &cancel).await.unwrap();
    assert_eq!((delivery.dropped, delivery.sent), (1, 0));
    assert!(outbox.add(&wants(), at(noon(), &night), || None).unwrap());
    let file = dir.path().join("told");
    let taking = receiver(&format!("cat > {}", file.display()));
    let delivery = outbox.deliver(&taking, &sender, noon, &cancel).await.unwrap();
    assert_eq!((delivery.dropped, delivery.sent, delivery.waiting), (0, 1, 0));
    assert!(fs::read_to_string(&file).unwrap().contains("pc does not build: one"));
}

#[tokio::test]
async fn the_pauses_grow_and_end_with_success() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let night = report(&[("pc", failing("one"))]);
    let _ = outbox.add(&wants(), at(noon(), &night), || None).unwrap();
    let (sender, cancel) = (sender(), CancellationToken::new());
    let busy = receiver("echo busy >&2; exit 75");
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let delivery = outbox.deliver(&busy, &sender, noon, &cancel).await.unwrap();
        assert!(delivery.error.unwrap().to_string().contains("busy"));
        let (waiting, trouble) = outbox.state().unwrap();
        let trouble = trouble.unwrap();
        assert_eq!((waiting, trouble.since), (1, noon()));
        assert!(!outbox.is_due(noon()) && outbox.is_due(trouble.next));
        pauses.push(trouble.next.duration_since(noon()).as_mins());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
    let delivery = outbox.deliver(&receiver("cat"), &sender, noon, &cancel).await.unwrap();
    assert_eq!(delivery.sent, 1);
    let (waiting, trouble) = outbox.state().unwrap();
    assert_eq!((waiting, trouble), (0, None));
}

/// Every file of an outbox.
fn files(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap())).collect()
}

fn restore(folder: &Path, files: &BTreeMap<OsString, Vec<u8>>) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_a_delivery_loses_nothing() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let (folder, copy) = (dir.path().join("notices/test"), dir.path().join("copy"));
    let (bad, good) = (report(&[("pc", failing("one"))]), report(&[("pc", Outcome::Built)]));
    let _ = outbox.add(&wants(), at(noon(), &bad), || None).unwrap();
    let written = files(&folder);
    let told = dir.path().join("told");
    let copying =
        format!("cp -r {} {}; cat >> {}", folder.display(), copy.display(), told.display());
    let (sender, cancel) = (sender(), CancellationToken::new());
    let _ = outbox.deliver(&receiver(&copying), &sender, noon, &cancel).await.unwrap();
    let (sending, sent) = (files(&copy), files(&folder));
    let message = OsString::from("0000000001.json");
    assert!(sending.contains_key(&message) && !sent.contains_key(&message));
    let mut noted = sent.clone();
    noted.insert(message.clone(), written[&message].clone());
    // Killed before it was sent; while it was, or before that was noted; before its file was removed; afterwards.
    for (killed, again) in [(written, 1), (sending, 1), (noted, 0), (sent, 0)] {
        restore(&folder, &killed);
        fs::write(&told, "").unwrap();
        // Killed while a file was being made.
        fs::write(folder.join(".new-xyz"), "{").unwrap();
        assert!(!outbox.add(&wants(), at(noon(), &bad), || None).unwrap(), "it was said");
        assert!(outbox.add(&wants(), at(noon(), &good), || None).unwrap());
        let taking = receiver(&format!("cat >> {}", told.display()));
        let delivery = outbox.deliver(&taking, &sender, noon, &cancel).await.unwrap();
        assert_eq!((delivery.sent, delivery.waiting), (1 + again, 0));
        let told = fs::read_to_string(&told).unwrap();
        assert_eq!(told.matches("pc does not build").count(), again, "{told}");
        assert_eq!(told.matches("pc is good again").count(), 2, "in title and text: {told}");
    }
}

#[test]
fn the_last_report_is_asked_for_only_where_a_digest_is_due() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let daily = Wants { digest: Digest::Daily, ..wants() };
    let night = report(&[("pc", Outcome::Built)]);
    let asked = Cell::new(0);
    let last = || {
        asked.set(asked.get() + 1);
        Some(night.clone())
    };
    assert!(outbox.add(&daily, at(noon(), &night), last).unwrap());
    for hour in 1..30 {
        let now = noon() + SignedDuration::from_hours(hour);
        let standing = Standing { report: None, last_end: Some(noon()), now };
        assert_eq!(outbox.add(&daily, standing, last).unwrap(), hour == 27);
    }
    assert_eq!(asked.get(), 2);
}

#[tokio::test]
async fn what_is_no_message_is_set_aside_and_what_was_sent_is_not_taken_for_nothing() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let folder = dir.path().join("notices/test");
    let bad = report(&[("pc", failing("one"))]);
    let _ = outbox.add(&wants(), at(noon(), &bad), || None).unwrap();
    // Somebody's own, or a disk's work.
    fs::write(folder.join("7.json"), "not JSON").unwrap();
    let (sender, cancel) = (sender(), CancellationToken::new());
    let _ = outbox.deliver(&receiver("cat"), &sender, noon, &cancel).await.unwrap();
    assert!(!folder.join("7.json").exists());
    assert_eq!(fs::read_to_string(folder.join("7.json.broken")).unwrap(), "not JSON");
    // What cannot be read, as by an error of the disk, is not nothing.
    fs::rename(folder.join("sent.json"), folder.join("kept")).unwrap();
    fs::create_dir(folder.join("sent.json")).unwrap();
    assert!(outbox.add(&wants(), at(noon(), &bad), || None).is_err());
    fs::remove_dir(folder.join("sent.json")).unwrap();
    fs::rename(folder.join("kept"), folder.join("sent.json")).unwrap();
    assert!(!outbox.add(&wants(), at(noon(), &bad), || None).unwrap());
    // What is there and cannot be understood is told again rather than never.
    fs::write(folder.join("sent.json"), "not JSON").unwrap();
    assert!(outbox.add(&wants(), at(noon(), &bad), || None).unwrap());
    assert!(folder.join("sent.json.broken").exists());
}

#[tokio::test]
async fn no_more_than_so_many_wait_and_then_the_difference_to_what_was_sent() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let folder = dir.path().join("notices/test");
    let (bad, good) = (report(&[("pc", failing("one"))]), report(&[("pc", Outcome::Built)]));
    let mut most = 0;
    let mut add = |night: u32| {
        let night = if night.is_multiple_of(2) { &bad } else { &good };
        let added = outbox.add(&wants(), at(noon(), night), || None).unwrap();
        most = most.max(outbox.state().unwrap().0);
        added
    };
    assert!((0..203).all(&mut add));
    // While one of them is being sent, none is dropped.
    let sending = Lock::take(&folder.join("sending.lock"), noon()).unwrap();
    assert!((203..301).all(&mut add));
    drop(sending);
    assert!(add(302));
    assert_eq!(most, 101);
    // Whoever was sending one of those that are gone does not take one of these for it.
    assert!(folder.join("0000000302.json").exists() && !folder.join("0000000301.json").exists());
    let told = dir.path().join("told");
    let taking = receiver(&format!("cat >> {}", told.display()));
    let (sender, cancel) = (sender(), CancellationToken::new());
    let delivery = outbox.deliver(&taking, &sender, noon, &cancel).await.unwrap();
    assert_eq!((delivery.sent, delivery.waiting), (1, 0));
    let told = fs::read_to_string(&told).unwrap();
    assert!(told.contains("pc does not build: one") && !told.contains("again"), "{told}");
}

#[tokio::test]
async fn runs_with_nothing_to_say_leave_nothing_that_waits_and_are_remembered() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let bad = report(&[("pc", failing("one"))]);
    let add = |hour: i64, report: Option<&Report>| {
        let now = noon() + SignedDuration::from_hours(hour);
        outbox.add(&wants(), Standing { report, last_end: None, now }, || None).unwrap()
    };
    assert!(add(0, Some(&bad)));
    // More than may wait.
    assert!((1..120).all(|hour| !add(hour, Some(&bad))));
    let folder = dir.path().join("notices/test");
    let messages = || files(&folder).into_keys().filter(|name| name != "sent.json");
    let messages = || messages().filter(|name| name.to_string_lossy().ends_with(".json")).count();
    assert_eq!(messages(), 1, "the first still waits");
    assert!(!add(119 + 72, None), "the last of them is remembered in what waits");
    let (sender, cancel) = (sender(), CancellationToken::new());
    let delivery = outbox.deliver(&receiver("cat"), &sender, noon, &cancel).await.unwrap();
    assert_eq!((delivery.sent, messages()), (1, 0));
    assert!((120..130).all(|hour| !add(hour, Some(&bad))));
    assert_eq!(messages(), 0);
    assert!(!add(129 + 72, None), "and in what was sent");
    assert!(add(129 + 73, None), "overdue");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_ended() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let _ = outbox.add(&wants(), at(noon(), &report(&[("pc", failing("one"))])), || None).unwrap();
    let file = dir.path().join("alive");
    let script = format!("while :; do : > {}; sleep 0.01; done", file.display());
    let endless = Receiver { timeout: Duration::from_millis(300), ..receiver(&script) };
    let (sender, cancel) = (sender(), CancellationToken::new());
    let delivery = outbox.deliver(&endless, &sender, noon, &cancel).await.unwrap();
    assert!(delivery.error.unwrap().to_string().contains("did not end within"));
    fs::remove_file(&file).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!file.exists(), "it is gone");
}

#[test]
fn a_receiver_can_be_shown_without_its_secrets() {
    let url = Secret::new("https://hooks.slack.com/services/hidden");
    let way = Way::Matrix { url, room: "!a:b".to_owned(), token: Secret::new("hidden") };
    assert!(!format!("{way:?}").contains("hidden"));
}
