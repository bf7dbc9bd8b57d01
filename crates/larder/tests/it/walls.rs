//! The walls of the house: who may import whom, and what lives in one place only.

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use larder_testkit::process::Program;
use serde_json::Value;

/// What each crate may stand on. A crate that is missing here has not found its floor yet.
const FLOORS: &[(&str, &[&str])] = &[
    ("larder-formats", &[]),
    ("larder-nix", &["larder-formats"]),
    ("larder-cache", &["larder-formats", "larder-nix"]),
    ("larder-fleet", &["larder-cache", "larder-formats", "larder-nix"]),
    ("larder-web", &["larder-cache", "larder-fleet", "larder-formats"]),
    ("larder", &["larder-cache", "larder-fleet", "larder-formats", "larder-nix", "larder-web"]),
    ("larder-testkit", &[]),
    ("larder-fuzz", &["larder-cache", "larder-formats", "larder-web"]),
];

/// Crates that the formats must never need: they would bring files, clocks or threads with them.
const NOT_PURE: &[&str] =
    &["tokio", "futures", "rustix", "tempfile", "jiff", "getrandom", "tracing"];

/// The only files that may start programs, read the environment or read the clock.
const HOMES: &[&str] = &[
    "larder-nix/src/command/run.rs",
    "larder/src/clock.rs",
    "larder/src/environment.rs",
    "larder-testkit/src/process.rs",
];

fn root() -> PathBuf {
    larder_testkit::nix::workspace_root()
}

/// Each crate of the workspace with its ordinary dependencies.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = Program::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .dir(root())
        .run()
        .success();
    let metadata: Value = serde_json::from_str(metadata.text()).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let ordinary = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"].is_null()).map(name).collect()
    };
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (name(package), ordinary(package))).collect()
}

/// The Rust files of a crate's `src`.
fn sources(krate: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![krate.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn crates() -> Vec<PathBuf> {
    let mut crates: Vec<PathBuf> =
        fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    crates.sort();
    crates
}

#[test]
fn no_crate_imports_upward() {
    let floors: BTreeMap<&str, &[&str]> = FLOORS.iter().copied().collect();
    let ours: BTreeSet<String> = dependencies().into_keys().collect();
    for (krate, needs) in dependencies() {
        let floor = floors.get(krate.as_str()).unwrap_or_else(|| panic!("{krate} has no floor"));
        for need in needs.intersection(&ours) {
            assert!(floor.contains(&need.as_str()), "{krate} may not depend on {need}");
        }
    }
}

#[test]
fn the_formats_stay_pure() {
    let needs = &dependencies()["larder-formats"];
    for impure in NOT_PURE {
        assert!(!needs.contains(*impure), "larder-formats depends on {impure}");
    }
    for file in sources(&root().join("crates/larder-formats")) {
        let text = fs::read_to_string(&file).unwrap();
        for door in ["std::fs", "std::env", "std::time", "std::net", "std::thread", "std::process"]
        {
            assert!(!text.contains(door), "{} uses {door}", file.display());
        }
    }
}

#[test]
fn the_files_of_a_crate_do_not_import_in_circles() {
    for krate in crates() {
        let circles = imports::circles(&krate.join("src"), &sources(&krate));
        assert!(circles.is_empty(), "{}: {circles:#?}", krate.display());
    }
}

#[test]
fn programs_the_environment_and_the_clock_each_have_one_home() {
    for krate in crates() {
        for file in sources(&krate) {
            let text = fs::read_to_string(&file).unwrap();
            let excused = text.contains("clippy::disallowed_methods");
            let at_home = HOMES.iter().any(|home| file.ends_with(home));
            assert!(!excused || at_home, "{} makes itself an exception", file.display());
        }
    }
}

#[test]
fn no_file_outgrows_its_subject() {
    for krate in crates() {
        for file in sources(&krate) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines: what is its one subject?", file.display());
            assert!(
                !file.ends_with("utils.rs") && !file.ends_with("util.rs"),
                "{}",
                file.display()
            );
        }
    }
}
