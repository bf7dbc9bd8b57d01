//! Collection in a cache: what is pinned stays whole, the rest goes in two steps, and a run that dies is made good by the
//! next.

use std::{fs, thread::sleep, time::Duration};

use larder_testkit::{NixVersion, scratch::scratch};

use super::World;

const TINY: &str = "max-size = \"1kB\"";

#[test]
fn a_pinned_closure_survives_any_limit_and_the_rest_goes_narinfo_first() {
    let world = World::new(NixVersion::V2_34, TINY);
    let (kept, lost) = (world.pushed("kept", 3), world.pushed("lost", 3));
    let _ = world.larder(&["pin", "add", "release", &kept[2], "--in", "main"]).success();
    let listed = world.larder(&["pin", "list", "--in", "main"]).success();
    assert!(listed.text().starts_with("release: "), "{listed}");
    // What was just written stays, whatever the limit.
    let young = world.larder(&["gc"]).success();
    assert!(young.stdout.contains("removed 0 paths"), "{young}");
    let nars: Vec<_> = lost.iter().map(|path| world.nar(path)).collect();
    world.a_day_goes_by();

    let before = world.everything();
    let dry = world.larder(&["gc", "main", "--dry-run"]).success();
    for path in &lost {
        assert!(dry.stdout.contains(&path["/nix/store/".len()..]), "{dry}");
    }
    assert!(!dry.stdout.contains("-kept-"), "{dry}");
    assert_eq!(world.everything(), before);

    let done = world.larder(&["gc"]).success();
    assert!(done.stdout.contains("main: removed 3 paths, 0 NAR files"), "{done}");
    assert_eq!(lost.iter().filter(|path| world.has(path)).count(), 0);
    assert!(nars.iter().all(|nar| nar.exists()), "somebody may come for them");
    let _ = world.larder(&["cache", "check", "main", "--contents"]).success();
    world.a_day_goes_by();
    // Nothing hangs on the index.
    fs::write(world.state_dir().join("index/main.sqlite"), "not a database").unwrap();
    let done = world.larder(&["gc"]).success();
    assert!(done.stdout.contains("removed 0 paths, 3 NAR files"), "{done}");
    assert!(nars.iter().all(|nar| !nar.exists()));
    world.check_with_every_nix(&kept[2]);

    // Without the pin nothing keeps it.
    let _ = world.larder(&["pin", "remove", "release", "--in", "main"]).success();
    let _ = world.larder(&["gc"]).success();
    assert!(!world.has(&kept[0]));
}

#[test]
fn a_cache_without_limits_only_loses_what_was_broken_off() {
    let world = World::new(NixVersion::V2_34, "");
    let paths = world.pushed("kept", 2);
    let draft = world.cache.join(".larder/drafts/draft-x");
    fs::create_dir_all(draft.parent().unwrap()).unwrap();
    fs::write(&draft, "half").unwrap();
    fs::write(world.cache.join("index.html"), "mine").unwrap();
    world.a_day_goes_by();
    let before = world.everything();
    let done = world.larder(&["gc"]).success();
    assert!(done.stdout.contains("removed 0 paths, 0 NAR files and 1 other object"), "{done}");
    assert!(!draft.exists());
    assert_eq!(world.everything(), before);
    world.check_with_every_nix(&paths[1]);
}

#[test]
fn places_that_are_not_ours_to_collect_in_are_left_alone() {
    let world = World::new(NixVersion::V2_34, TINY);
    let nothing = world.larder(&["gc"]).success();
    assert_eq!(nothing.text(), "main: nothing is there");
    assert!(!world.cache.exists());
    let elsewhere = world.larder(&["gc", "https://cache.example"]).failure();
    assert!(elsewhere.stderr.contains("another server"), "{elsewhere}");
    let folder = scratch("documents");
    fs::write(folder.path().join("letter"), "dear").unwrap();
    let url = folder.path().display().to_string();
    for words in [["gc", &url].as_slice(), &["cache", "check", &url], &["cache", "repair", &url]] {
        let refused = world.larder(words).failure();
        assert!(refused.stderr.contains("has no nix-cache-info, but other files"), "{refused}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // One that fails keeps no other from being collected.
    let _ = world.pushed("lost", 1);
    world.a_day_goes_by();
    let some = world.larder(&["gc", &url, "main"]).failure();
    assert_eq!((some.code(), some.stdout.contains("main: removed 1 path,")), (3, true), "{some}");
}

#[test]
fn a_collection_that_is_killed_is_finished_by_the_next() {
    const MORE: usize = 4000;
    let world = World::new(NixVersion::V2_34, TINY);
    let kept = world.pushed("kept", 3);
    let _ = world.larder(&["pin", "add", "release", &kept[2], "--in", "main"]).success();
    let text = fs::read_to_string(world.narinfo(&kept[0])).unwrap();
    let hash = &kept[0]["/nix/store/".len()..][..32];
    for number in 0..MORE {
        let other = format!("{number:032}");
        let text = text.replace(hash, &other);
        fs::write(world.cache.join(format!("{other}.narinfo")), text).unwrap();
    }
    world.a_day_goes_by();
    let left = || {
        let names = fs::read_dir(&world.cache).unwrap().map(|it| it.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(".narinfo")).count()
    };
    let mut running = world.program(&["gc"]).spawn();
    while left() > MORE {
        assert!(running.is_running(), "{}", running.output());
        sleep(Duration::from_millis(1));
    }
    running.kill();
    let between = left();
    assert!(between > 3, "it was killed too late to tell anything");
    let _ = world.larder(&["cache", "check", "main"]).success();
    let done = world.larder(&["gc"]).success();
    assert!(done.stdout.contains(&format!("removed {} paths", between - 3)), "{done}");
    assert_eq!(left(), 3);
    world.check_with_every_nix(&kept[2]);
}
