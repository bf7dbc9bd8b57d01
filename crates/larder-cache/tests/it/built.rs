//! Leases of what was built: they end as they are recorded, and whatever is lost or wrong makes them longer.

use std::{collections::BTreeSet, fs, path::Path};

use jiff::{SignedDuration, Timestamp};
use larder_cache::pin::built::{BuiltPins, Pruned, Standing};
use larder_formats::store_path::StorePath;
use larder_nix::layout::{NixEnvironment, StoreLayout};
use proptest::prelude::*;
use tempfile::TempDir;

const DAY: SignedDuration = SignedDuration::from_hours(24);

struct World {
    folder: TempDir,
    pins: BuiltPins,
}

impl World {
    fn new(days: i32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pins = pins(folder.path(), days);
        Self { folder, pins }
    }

    fn root(&self, path: &StorePath) -> std::path::PathBuf {
        self.folder.path().join("nix/var/nix/gcroots/larder/built").join(path.to_string())
    }

    fn keeps(&self, path: &StorePath) -> bool {
        self.root(path).exists()
    }

    fn look(&self, day: i64) -> Pruned {
        self.pins.prune(at(day), false).unwrap()
    }
}

fn pins(folder: &Path, days: i32) -> BuiltPins {
    let environment = NixEnvironment::default();
    let layout = StoreLayout::resolve(folder.to_str().unwrap(), &environment).unwrap();
    BuiltPins::new(layout, folder.join("spare"), &folder.join("state"), DAY * days)
}

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + day * 86_400).unwrap()
}

fn path(number: usize) -> StorePath {
    format!("{number:0>32}-built").parse().unwrap()
}

#[test]
fn a_lease_begins_at_the_first_look_and_ends_when_it_is_over() {
    let world = World::new(30);
    assert_eq!(world.look(0), Pruned::default());
    assert!(!world.folder.path().join("state").exists(), "nothing to record, nothing written");
    world.pins.add(&[path(1)]).unwrap();
    assert_eq!(world.pins.standing().unwrap(), Standing { paths: 1, next: None });
    for day in 0..30 {
        assert_eq!(world.look(day), Pruned { ended: Vec::new(), kept: 1 });
        world.pins.add(&[path(1)]).unwrap();
    }
    assert_eq!(world.pins.standing().unwrap().next, Some(at(30)));
    // What a file's date says counts for nothing.
    let _ = fs::File::options()
        .write(true)
        .open(world.root(&path(1)))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH);
    assert_eq!(world.pins.prune(at(30), true).unwrap().ended, [path(1)]);
    assert!(world.keeps(&path(1)), "a look that was to change nothing");
    assert_eq!(world.look(30), Pruned { ended: vec![path(1)], kept: 0 });
    assert!(!world.keeps(&path(1)));
    assert_eq!(world.look(31), Pruned::default());
}

#[test]
fn what_is_renewed_stays_and_is_rooted_if_it_was_not() {
    let world = World::new(2);
    let both = BTreeSet::from([path(1), path(2)]);
    for day in 0..10 {
        world.pins.renew(&both, at(day)).unwrap();
        assert_eq!(world.look(day).kept, 2);
    }
    world.pins.renew(&BTreeSet::from([path(1)]), at(10)).unwrap();
    assert_eq!(world.look(11).ended, [path(2)]);
    assert_eq!(world.look(12).ended, [path(1)]);
}

#[test]
fn a_crash_at_any_point_ends_no_lease_early() {
    let world = World::new(5);
    // The record is gone already, the root is still there.
    world.pins.add(&[path(1)]).unwrap();
    let _ = world.look(0);
    let _ = world.look(5);
    world.pins.add(&[path(1)]).unwrap();
    assert_eq!(world.look(6).kept, 1);
    assert_eq!(world.look(10).kept, 1);
    assert_eq!(world.look(11).ended, [path(1)]);
    // Roots that somebody removed are of no record any more.
    world.pins.renew(&BTreeSet::from([path(2)]), at(11)).unwrap();
    fs::remove_file(world.root(&path(2))).unwrap();
    assert_eq!(world.look(12).kept, 0);
    world.pins.add(&[path(2)]).unwrap();
    let _ = world.look(15);
    assert_eq!(world.look(16).kept, 1, "a whole lease, not the rest of the former one");
}

#[test]
fn a_record_that_is_lost_or_damaged_gives_everything_a_whole_lease() {
    let world = World::new(5);
    let record = world.folder.path().join("state/built.sqlite");
    world.pins.add(&[path(1)]).unwrap();
    let _ = world.look(0);
    fs::remove_file(&record).unwrap();
    assert_eq!(world.look(4).kept, 1);
    fs::write(&record, "no database, whatever it says in its name").unwrap();
    assert_eq!(world.look(8).kept, 1);
    assert!(record.with_extension("sqlite.broken").exists());
    assert_eq!(world.look(12).kept, 1);
    assert_eq!(world.look(13).ended, [path(1)]);
}

#[test]
fn a_clock_that_jumps_ends_no_lease_and_makes_none_eternal() {
    let world = World::new(30);
    world.pins.add(&[path(1)]).unwrap();
    let _ = world.look(0);
    assert_eq!(world.look(5000).kept, 1, "years ahead");
    world.pins.add(&[path(2)]).unwrap();
    let _ = world.look(5001);
    assert_eq!(world.look(1).kept, 2, "and back");
    for day in 2..31 {
        assert_eq!(world.look(day).kept, 2, "{day}");
    }
    assert_eq!(world.look(31).kept, 0);
    // A machine that is on once a month: such a time counts for a week.
    world.pins.add(&[path(3)]).unwrap();
    let ended = (1..20).find(|month| !world.look(31 + 31 * month).ended.is_empty());
    assert_eq!(ended, Some(6));
}

#[test]
fn what_cannot_be_rooted_waits_elsewhere_and_is_rooted_by_the_next_look() {
    let world = World::new(30);
    let roots = world.folder.path().join("nix/var/nix/gcroots");
    fs::create_dir_all(roots.parent().unwrap()).unwrap();
    fs::write(&roots, "in the way").unwrap();
    world.pins.add(&[path(1)]).unwrap();
    fs::write(world.folder.path().join("spare/no path"), "").unwrap();
    let error = world.pins.prune(at(0), false).unwrap_err();
    assert!(error.to_string().contains("gcroots/larder/built"), "{error}");
    fs::remove_file(&roots).unwrap();
    assert_eq!(world.look(0).kept, 1);
    assert!(world.keeps(&path(1)));
    assert!(!world.folder.path().join("spare").join(path(1).to_string()).exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn nothing_goes_before_its_lease_and_everything_goes_after(
        events in proptest::collection::vec((0_usize..6, 0_u8..3), 1..25)
    ) {
        let world = World::new(10);
        let mut until: [Option<i64>; 6] = [None; 6];
        for (day, (number, what)) in (0_i64..).zip(events) {
            match what {
                0 => {
                    world.pins.add(&[path(number)]).unwrap();
                    let _ = until[number].get_or_insert(day + 10);
                }
                1 => {
                    world.pins.renew(&BTreeSet::from([path(number)]), at(day)).unwrap();
                    until[number] = Some(day + 10);
                }
                _ => {}
            }
            let _ = world.look(day);
            for (number, until) in until.iter_mut().enumerate() {
                *until = until.filter(|until| *until > day);
                prop_assert_eq!(world.keeps(&path(number)), until.is_some());
            }
        }
    }
}
