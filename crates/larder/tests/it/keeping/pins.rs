//! Pins of the store are roots that Nix respects, and end when they say.

use std::{fs, os::unix::fs::symlink};

use larder_testkit::{Nix, NixVersion, Tree};

use super::{World, earlier};

fn collect(world: &World) {
    let _ = world.store.nix(&["nix-store", "--gc"]).success();
}

#[test]
fn what_is_pinned_here_survives_the_garbage_collector_of_every_nix() {
    for version in NixVersion::all() {
        let world = World::new(version, "");
        let add = |name: &str| world.store.add_source(name, &Tree::new().file("x", name));
        let (kept, linked, lost) = (add("kept"), add("linked"), add("lost"));
        symlink(&linked, world.store.work_dir().join("result")).unwrap();
        let _ = world.larder(&["pin", "add", "mine", &kept, "./result"]).success();
        let roots = world.store.nix(&["nix-store", "--gc", "--print-roots"]).success();
        assert!(roots.stdout.contains("gcroots/larder/pins/mine/"), "{roots}");
        collect(&world);
        let valid = |path: &String| world.store.is_valid(path);
        assert_eq!([&kept, &linked, &lost].map(valid), [true, true, false], "{version}");
        // Set again, it keeps what it says now.
        let _ = world.larder(&["pin", "add", "mine", &kept]).success();
        collect(&world);
        assert_eq!([&kept, &linked].map(valid), [true, false], "{version}");
        let listed = world.larder(&["pin", "list"]).success();
        let line = format!("mine: {}; set ", &kept["/nix/store/".len()..]);
        assert!(listed.text().starts_with(&line), "{listed}");
        assert!(listed.text().ends_with("until it is removed"), "{listed}");
        let _ = world.larder(&["pin", "remove", "mine"]).success();
        collect(&world);
        assert!(!valid(&kept), "{version}");
        assert_eq!(world.larder(&["pin", "list"]).success().text(), "");
    }
}

#[test]
fn a_pin_that_has_ended_is_dropped_by_the_next_collection() {
    let world = World::new(NixVersion::V2_34, "");
    let path = world.store.add_source("kept", &Tree::new().file("x", "y"));
    for name in ["short", "long"] {
        let length = if name == "short" { "1h" } else { "30d" };
        let _ = world.larder(&["pin", "add", name, &path, "--for", length]).success();
    }
    let _ = world.larder(&["gc"]).success();
    assert_eq!(world.larder(&["pin", "list"]).success().lines().len(), 2);
    earlier(&world.state_dir().join("pins/.larder/pins/short.json"), "until");
    let listed = world.larder(&["pin", "list"]).success();
    assert!(listed.stdout.contains("ended 20"), "{listed}");
    let dry = world.larder(&["gc", "--dry-run"]).success();
    assert!(dry.stdout.contains("the pin short has ended and would be removed"), "{dry}");
    assert_eq!(world.larder(&["pin", "list"]).success().lines().len(), 2);
    let _ = world.larder(&["gc"]).success();
    let listed = world.larder(&["pin", "list", "--json"]).success();
    assert_eq!(listed.lines().len(), 1, "{listed}");
    assert!(listed.text().contains("\"name\":\"long\""), "{listed}");
    assert!(!world.store.state_dir().join("gcroots/larder/pins/short").exists());
    collect(&world);
    assert!(world.store.is_valid(&path));
}

#[test]
fn a_pin_that_was_left_half_done_is_told_and_can_be_set_again_or_removed() {
    let world = World::new(NixVersion::V2_34, "");
    let path = world.store.add_source("kept", &Tree::new().file("x", "y"));
    let (roots, records) = (
        world.store.state_dir().join("gcroots/larder/pins"),
        world.state_dir().join("pins/.larder/pins"),
    );
    for (half, word) in [(roots.join("mine"), "their roots are gone"), (records, "interrupted")] {
        let _ = world.larder(&["pin", "add", "mine", &path]).success();
        fs::remove_dir_all(&half).unwrap();
        let listed = world.larder(&["pin", "list"]).failure();
        assert_eq!((listed.code(), listed.stdout.contains(word)), (3, true), "{listed}");
        let _ = world.larder(&["pin", "add", "mine", &path]).success();
        let _ = world.larder(&["pin", "list"]).success();
        fs::remove_dir_all(&half).unwrap();
        let _ = world.larder(&["pin", "remove", "mine"]).success();
        assert_eq!(world.larder(&["pin", "list"]).success().text(), "");
    }
}

#[test]
fn what_cannot_be_pinned_is_refused_with_the_reason() {
    let world = World::new(NixVersion::V2_34, "");
    let here = world.store.add_source("here", &Tree::new().file("x", "y"));
    let gone = "/nix/store/00000000000000000000000000000000-gone";
    for (words, status, word) in [
        (vec!["pin", "add", "x", gone], 1, "is not in the store; build or fetch it first"),
        (vec!["pin", "add", "../x", &here], 2, "cannot be a name here"),
        (vec!["pin", "add", "x", &here, "--for", "ever"], 1, "ever"),
        (vec!["pin", "add", "x", &here, "--in", "main"], 1, "is no cache yet"),
        (vec!["pin", "add", "x", &here, "--in", "https://cache.example"], 1, "another server"),
        (vec!["pin", "remove", "x"], 1, "there is no pin x"),
    ] {
        let refused = world.larder(&words).failure();
        assert_eq!(refused.code(), status, "{refused}");
        assert!(refused.stderr.contains(word), "{refused}");
    }
    assert_eq!(world.larder(&["pin", "list"]).success().text(), "");
    let _ = world.larder(&["push", &here]).success();
    let gone = world.larder(&["pin", "add", "x", gone, "--in", "main"]).failure();
    assert!(gone.stderr.contains("is not in main: push it first"), "{gone}");
    assert_eq!(world.larder(&["pin", "list", "--in", "main"]).success().text(), "");
}
