//! Plans: a pure function of what is there. What a pin, a lease or youth reaches stays; what is left is
//! whole; the least useful goes first; foreign files stay whatever happens.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use larder_cache::{
    gc::{
        plan::{Known, Plan, Policy, Reason, Removal, What, confirmed, plan},
        snapshot::{NarEntry, ObjectEntry, ObjectKind, PathEntry, Snapshot, SnapshotBuilder},
    },
    names::Names,
    storage::Key,
};
use larder_formats::store_path::StorePathHash;
use proptest::prelude::*;

use super::{day, days, hash, nar, path};

/// A path of a made-up cache.
#[derive(Clone, Debug)]
struct Made {
    number: usize,
    written: Timestamp,
    nar: usize,
    references: Vec<usize>,
}

fn made(number: usize, written: i64, references: &[usize]) -> Made {
    Made { number, written: day(written), nar: number, references: references.to_vec() }
}

/// Narinfos of 100 bytes, NARs of 1000.
fn snapshot(paths: &[Made], more: impl FnOnce(&mut SnapshotBuilder)) -> Snapshot {
    let mut builder = SnapshotBuilder::default();
    let mut nars = BTreeSet::new();
    for it in paths {
        let entry = PathEntry {
            hash: hash(it.number),
            path: Some(path(it.number)),
            size: 100,
            written: it.written,
            nar: Some(nar(it.nar)),
            deriver: None,
        };
        builder.path(entry, it.references.iter().map(|number| hash(*number)));
        if nars.insert(it.nar) {
            let (file, written) = (nar(it.nar), it.written);
            builder.nar(NarEntry { file, size: 1000, written, accessed: None });
        }
    }
    more(&mut builder);
    builder.finish()
}

fn only(paths: &[Made]) -> Snapshot {
    snapshot(paths, |_| {})
}

fn older_than(age: i64) -> Policy {
    Policy { max_age: Some(days(age)), ..Policy::default() }
}

fn smaller_than(size: u64) -> Policy {
    Policy { max_size: Some(size), ..Policy::default() }
}

fn hashes(removals: &[Removal]) -> Vec<StorePathHash> {
    let hash = |removal: &Removal| match removal.what {
        What::Path(hash, _) => hash,
        ref other => panic!("{other} is no path"),
    };
    removals.iter().map(hash).collect()
}

#[test]
fn nothing_goes_without_a_limit() {
    let there = only(&[made(1, 0, &[]), made(2, 0, &[1])]);
    let plan = plan(&there, &Known::default(), &Policy::default(), day(10_000));
    assert_eq!(plan, Plan { count: 2, size: 2200, size_after: 2200, ..Plan::default() });
}

#[test]
fn what_was_not_used_for_too_long_goes_and_referrers_before_what_they_refer_to() {
    let there = only(&[made(1, 0, &[]), made(2, 0, &[1]), made(3, 0, &[2]), made(4, 50, &[])]);
    let plan = plan(&there, &Known::default(), &older_than(30), day(60));
    assert_eq!(hashes(&plan.paths), [hash(3), hash(2), hash(1)]);
    assert_eq!(plan.paths[0].reason, Reason::Unused(day(0)));
    // Their NARs go by a later plan, when the grace time is over.
    assert_eq!((plan.nars.len(), plan.size_after), (0, 1100));
}

#[test]
fn what_is_used_keeps_what_it_refers_to() {
    let there = only(&[made(1, 0, &[]), made(2, 0, &[1]), made(3, 0, &[1])]);
    let known = Known { uses: HashMap::from([(hash(3), day(50))]), ..Known::default() };
    assert_eq!(hashes(&plan(&there, &known, &older_than(30), day(60)).paths), [hash(2)]);
}

#[test]
fn reading_a_nar_past_us_is_a_use_too() {
    let there = snapshot(&[], |builder| {
        for (number, accessed) in [(1, None), (2, Some(day(50)))] {
            let entry = PathEntry {
                hash: hash(number),
                path: Some(path(number)),
                size: 100,
                written: day(0),
                nar: Some(nar(number)),
                deriver: None,
            };
            builder.path(entry, []);
            builder.nar(NarEntry { file: nar(number), size: 1000, written: day(0), accessed });
        }
    });
    let plan = plan(&there, &Known::default(), &older_than(30), day(60));
    assert_eq!(hashes(&plan.paths), [hash(1)]);
}

#[test]
fn the_least_useful_go_until_the_rest_fits() {
    let there = only(&[made(1, 3, &[]), made(2, 1, &[]), made(3, 2, &[]), made(4, 4, &[])]);
    let plan = plan(&there, &Known::default(), &smaller_than(2200), day(60));
    assert_eq!(hashes(&plan.paths), [hash(2), hash(3)]);
    assert_eq!(plan.paths[1].reason, Reason::TooLarge(day(2)));
    assert_eq!((plan.size, plan.size_after), (4400, 2200));
}

#[test]
fn a_nar_that_several_paths_share_counts_once_and_until_the_last_of_them() {
    let shared = |number| Made { nar: 1, ..made(number, i64::try_from(number).unwrap(), &[]) };
    let there = only(&[shared(1), shared(2), shared(3)]);
    assert_eq!(plan(&there, &Known::default(), &Policy::default(), day(60)).size, 1300);
    // Two narinfos free 200 bytes, only the third frees the NAR.
    let plan = plan(&there, &Known::default(), &smaller_than(1150), day(60));
    assert_eq!((plan.paths.len(), plan.size_after), (2, 1100));
}

#[test]
fn a_limit_that_pins_do_not_fit_into_takes_all_that_nothing_keeps() {
    let there = only(&[made(1, 0, &[]), made(2, 0, &[1]), made(3, 0, &[])]);
    let known = Known { pinned: vec![hash(2), hash(99)], ..Known::default() };
    let plan = plan(&there, &known, &smaller_than(1), day(60));
    assert_eq!((hashes(&plan.paths), plan.kept), (vec![hash(3)], 2));
}

#[test]
fn what_is_young_stays_with_what_it_refers_to_whatever_the_limits_say() {
    let there = only(&[made(1, 0, &[]), made(2, 60, &[1]), made(3, 0, &[])]);
    let policy = Policy { max_age: Some(days(0)), max_size: Some(0), ..Policy::default() };
    assert_eq!(hashes(&plan(&there, &Known::default(), &policy, day(60)).paths), [hash(3)]);
}

#[test]
fn a_clock_that_was_wrong_once_makes_nothing_useful_for_ever() {
    let there = only(&[made(1, 500, &[]), made(2, 0, &[])]);
    let known = Known { uses: HashMap::from([(hash(2), day(900))]), ..Known::default() };
    // Written and used in the future: as good as now, and so they go last and not never.
    let plan = plan(&there, &known, &Policy { grace: days(0), ..smaller_than(0) }, day(60));
    assert_eq!(plan.paths.len(), 1, "what bears a time to come is still young: {plan}");
    assert_eq!(hashes(&plan.paths), [hash(2)]);
}

#[test]
fn a_nar_goes_when_nothing_has_needed_it_for_the_grace_time() {
    let there = snapshot(&[made(1, 0, &[])], |builder| {
        for number in [7, 8, 9] {
            let written = if number == 9 { day(60) } else { day(0) };
            let entry = NarEntry { file: nar(number), size: 500, written, accessed: None };
            builder.nar(entry);
        }
    });
    let known = Known { orphans: HashMap::from([(nar(8), day(58))]), ..Known::default() };
    let planned = plan(&there, &known, &Policy::default(), day(60));
    // 7 is noted first, 9 is young.
    assert_eq!(planned.orphans, [nar(7)]);
    assert_eq!(planned.nars.iter().map(|it| &it.what).collect::<Vec<_>>(), [&What::Nar(nar(8))]);
    let held = Known { held: Names::of_nar(nar(8)), ..known };
    assert_eq!(plan(&there, &held, &Policy::default(), day(60)).nars, []);
}

#[test]
fn other_objects_go_with_what_they_belong_to_and_foreign_ones_never() {
    let object = |key: &str, kind, written| ObjectEntry {
        key: Key::new(key).unwrap(),
        kind,
        size: 10,
        written,
    };
    let there = snapshot(&[made(1, 0, &[])], |builder| {
        for (key, kind, written) in [
            ("here.ls", ObjectKind::Listing(hash(1)), day(0)),
            ("gone.ls", ObjectKind::Listing(hash(2)), day(0)),
            ("young.ls", ObjectKind::Listing(hash(3)), day(60)),
            ("here.doi", ObjectKind::Realisation(Some(hash(1))), day(0)),
            ("gone.doi", ObjectKind::Realisation(Some(hash(2))), day(0)),
            ("broken.doi", ObjectKind::Realisation(None), day(0)),
            ("debuginfo/here", ObjectKind::Debuginfo(Some(nar(1))), day(0)),
            ("debuginfo/gone", ObjectKind::Debuginfo(Some(nar(2))), day(0)),
            ("log/x.drv", ObjectKind::Log(hash(4)), day(0)),
            (".larder/drafts/old", ObjectKind::Draft, day(0)),
            (".larder/drafts/new", ObjectKind::Draft, day(60)),
            (".larder/staged/old", ObjectKind::Staged(nar(5)), day(0)),
            ("README.html", ObjectKind::Foreign, day(0)),
        ] {
            builder.object(object(key, kind, written));
        }
    });
    let policy = Policy { max_age: Some(days(1000)), ..Policy::default() };
    let plan = plan(&there, &Known::default(), &policy, day(60));
    let going: Vec<String> = plan.objects.iter().map(|it| it.what.to_string()).collect();
    let expected =
        [".larder/drafts/old", ".larder/staged/old", "debuginfo/gone", "gone.doi", "gone.ls"];
    assert_eq!(going, expected);
}

#[test]
fn a_plan_is_read_by_people() {
    let there = only(&[made(1, 0, &[]), made(2, 0, &[1]), made(3, 55, &[])]);
    let known = Known { pinned: vec![hash(3)], ..Known::default() };
    insta::assert_snapshot!(plan(&there, &known, &older_than(30), day(60)), @r"
    00000000000000000000000000000002-path-2: unused since 2026-09-21
    00000000000000000000000000000001-path-1: unused since 2026-09-21
    2 paths of 3 would go (1 kept by pins, leases and youth), 0 NAR files, 0 other objects.
    The cache needs 3.22 KiB, and 1.07 KiB then. 0 B are free at once, the rest after the grace time.
    ");
}

/// Any cache: references lead anywhere that is lower, or to what is not there.
fn any_cache() -> impl Strategy<Value = Vec<Made>> {
    let one = (0..60_i64, 0..12_usize, prop::collection::vec(0..14_usize, 0..4));
    prop::collection::vec(one, 0..12).prop_map(|all| {
        let one = |(number, (written, nar, references)): (usize, (i64, usize, Vec<usize>))| Made {
            number,
            written: day(written),
            nar,
            references: references.into_iter().filter(|it| *it < number || *it >= 12).collect(),
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

fn any_known() -> impl Strategy<Value = Known> {
    let some = || prop::collection::btree_set(0..14_usize, 0..3);
    let uses = prop::collection::hash_map(0..14_usize, 0..70_i64, 0..8);
    (some(), some(), some(), uses).prop_map(|(pinned, paths, nars, uses)| Known {
        pinned: pinned.into_iter().map(hash).collect(),
        held: Names {
            paths: paths.into_iter().map(hash).collect(),
            nars: nars.into_iter().map(nar).collect(),
        },
        uses: uses.into_iter().map(|(number, at)| (hash(number), day(at))).collect(),
        orphans: (0..12).map(|number| (nar(number), day(i64::try_from(number).unwrap()))).collect(),
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let (age, size) = (prop::option::of(0..60_i64), prop::option::of(0..13_000_u64));
    (age, size, 0..20_i64).prop_map(|(age, size, grace)| Policy {
        max_age: age.map(days),
        max_size: size,
        grace: days(grace),
    })
}

/// What these paths reach, by number.
fn reached(cache: &[Made], from: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
    let mut open: Vec<usize> = from.into_iter().filter(|it| *it < cache.len()).collect();
    let mut reached = BTreeSet::new();
    while let Some(number) = open.pop() {
        if reached.insert(number) {
            open.extend(cache[number].references.iter().filter(|it| **it < cache.len()));
        }
    }
    reached
}

fn number(of: StorePathHash) -> usize {
    (0..14).find(|it| hash(*it) == of).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_takes_what_a_pin_a_lease_or_a_young_path_reaches(
        cache in any_cache(), known in any_known(), policy in any_policy(),
    ) {
        let now = day(60);
        let plan = plan(&only(&cache), &known, &policy, now);
        let young = cache.iter().filter(|it| it.written > now - policy.grace).map(|it| it.number);
        let named = known.pinned.iter().chain(&known.held.paths).map(|it| number(*it));
        let kept = reached(&cache, named.chain(young));
        for gone in hashes(&plan.paths) {
            prop_assert!(!kept.contains(&number(gone)), "{}", number(gone));
        }
        prop_assert_eq!(plan.kept, kept.len());
        for removal in &plan.nars {
            let What::Nar(file) = removal.what else { panic!("no NAR") };
            prop_assert!(!known.held.nars.contains(&file));
            prop_assert!(cache.iter().all(|it| nar(it.nar) != file), "a path needs it");
        }
    }

    #[test]
    fn a_plan_that_ends_at_any_step_leaves_every_closure_as_whole_as_it_was(
        cache in any_cache(), known in any_known(), policy in any_policy(),
    ) {
        let plan = plan(&only(&cache), &known, &policy, day(60));
        let mut left: BTreeSet<usize> = cache.iter().map(|it| it.number).collect();
        for gone in hashes(&plan.paths) {
            left.remove(&number(gone));
            for it in cache.iter().filter(|it| left.contains(&it.number)) {
                let whole = it.references.iter().all(|to| *to >= cache.len() || left.contains(to));
                prop_assert!(whole, "{} refers to what is gone", it.number);
            }
        }
        // Counted again from nothing.
        let nars: BTreeSet<usize> = left.iter().map(|it| cache[*it].nar).collect();
        prop_assert_eq!(plan.size_after, (100 * left.len() + 1000 * nars.len()) as u64);
    }

    #[test]
    fn a_plan_takes_no_more_than_its_limits_ask_for(
        cache in any_cache(), known in any_known(), policy in any_policy(),
    ) {
        let plan = plan(&only(&cache), &known, &policy, day(60));
        if let Some(last) = plan.paths.iter().rfind(|it| matches!(it.reason, Reason::TooLarge(_))) {
            // Without the last of them it would not fit.
            prop_assert!(policy.max_size.is_some_and(|limit| plan.size_after + last.size + 1000 > limit));
        }
        for removal in &plan.paths {
            if let Reason::Unused(used) = removal.reason {
                prop_assert!(policy.max_age.is_some_and(|age| used < day(60) - age));
            }
        }
    }

    #[test]
    fn what_is_confirmed_was_planned_and_is_needed_by_nobody_now(
        before in any_cache(), now in any_cache(), known in any_known(), later in any_known(),
        policy in any_policy(),
    ) {
        let plan = plan(&only(&before), &known, &policy, day(60));
        let condemned: HashMap<_, _> =
            hashes(&plan.paths).into_iter().zip(plan.paths.iter().map(|it| it.written)).collect();
        let going = confirmed(&only(&now), &later, &condemned);
        let stays = now.iter().filter(|it| condemned.get(&hash(it.number)) != Some(&it.written));
        let named = later.pinned.iter().chain(&later.held.paths).map(|it| number(*it));
        let kept = reached(&now, stays.map(|it| it.number).chain(named));
        for gone in going {
            prop_assert!(condemned.contains_key(&gone));
            prop_assert!(!kept.contains(&number(gone)));
        }
    }
}
