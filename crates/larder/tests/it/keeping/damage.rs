//! Check and repair of a cache that was damaged behind everybody's back.

use std::fs;

use larder_testkit::NixVersion;

use super::World;

/// Flips a bit in the middle of a file.
fn flip(file: &std::path::Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn what_is_damaged_is_found_and_brought_again_from_the_store() {
    let world = World::new(NixVersion::V2_34, "");
    let paths = world.pushed("sample", 4);
    let sound = world.larder(&["cache", "check", "main", "--contents"]).success();
    assert!(sound.text().ends_with("nothing is wrong"), "{sound}");
    fs::write(world.cache.join("index.html"), "mine").unwrap();
    let before = world.everything();
    fs::remove_file(world.nar(&paths[0])).unwrap();
    flip(&world.nar(&paths[1]));
    fs::write(world.narinfo(&paths[2]), "nonsense").unwrap();
    let cut = world.nar(&paths[3]);
    fs::write(&cut, &fs::read(&cut).unwrap()[..100]).unwrap();
    let damaged = world.everything();

    let found = world.larder(&["cache", "check", "main"]).failure();
    assert_eq!(found.code(), 3);
    for part in ["is not there", "cannot be used", "and has 100", "3 paths wrong", "index.html: no"]
    {
        assert!(found.stdout.contains(part), "{part}: {found}");
    }
    let found = world.larder(&["cache", "check", "main", "--contents"]).failure();
    assert!(found.stdout.contains("4 paths wrong"), "{found}");
    let dry = world.larder(&["cache", "repair", "main", "--contents", "--dry-run"]).failure();
    assert_eq!(dry.stdout.matches("would be sent again").count(), 4, "{dry}");
    assert_eq!(world.everything(), damaged);

    let done = world.larder(&["cache", "repair", "main", "--contents"]).success();
    assert!(done.stdout.contains("4 paths sent again"), "{done}");
    assert!(done.stdout.contains("removed 0 paths"), "{done}");
    assert_eq!(world.everything(), before);
    let _ = world.larder(&["cache", "check", "main", "--contents"]).success();
    world.check_with_every_nix(&paths[3]);
}

#[test]
fn what_nobody_has_is_removed_with_what_refers_to_it_unless_it_is_pinned() {
    let world = World::new(NixVersion::V2_34, "");
    let (pinned, lost, sound) =
        (world.pushed("pinned", 2), world.pushed("lost", 3), world.pushed("sound", 2));
    let _ = world.larder(&["pin", "add", "release", &pinned[1], "--in", "main"]).success();
    flip(&world.nar(&pinned[0]));
    let wrong = world.nar(&lost[1]);
    flip(&wrong);
    let other = world.other("");
    let done = other.larder(&["cache", "repair", "main", "--contents"]).failure();
    assert_eq!(done.code(), 3);
    assert!(done.stdout.contains("Pinned by release, so it stays"), "{done}");
    assert!(done.stdout.contains("removed 2 paths, 1 NAR file"), "{done}");
    let left: Vec<bool> = lost.iter().map(|path| world.has(path)).collect();
    assert_eq!((left, wrong.exists()), (vec![true, false, false], false));
    assert!(pinned.iter().all(|path| world.has(path)));
    world.check_with_every_nix(&lost[0]);
    world.check_with_every_nix(&sound[1]);
    // Nothing more comes of repairing again; where the path is, it is mended.
    let everything = world.everything();
    let again = other.larder(&["cache", "repair", "main", "--contents"]).failure();
    assert_eq!((again.code(), world.everything()), (3, everything));
    let _ = world.larder(&["cache", "repair", "main", "--contents"]).success();
    let _ = other.larder(&["cache", "check", "main", "--contents"]).success();
    world.check_with_every_nix(&pinned[1]);
    // Whoever pushes brings the rest.
    let _ = world.larder(&["push", &lost[2]]).success();
    world.check_with_every_nix(&lost[2]);
}

#[test]
fn a_machine_without_a_store_repairs_by_removing() {
    let world = World::new(NixVersion::V2_34, "");
    let paths = world.pushed("sample", 2);
    fs::remove_file(world.nar(&paths[0])).unwrap();
    let bare = world.other("");
    fs::remove_dir_all(bare.store.state_dir()).unwrap();
    let done = bare.larder(&["cache", "repair", "main"]).success();
    assert!(done.stderr.contains("nothing can be sent again from here"), "{done}");
    assert!(!world.has(&paths[0]) && !world.has(&paths[1]));
    let _ = bare.larder(&["cache", "check", "main"]).success();
}
