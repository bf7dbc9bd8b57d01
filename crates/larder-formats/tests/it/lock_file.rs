//! `flake.lock`.

use larder_formats::lock_file::{LockFile, LockFileError, changes};

use crate::golden::{self, VERSIONS};

fn parse(text: &str) -> LockFile {
    LockFile::parse(text).unwrap()
}

fn error(text: &str) -> LockFileError {
    LockFile::parse(text).unwrap_err()
}

/// A lock file whose root has these inputs, beside an unlocked-nothing node named `a`.
fn lock(root_inputs: &str, more_nodes: &str) -> String {
    format!(
        r#"{{"version":7,"root":"root","nodes":{{"root":{{"inputs":{root_inputs}}},
            "a":{{"locked":{{"type":"github","owner":"o","repo":"r","rev":"abc"}}}}{more_nodes}}}}}"#
    )
}

#[test]
fn follows_lead_where_nix_leads_them() {
    for version in VERSIONS {
        let lock = parse(&golden::text(&format!("{version}/flake.lock")));
        let nodes: Vec<_> =
            lock.root_inputs().iter().map(|(name, input)| (name.as_str(), &*input.node)).collect();
        let expected = [
            ("aliased", "nixpkgs"),
            ("home", "home"),
            ("me", "me"),
            ("nixpkgs", "nixpkgs"),
            ("own", "own"),
            ("plain", "plain"),
        ];
        assert_eq!(nodes, expected, "{version}");
        assert_eq!(lock.all_nodes().len(), 7, "{version}");
        assert_eq!(lock.nixpkgs().unwrap(), lock.root_inputs()["aliased"], "{version}");
    }
}

#[test]
fn an_input_says_what_it_is() {
    let text = golden::text("2.34/flake.lock");
    let lock = parse(&text);
    assert_eq!(lock.text(), text);
    let nixpkgs = lock.nixpkgs().unwrap();
    let inputs = [&nixpkgs, &lock.root_inputs()["plain"]];
    insta::assert_snapshot!(serde_json::to_string_pretty(&inputs).unwrap(), @r#"
    [
      {
        "node": "nixpkgs",
        "rev": "26a13d8862ebde1569360f0b752cd02ed5eb035c",
        "narHash": "sha256:0kqn16mj91nabhy1nghki118mdw4g79p8ybzp1qhk228f7a70nsg",
        "lastModified": 1704164645,
        "kind": "git",
        "description": "git+file:///srv/nixpkgs?rev=26a13d8862ebde1569360f0b752cd02ed5eb035c"
      },
      {
        "node": "plain",
        "rev": null,
        "narHash": "sha256:0yg95l2li9nc4m80vcahdgvmclzfxgj5bk8rczcd0717pnn14mzd",
        "lastModified": 1700000000,
        "kind": "path",
        "description": "path:/srv/plain"
      }
    ]
    "#);
}

#[test]
fn between_two_locks_only_what_moved_has_changed() {
    for version in VERSIONS {
        let old = parse(&golden::text(&format!("{version}/flake.lock")));
        let new = parse(&golden::text(&format!("{version}/flake-moved.lock")));
        assert_eq!(changes(&old, &old), []);
        let changed = changes(&old, &new);
        let names: Vec<_> = changed.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["aliased", "nixpkgs"], "{version}");
        let revs =
            changed.iter().map(|c| (&c.from.as_ref().unwrap().rev, &c.to.as_ref().unwrap().rev));
        assert!(revs.into_iter().all(|(from, to)| from != to), "{version}");
    }
}

#[test]
fn inputs_that_came_and_went_are_changes_and_a_renamed_node_is_none() {
    let old = parse(&lock(r#"{"x":"a","old":"a"}"#, ""));
    let new = lock(r#"{"x":"a","new":"a"}"#, "");
    let renamed = new.replace(r#""a":{"#, r#""a_2":{"#).replace(r#":"a""#, r#":"a_2""#);
    let changed = changes(&old, &parse(&renamed));
    let kinds: Vec<_> =
        changed.iter().map(|c| (c.name.as_str(), c.from.is_some(), c.to.is_some())).collect();
    assert_eq!(kinds, [("new", false, true), ("old", true, false)]);
}

#[test]
fn every_fetcher_has_a_description() {
    let describe = |locked: &str| {
        let text = lock(r#"{"x":"b"}"#, &format!(r#","b":{{"locked":{locked}}}"#));
        parse(&text).root_inputs()["x"].description.clone()
    };
    for (locked, description) in [
        (
            r#"{"type":"github","owner":"o","repo":"r","rev":"abc","dir":"d"}"#,
            "github:o/r/abc?dir=d",
        ),
        (r#"{"type":"gitlab","owner":"o","repo":"r","ref":"main"}"#, "gitlab:o/r/main"),
        (r#"{"type":"git","url":"https://x/?a=b","rev":"abc"}"#, "git+https://x/?a=b&rev=abc"),
        (r#"{"type":"git","url":"ssh://x","ref":"main"}"#, "git+ssh://x?ref=main"),
        (r#"{"type":"hg","url":"https://x","rev":"abc"}"#, "hg+https://x?rev=abc"),
        (r#"{"type":"tarball","url":"https://x/a.tar.gz"}"#, "https://x/a.tar.gz"),
        (r#"{"type":"file","url":"https://x/a"}"#, "file+https://x/a"),
        (r#"{"type":"path","path":"/a"}"#, "path:/a"),
        (r#"{"type":"indirect","id":"nixpkgs"}"#, "flake:nixpkgs"),
    ] {
        assert_eq!(describe(locked), description);
    }
}

#[test]
fn an_input_may_follow_the_flake_itself() {
    let lock = parse(&lock(r#"{"x":[]}"#, ""));
    assert_eq!(lock.root_inputs()["x"].kind, "self");
    assert_eq!(lock.root_inputs()["x"].rev, None);
}

#[test]
fn circles_and_loose_ends_are_errors() {
    let circle = |inputs: &str| matches!(error(&lock(inputs, "")), LockFileError::Circle { .. });
    assert!(circle(r#"{"x":["x"]}"#));
    assert!(circle(r#"{"x":["y"],"y":["x"]}"#));
    assert!(circle(r#"{"x":["x","y"]}"#));
    let loose = |inputs: &str| error(&lock(inputs, ""));
    assert!(matches!(loose(r#"{"x":"none"}"#), LockFileError::NoNode(node) if node == "none"));
    assert!(matches!(loose(r#"{"x":["none"]}"#), LockFileError::NoInput { .. }));
    let no_root = r#"{"version":7,"root":"r","nodes":{}}"#;
    assert!(matches!(error(no_root), LockFileError::NoNode(node) if node == "r"));
    let hash = lock("{}", r#","b":{"locked":{"type":"path","narHash":"md5-x"}}"#);
    assert!(matches!(error(&hash), LockFileError::NarHash { node, .. } if node == "b"));
}

#[test]
fn other_versions_are_refused_by_their_number_whatever_else_they_hold() {
    assert!(matches!(error(r#"{"version":8,"graph":[]}"#), LockFileError::Version(8)));
    assert!(matches!(error(r#"{"version":4}"#), LockFileError::Version(4)));
    assert!(matches!(error("{}"), LockFileError::Malformed(_)));
    for version in 5..=7 {
        parse(&lock("{}", "").replace(":7", &format!(":{version}")));
    }
}

#[test]
fn without_nixpkgs_the_inputs_there_are_get_named() {
    let error = parse(&lock(r#"{"x":"a","y":"a"}"#, "")).nixpkgs().unwrap_err();
    insta::assert_snapshot!(error, @"the flake has no input named nixpkgs (it has: x, y)");
}

#[test]
fn follows_that_branch_without_end_take_no_endless_time() {
    // Each input follows the next twice over: without memory, two to the fortieth steps.
    let mut inputs = vec![r#""x40":[]"#.to_owned()];
    inputs.extend((0..40).map(|n| format!(r#""x{n}":["x{0}","x{0}"]"#, n + 1)));
    let lock = parse(&lock(&format!("{{{}}}", inputs.join(",")), ""));
    assert_eq!(lock.root_inputs().len(), 41);
}

#[test]
fn a_chain_of_follows_can_not_exhaust_the_stack() {
    let mut inputs: Vec<_> =
        (0..50_000).map(|n| format!(r#""x{n:05}":["x{:05}"]"#, n + 1)).collect();
    inputs.push(r#""x50000":[]"#.to_owned());
    let text = lock(&format!("{{{}}}", inputs.join(",")), "");
    assert!(matches!(error(&text), LockFileError::TooDeep { .. }));
}
