//! The bytes that each kind of receiver gets.

use std::fmt::Write as _;

use insta::assert_snapshot;
use larder_cache::storage::Secret;
use larder_fleet::{
    ledger::{Failure, FailureKind},
    notify::{Event, Failed, Message, Shape, Way},
};

use crate::samples::time;

fn message() -> Message {
    let line = "<!channel> @everyone @room ```\u{1b}]0;x\u{7} & \u{202e}main.c:42: error";
    let failures = vec![Failure {
        derivation: format!("{}-broken-1.0.drv", "0".repeat(32)),
        last_lines: vec!["compiling".to_owned(), line.to_owned()],
        kind: FailureKind::Itself,
        peak: None,
    }];
    let failed = Failed {
        host: "pc".to_owned(),
        what: "does not build: broken".to_owned(),
        failed_before: false,
        since: Some(time("2026-01-01T03:10:00Z")),
        last_good: None,
        failures,
        message: String::new(),
    };
    let recovered = Event::HostRecovered { host: "nuc".to_owned(), revision: Some(7) };
    let events = vec![Event::HostFailed(failed), recovered];
    Message::new("larder-1-1".to_owned(), time("2026-01-01T03:11:00Z"), events, (Some(12), None))
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

fn shown(way: &Way, message: &Message) -> String {
    match Shape::of(way, message).unwrap() {
        Shape::Input(text) => text,
        Shape::Http(request) => {
            let mut text = format!("{} {}\n", request.method, request.url);
            if let Some(token) = &request.token {
                let _ = writeln!(text, "Authorization: Bearer {}", token.reveal());
            }
            format!("{text}{:#}", request.body)
        }
    }
}

#[test]
fn each_kind_of_receiver_gets_its_shape_and_no_log_acts_there() {
    let url = secret("https://example.org/path/topic");
    let command = |json, mail_to: &[&str]| Way::Command {
        command: vec!["cat".to_owned()],
        json,
        mail_to: mail_to.iter().map(|to| (*to).to_owned()).collect(),
    };
    let ways = [
        ("webhook", Way::Webhook { url: url.clone(), token: Some(secret("token")) }),
        ("slack", Way::Slack { url: url.clone() }),
        ("discord", Way::Discord { url: url.clone() }),
        (
            "matrix",
            Way::Matrix {
                url: secret("https://matrix.example.org"),
                room: "!a/b?c:example.org".to_owned(),
                token: secret("token"),
            },
        ),
        ("ntfy", Way::Ntfy { url, token: None }),
        ("text", command(false, &[])),
        ("mail", command(false, &["a@example.org", "root"])),
    ];
    for (name, way) in ways {
        assert_snapshot!(name, shown(&way, &message()));
    }
}

#[test]
fn what_is_longer_than_a_receiver_takes_is_cut() {
    let mut long = message();
    long.text = "ü```".repeat(20_000);
    long.title = "ß".repeat(120);
    let url = secret("https://example.org/topic");
    let body = |way: &Way| match Shape::of(way, &long).unwrap() {
        Shape::Http(request) => request.body,
        Shape::Input(text) => panic!("{text}"),
    };
    let discord = body(&Way::Discord { url: url.clone() });
    let discord = discord["content"].as_str().unwrap();
    assert!((1900..=2000).contains(&discord.chars().count()), "{}", discord.chars().count());
    assert_eq!(discord.matches("```").count(), 2, "one fence");
    assert!(
        body(&Way::Slack { url: url.clone() })["text"].as_str().unwrap().chars().count() <= 4000
    );
    let ntfy = body(&Way::Ntfy { url: url.clone(), token: None });
    assert!(ntfy["message"].as_str().unwrap().len() <= 4096);
    let matrix = Way::Matrix { url, room: "!a".to_owned(), token: secret("token") };
    assert!(body(&matrix)["body"].as_str().unwrap().len() <= 60_000);
    let mail_to = vec!["a@b".to_owned()];
    let mail = Way::Command { command: Vec::new(), json: false, mail_to };
    let Some(Shape::Input(mail)) = Shape::of(&mail, &long) else { panic!("a mail") };
    let (head, _) = mail.split_once("\n\n").unwrap();
    assert!(head.is_ascii() && head.lines().all(|line| line.len() <= 78), "{head}");
}

#[test]
fn an_address_that_is_none_is_no_shape() {
    for text in ["", "nonsense", "mailto:a@b"] {
        let matrix = Way::Matrix { url: secret(text), room: "!a".to_owned(), token: secret("") };
        assert!(Shape::of(&matrix, &message()).is_none(), "{text}");
    }
}
