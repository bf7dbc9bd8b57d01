//! Lines of `--log-format internal-json`.

use larder_formats::internal_json::{
    ActivityKind, Event, Field, Line, ResultKind, parse_line, strip_ansi,
};

use crate::golden::{self, VERSIONS};

fn events(name: &str) -> Vec<Event> {
    let text = golden::text(name);
    let event = |line| match parse_line(line) {
        Line::Event(event) => event,
        Line::Plain(line) => panic!("{name}: not read: {line}"),
    };
    text.lines().map(event).collect()
}

#[test]
fn every_line_of_a_build_is_an_event_in_every_version() {
    for version in VERSIONS {
        let events = events(&format!("{version}/build.jsonl"));
        let builds: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Start { kind: ActivityKind::Build, fields, .. } => fields[0].as_text(),
                _ => None,
            })
            .collect();
        assert_eq!(builds.len(), 2, "{version}");
        assert!(builds[1].ends_with("-golden-app-1.0.drv"), "{version}");
        let lines: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Result { kind: ResultKind::BuildLogLine, fields, .. } => fields[0].as_text(),
                _ => None,
            })
            .collect();
        assert_eq!(lines, ["building", "two words"], "{version}");
    }
}

#[test]
fn what_started_stops_and_no_activity_is_unknown_by_number() {
    for version in VERSIONS {
        let (mut started, mut stopped) = (Vec::new(), Vec::new());
        for event in events(&format!("{version}/build.jsonl")) {
            match event {
                Event::Start { id, kind, .. } => {
                    assert!(!matches!(kind, ActivityKind::Other(_)), "{version}: {kind:?}");
                    started.push(id);
                }
                Event::Stop { id } => stopped.push(id),
                _ => {}
            }
        }
        started.sort_unstable();
        stopped.sort_unstable();
        assert_eq!(started, stopped, "{version}");
    }
}

#[test]
fn a_failed_build_counts_as_failed_and_its_message_is_plain_text() {
    for version in VERSIONS {
        let events = events(&format!("{version}/broken.jsonl"));
        let failed = events.iter().any(|event| {
            matches!(event, Event::Result { kind: ResultKind::Progress, fields, .. }
                if fields.last() == Some(&Field::Int(1)))
        });
        assert!(failed, "{version}");
        let said = events.iter().any(|event| {
            matches!(event, Event::Msg { level: 0, msg }
                if strip_ansi(msg).contains("golden-broken.drv' failed"))
        }) || events.iter().any(|event| {
            matches!(event, Event::Msg { level: 0, msg } if strip_ansi(msg).contains("exit code 3"))
        });
        assert!(said, "{version}");
    }
}

#[test]
fn what_is_not_understood_stays_a_plain_line() {
    for line in [
        "",
        "hello",
        "@nix",
        "@nix ",
        "@nix {",
        "@nix {}",
        "@nix []",
        r#"@nix {"action":"dance","id":1}"#,
        r#"@nix {"action":"stop"}"#,
        r#"@nix {"action":"stop","id":-1}"#,
        r#"@nix {"action":"stop","id":18446744073709551616}"#,
        r#"@nix {"action":"result","id":1,"type":101,"fields":[{}]}"#,
        r#" @nix {"action":"stop","id":1}"#,
        &format!("@nix {}", "[".repeat(100_000)),
    ] {
        assert_eq!(parse_line(line), Line::Plain(line));
    }
}

#[test]
fn ids_use_all_bits_and_unknown_kinds_keep_their_number() {
    let line = r#"@nix {"action":"stop","id":18446744073709551615}"#;
    assert_eq!(parse_line(line), Line::Event(Event::Stop { id: u64::MAX }));
    let line = r#"@nix {"action":"result","id":1,"type":999,"fields":[7,"x"],"new":{}}"#;
    let Line::Event(Event::Result { kind, fields, .. }) = parse_line(line) else {
        panic!("not read");
    };
    assert_eq!(kind, ResultKind::Other(999));
    assert_eq!(u64::from(kind), 999);
    assert_eq!(fields, [Field::Int(7), Field::Text("x".to_owned())]);
}

#[test]
fn escapes_of_terminals_are_taken_out_and_text_stays() {
    for (text, plain) in [
        ("plain ünï\ttext\n", "plain ünï\ttext\n"),
        ("\u{1b}[31;1merror:\u{1b}[0m no", "error: no"),
        ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{7}!", "link!"),
        ("a\u{1b}(Bb", "ab"),
        ("a\u{1b}7b\rc\u{8}", "abc"),
        ("a\u{9b}31mb", "ab"),
        ("cut \u{1b}[31", "cut "),
        ("lone \u{1b}", "lone "),
        ("\u{1b}[\nnext", "\nnext"),
        ("\u{1b}]0;title\nnext", "\nnext"),
        ("\u{1b}[ü", "ü"),
    ] {
        assert_eq!(strip_ansi(text), plain, "{text:?}");
    }
}
