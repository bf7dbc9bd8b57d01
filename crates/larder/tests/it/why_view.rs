//! What people read of `larder why`, and docs/why.md, which knows every verdict.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use larder::view::why::{self, Explanation};
use larder_fleet::{
    upgrade::plan::Class,
    why::{
        Answer, Asked, Comparison, Difference, Offer, Remembered, Role, Site, Subject, Trust,
        Verdict, Walked,
    },
};
use larder_formats::{StorePath, StorePathHash};

const LAN: &str = "http://cache.lan:5000";

fn path(n: u8, name: &str) -> StorePath {
    StorePath::new(StorePathHash::from_bytes([n; 20]), name).unwrap()
}

/// One of each.
fn verdicts() -> Vec<Verdict> {
    let cache = || LAN.to_owned();
    let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let (proxy, upstream) = (|| "http://127.0.0.1:5001".to_owned(), || "lan".to_owned());
    let said = || "connection refused".to_owned();
    vec![
        Verdict::Here,
        Verdict::Downloaded { cache: cache(), bytes: Some(52_000), unpacked_bytes: 220_000 },
        Verdict::SubstituteOff,
        Verdict::BuiltWhereUsed,
        Verdict::OutputsUnknown,
        Verdict::NoSubstituters,
        Verdict::NoScheme { substituter: "192.168.0.42".to_owned(), refuses: false },
        Verdict::NoScheme { substituter: "192.168.0.42".to_owned(), refuses: true },
        Verdict::Remembered { cache: cache(), until: "2026-11-20T02:14:07.25Z".parse().unwrap() },
        Verdict::Untrusted {
            cache: cache(),
            signers: words(&["cache.lan-2"]),
            trusted: words(&["cache.nixos.org-1", "cache.lan-1"]),
        },
        Verdict::WrongKey { cache: cache(), signer: "cache.lan-1".to_owned() },
        Verdict::Unsigned { cache: cache(), trusted: Vec::new() },
        Verdict::Broken { cache: cache(), said: "nar/1.nar is not there".to_owned() },
        Verdict::Ignored { cache: cache() },
        Verdict::NotConfigured { cache: cache() },
        Verdict::UpstreamDown { proxy: proxy(), upstream: upstream(), said: said() },
        Verdict::UpstreamUntrusted { proxy: proxy(), upstream: upstream(), signers: Vec::new() },
        Verdict::UpstreamUntrusted {
            proxy: proxy(),
            upstream: upstream(),
            signers: words(&["x-1"]),
        },
        Verdict::Unreachable { cache: cache(), said: said() },
        Verdict::NoCache { cache: cache(), said: "line 1 has no colon".to_owned() },
        Verdict::Denied { cache: cache(), said: "the server says 401 Unauthorized".to_owned() },
        Verdict::OtherSystem { system: "aarch64-linux".to_owned() },
        Verdict::Collected { cache: cache(), had: "2026-11-19T02:14:07Z".parse().unwrap() },
        Verdict::Absent { caches: words(&[LAN, "https://cache.nixos.org"]) },
    ]
}

fn asked(role: Role, answer: Answer) -> Asked {
    Asked { cache: LAN.to_owned(), role, answer, remembered: None }
}

fn sample() -> Explanation {
    let subject = Subject {
        class: Some(Class::Configuration),
        ..Subject::unasked(path(1, "etc.drv"), Verdict::Absent { caches: vec![LAN.to_owned()] })
    };
    let offer = Offer {
        bytes: None,
        unpacked_bytes: 220_000,
        trust: Trust::Strangers { signers: vec!["x-1".to_owned()] },
        deriver: None,
    };
    let down = Role::Upstream {
        proxy: "http://127.0.0.1:5001".to_owned(),
        name: "lan".to_owned(),
        down: None,
    };
    let absent = Asked {
        remembered: Some(Remembered::Absent { until: "2026-11-20T02:14:07Z".parse().unwrap() }),
        ..asked(Role::Substituter, Answer::Absent)
    };
    let cause = Subject {
        class: Some(Class::Package),
        asked: vec![
            absent,
            asked(down, Answer::Has(offer)),
            asked(Role::Ignored, Answer::NoScheme),
            asked(Role::NotConfigured, Answer::Unreachable { said: "timed out".to_owned() }),
        ],
        ..Subject::unasked(path(2, "hello-2.12.1.drv"), Verdict::OutputsUnknown)
    };
    let sites = vec![Site {
        here: path(2, "hello-2.12.1.drv"),
        there: path(3, "hello-2.12.2.drv"),
        differences: vec![
            Difference::Attribute {
                name: "version".to_owned(),
                here: Some("2.12.1".to_owned()),
                there: Some("2.12.2".to_owned()),
            },
            Difference::Attribute {
                name: "patches".to_owned(),
                here: Some("fix.patch".to_owned()),
                there: None,
            },
            Difference::Source {
                name: "fix.patch".to_owned(),
                here: Some(path(4, "fix.patch")),
                there: None,
            },
            Difference::Input { here: None, there: Some(path(5, "zlib-1.3.drv")) },
        ],
    }];
    let server = Comparison::Differs {
        there: path(6, "etc.drv"),
        sites,
        unknown: vec![path(7, "jq-1.7.drv")],
        cut_short: true,
    };
    let walked = Walked { subject, causes: vec![cause], builds: 9, cut_short: false };
    let memory_unknown = Some("cannot read /root/.cache/nix: Permission denied".to_owned());
    Explanation { memory_unknown, ..Explanation::new(walked, Some(server), true) }
}

#[test]
fn every_verdict_and_its_remedy() {
    let all = verdicts().iter().fold(String::new(), |text, verdict| {
        let remedy = why::remedy(verdict).unwrap_or("(nothing is to be done)");
        text + &format!("{}\n  → {remedy}\n", why::sentence(verdict))
    });
    assert_snapshot!(all);
}

#[test]
fn an_explanation_for_people() {
    assert_snapshot!(why::explanation(&sample()));
}

#[test]
fn an_explanation_for_programs() {
    assert_snapshot!(why::json(&sample()));
}

#[test]
fn a_long_list_of_causes_is_cut_short() {
    let mut many = sample();
    many.causes = vec![many.causes[0].clone(); 7];
    let text = why::explanation(&many);
    assert!(text.contains("\n  and 2 more, which `--json` lists\n"), "{text}");
    assert_eq!(text.matches("  hello 2.12.1 (").count(), 5);
}

#[test]
fn the_guide_knows_every_verdict_and_no_other() {
    // The one list of them is a match over all.
    let source = include_str!("../../../larder-fleet/src/why/verdict.rs");
    let listed = source.split_once("pub fn kind(").unwrap().1.split_once("\n    }").unwrap().0;
    let listed: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.split_once("=> \"")?.1.split('"').next()).collect();
    let guide = include_str!("../../../../docs/why.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let verdicts_of = guide.split_once("## Verdicts").unwrap().1.split_once("\n## ").unwrap().0;
    let told: BTreeSet<&str> = rows
        .filter(|(kind, _)| verdicts_of.contains(&format!("\n| `{kind}` | ")))
        .map(|it| it.0)
        .collect();
    let shown: BTreeSet<&str> = verdicts().iter().map(Verdict::kind).collect();
    assert_eq!(told, listed);
    assert_eq!(shown, listed, "each is shown in the snapshot");
    for verdict in verdicts() {
        assert_eq!(serde_json::json!(verdict)["kind"], verdict.kind());
    }
}
