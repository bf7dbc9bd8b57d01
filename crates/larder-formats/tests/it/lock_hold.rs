//! Locks between two others.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::lock_file::{LockFile, changes, moved};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(lock: &Value) -> LockFile {
    LockFile::parse(&lock.to_string()).unwrap()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a root input means: its own lock, and that of all it brings along, by the names of inputs. To this depth,
/// which is more than any of these locks has.
fn meaning(lock: &LockFile, input: &str) -> Value {
    fn of(nodes: &Value, node: &str, depth: usize) -> Value {
        let node = &nodes[node];
        let empty = serde_json::Map::new();
        let inputs = node["inputs"].as_object().unwrap_or(&empty).iter();
        let inputs: BTreeMap<_, _> = inputs
            .filter(|_| depth > 0)
            .map(|(name, input)| match input.as_str() {
                Some(next) => (name.clone(), of(nodes, next, depth - 1)),
                None => (name.clone(), input.clone()),
            })
            .collect();
        json!({ "locked": node["locked"], "flake": node["flake"], "inputs": inputs })
    }
    let lock: Value = serde_json::from_str(lock.text()).unwrap();
    let root = lock["root"].as_str().unwrap();
    match lock["nodes"][root]["inputs"][input].as_str() {
        Some(node) => of(&lock["nodes"], node, 6),
        None => lock["nodes"][root]["inputs"][input].clone(),
    }
}

fn node(rev: &str, inputs: Value) -> Value {
    json!({ "locked": { "type": "git", "url": "file:///x", "rev": rev }, "inputs": inputs, "flake": false })
}

#[test]
fn an_input_is_held_with_what_it_brings_along_and_the_others_move() {
    let old = parse(&json!({ "version": 7, "root": "root", "nodes": {
        "root": { "inputs": { "home": "home", "nixpkgs": "nixpkgs" } },
        "home": node("home-1", json!({ "nixpkgs": "nixpkgs_2", "utils": ["nixpkgs"] })),
        "nixpkgs": node("nixpkgs-1", json!({})),
        "nixpkgs_2": node("of-home-1", json!({})),
    }}));
    // The names of nodes are others here, as Nix may give them.
    let new = parse(&json!({ "version": 7, "root": "root", "nodes": {
        "root": { "inputs": { "home": "home", "nixpkgs": "nixpkgs_2" } },
        "home": node("home-2", json!({ "nixpkgs": "nixpkgs", "utils": ["nixpkgs"] })),
        "nixpkgs": node("of-home-2", json!({})),
        "nixpkgs_2": node("nixpkgs-2", json!({})),
    }}));
    assert_eq!(moved(&old, &new), names(&["home", "nixpkgs"]));
    let held = new.holding(&old, &names(&["home"])).unwrap();
    assert_eq!(meaning(&held, "home"), meaning(&old, "home"));
    assert_eq!(meaning(&held, "nixpkgs"), meaning(&new, "nixpkgs"));
    assert_eq!(held.all_nodes().len(), 3, "what nothing leads to is gone: {}", held.text());
    assert_eq!(moved(&old, &held), names(&["nixpkgs"]));
    let moved: Vec<_> = changes(&old, &held).into_iter().map(|change| change.name).collect();
    assert_eq!(moved, ["nixpkgs"]);
}

#[test]
fn an_input_of_an_input_that_moves_moves_it() {
    let lock = |of_home: &str| {
        parse(&json!({ "version": 7, "root": "root", "nodes": {
            "root": { "inputs": { "home": "home", "same": ["home"] } },
            "home": node("home-1", json!({ "nixpkgs": "nixpkgs" })),
            "nixpkgs": node(of_home, json!({})),
        }}))
    };
    let (old, new) = (lock("1"), lock("2"));
    assert!(changes(&old, &new).is_empty(), "itself, it is the same");
    // `same` only follows, so that it cannot be held.
    assert_eq!(moved(&old, &new), names(&["home"]));
    assert_eq!(
        meaning(&new.holding(&old, &names(&["home"])).unwrap(), "home"),
        meaning(&old, "home")
    );
}

#[test]
fn a_lock_that_leads_in_circles_comes_to_an_end() {
    let lock = |rev: &str| {
        parse(&json!({ "version": 7, "root": "root", "nodes": {
            "root": { "inputs": { "a": "a" } },
            "a": node("1", json!({ "b": "b" })),
            "b": node(rev, json!({ "a": "a" })),
        }}))
    };
    let (old, new) = (lock("1"), lock("2"));
    assert_eq!(moved(&old, &new), names(&["a"]));
    assert!(moved(&old, &old).is_empty());
    let held = new.holding(&old, &names(&["a"])).unwrap();
    assert_eq!(meaning(&held, "a"), meaning(&old, "a"));
}

#[test]
fn what_only_one_lock_has_is_no_matter_of_holding() {
    let lock = |inputs: Value| {
        let nodes = json!({ "root": { "inputs": inputs }, "a": node("1", json!({})) });
        parse(&json!({ "version": 7, "root": "root", "nodes": nodes }))
    };
    let (without, with) = (lock(json!({})), lock(json!({ "a": "a" })));
    assert!(moved(&without, &with).is_empty() && moved(&with, &without).is_empty());
    let held = with.holding(&without, &names(&["a", "unheard-of"])).unwrap();
    assert_eq!(meaning(&held, "a"), meaning(&with, "a"));
}

/// Inputs `i0` to `i4`, each with up to two of its own, whose nodes have any of a few names.
fn locks() -> impl Strategy<Value = Value> {
    let sub = proptest::collection::vec(0..3_u8, 0..3);
    let input = (0..3_u8, sub);
    (proptest::collection::vec(input, 5), any::<u64>()).prop_map(|(inputs, names)| {
        let mut nodes = serde_json::Map::new();
        let mut free = |wish: u64, content: Value| {
            let name = (wish % 7..).map(|n| format!("n{n}")).find(|n| !nodes.contains_key(n));
            nodes.insert(name.clone().unwrap(), content);
            name.unwrap()
        };
        let mut root = serde_json::Map::new();
        for (index, (rev, subs)) in inputs.into_iter().enumerate() {
            let mut own = serde_json::Map::new();
            for (place, sub) in subs.into_iter().enumerate() {
                let sub = free(names >> (3 * place), node(&format!("sub-{sub}"), json!({})));
                own.insert(format!("s{place}"), Value::String(sub));
            }
            let name = free(names >> (5 * index), node(&format!("rev-{rev}"), Value::Object(own)));
            root.insert(format!("i{index}"), Value::String(name));
        }
        nodes.insert("root".to_owned(), json!({ "inputs": root }));
        json!({ "version": 7, "root": "root", "nodes": nodes })
    })
}

proptest! {
    #[test]
    fn every_input_means_what_the_lock_it_was_taken_from_says(
        old in locks(), new in locks(), held in proptest::collection::btree_set(0..5_usize, 0..5),
    ) {
        let (old, new) = (parse(&old), parse(&new));
        let held: BTreeSet<String> = held.iter().map(|index| format!("i{index}")).collect();
        let between = new.holding(&old, &held).unwrap();
        for index in 0..5 {
            let input = format!("i{index}");
            let from = if held.contains(&input) { &old } else { &new };
            prop_assert_eq!(meaning(&between, &input), meaning(from, &input));
        }
        let expected: BTreeSet<_> = moved(&old, &new).difference(&held).cloned().collect();
        prop_assert_eq!(moved(&old, &between), expected);
    }
}
