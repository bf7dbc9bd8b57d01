//! What waits to be sent, whatever happens between writing and sending.

use std::{fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use larder_cache::storage::Secret;
use larder_fleet::{
    ledger::Outcome,
    night::Report,
    notify::{Outbox, Receiver, Sender, Standing, Way},
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
    assert!(outbox.add(&wants(), at(long_ago, &night), None).unwrap());
    assert!(!outbox.add(&wants(), at(noon(), &night), None).unwrap(), "it waits already");
    let (sender, cancel) = (sender(), CancellationToken::new());
    let delivery = outbox.deliver(&receiver("exit 1"), &sender, noon, &cancel).await.unwrap();
    assert_eq!((delivery.dropped, delivery.sent), (1, 0));
    assert!(outbox.add(&wants(), at(noon(), &night), None).unwrap());
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
    let _ = outbox.add(&wants(), at(noon(), &night), None).unwrap();
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

#[tokio::test]
async fn a_crash_between_any_two_steps_of_a_delivery_loses_nothing() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let folder = dir.path().join("notices/test");
    let (bad, good) = (report(&[("pc", failing("one"))]), report(&[("pc", Outcome::Built)]));
    let _ = outbox.add(&wants(), at(noon(), &bad), None).unwrap();
    let first = folder.join("0000000001.json");
    let copy = fs::read(&first).unwrap();
    let file = dir.path().join("told");
    let taking = receiver(&format!("cat >> {}", file.display()));
    let (sender, cancel) = (sender(), CancellationToken::new());
    let _ = outbox.deliver(&taking, &sender, noon, &cancel).await.unwrap();
    // Killed after `sent.json` was written, before the file was removed.
    fs::write(&first, copy).unwrap();
    assert!(!outbox.add(&wants(), at(noon(), &bad), None).unwrap());
    assert!(outbox.add(&wants(), at(noon(), &good), None).unwrap());
    // Killed while a file was being made.
    fs::write(folder.join(".new-xyz"), "{").unwrap();
    // Somebody's own, or a disk's work.
    fs::write(folder.join("7.json"), "not JSON").unwrap();
    let delivery = outbox.deliver(&taking, &sender, noon, &cancel).await.unwrap();
    assert_eq!(delivery.sent, 1);
    let told = fs::read_to_string(&file).unwrap();
    assert_eq!(told.matches("pc does not build").count(), 1, "{told}");
    assert_eq!(told.matches("pc is good again").count(), 2, "in title and text: {told}");
}

#[tokio::test]
async fn no_more_than_so_many_wait_and_then_the_difference_to_what_was_sent() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let (bad, good) = (report(&[("pc", failing("one"))]), report(&[("pc", Outcome::Built)]));
    for night in 0..205 {
        let night = if night % 2 == 0 { &bad } else { &good };
        let _ = outbox.add(&wants(), at(noon(), night), None).unwrap();
        assert!(outbox.state().unwrap().0 <= 100);
    }
}

#[tokio::test]
async fn a_program_that_does_not_end_is_ended() {
    let dir = scratch("outbox");
    let outbox = Outbox::new(dir.path(), "test");
    let _ = outbox.add(&wants(), at(noon(), &report(&[("pc", failing("one"))])), None).unwrap();
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
