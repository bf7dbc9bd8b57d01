//! What an upgrade will do, told from values: how derivations are judged, how systems differ, why a package has
//! to be built.

use std::collections::{BTreeMap, BTreeSet};

use larder_fleet::{
    night::BuildPlan,
    upgrade::{
        plan::{
            Allowed, Builds, CacheAnswer, Class, Downloads, PackageDiff, Partition, Plan, Reason,
            Room, may_name_code,
        },
        settings_among,
    },
};
use larder_formats::{
    StoreDir, StorePath, StorePathHash, derivation::Derivation, package_name::PackageName,
};
use larder_nix::{caches::Known, settings::Settings};
use proptest::prelude::*;

/// Made by real Nix; see the README there.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../larder-formats/tests/golden/all");

fn golden(name: &str) -> Derivation {
    let bytes = std::fs::read(format!("{GOLDEN}/{name}.drv")).unwrap();
    Derivation::parse(&bytes, &StoreDir::default()).unwrap()
}

fn path(n: u8, name: &str) -> StorePath {
    StorePath::new(StorePathHash::from_bytes([n; 20]), name).unwrap()
}

/// What of the golden derivations' inputs is fetched or a folder.
fn code() -> BTreeSet<StorePath> {
    let fetched = golden("fetchurl").outputs["out"].path.clone();
    let sources = golden("package-own-source").input_sources;
    fetched.into_iter().chain(sources.into_iter().filter(|path| path.name() == "shapes")).collect()
}

#[test]
fn derivations_as_nixpkgs_writes_them_are_told_apart() {
    let mut judged = 0;
    for entry in std::fs::read_dir(GOLDEN).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".drv") else { continue };
        let class = match name.split('-').next().unwrap() {
            "config" => Class::Configuration,
            "package" => Class::Package,
            _ => Class::Source,
        };
        assert_eq!(Class::of(Some(&golden(name)), &code()), class, "{name}");
        judged += 1;
    }
    assert_eq!(judged, 18);
    assert_eq!(
        Class::of(None, &code()),
        Class::Package,
        "what cannot be read is not known to be cheap"
    );
}

#[test]
fn a_source_is_looked_at_only_where_there_would_be_nothing_to_wait_for() {
    for (name, doubtful) in [
        ("config-substituted", true),
        ("package-tuned", true),
        ("config-text", false),
        ("package", false),
    ] {
        assert_eq!(may_name_code(&golden(name)), doubtful, "{name}");
    }
    let tuned = golden("package-tuned");
    assert_eq!(Class::of(Some(&tuned), &BTreeSet::new()), Class::Configuration);
    let mut substituted = golden("config-substituted");
    substituted.variables.insert("allowSubstitutes".into(), "1".into());
    let class = Class::of(Some(&substituted), &BTreeSet::new());
    assert_eq!(class, Class::Package, "a cache may have it");
}

#[test]
fn packages_are_allowed_by_name_with_or_without_version() {
    let hello = path(1, "hello-2.12.1.drv");
    let named = |name: &str| Allowed::Named(BTreeSet::from([name.to_owned()]));
    assert!(Allowed::All.admits(&hello));
    assert!(named("hello").admits(&hello) && named("hello-2.12.1").admits(&hello));
    assert!(named("hello").admits(&path(2, "hello-2.12.1-dev")), "one of its outputs");
    assert!(!named("hell").admits(&hello) && !named("hello-2.12").admits(&hello));
    assert!(!Allowed::Named(BTreeSet::new()).admits(&hello));
}

#[test]
fn versions_are_compared_and_outputs_count_as_one_package() {
    let before = [
        path(1, "bash-5.2"),
        path(2, "bash-5.2-man"),
        path(3, "curl-8.9.1"),
        path(4, "curl-8.9.1-bin"),
        path(5, "etc"),
        path(6, "gone-1"),
        path(7, "python3-3.12.1"),
    ];
    let after = [
        path(1, "bash-5.2"),
        path(12, "bash-5.2-dev"),
        path(13, "curl-8.10.0"),
        path(15, "etc"),
        path(16, "new-2"),
        path(7, "python3-3.12.1"),
        path(17, "python3-3.13.0"),
    ];
    let diff = PackageDiff::between(&before, &after);
    let json = serde_json::to_value(&diff).unwrap();
    let expected = serde_json::json!({
        "added": [{"name": "new", "versions": ["2"]}],
        "removed": [{"name": "gone", "versions": ["1"]}],
        "changed": [
            {"name": "curl", "before": ["8.9.1"], "after": ["8.10.0"]},
            {"name": "python3", "before": ["3.12.1"], "after": ["3.12.1", "3.13.0"]},
        ],
        "rebuilt": 2,
    });
    assert_eq!(json, expected);
    let downloads = PackageDiff::of_downloads(&before, &after[2..3]);
    assert_eq!((downloads.changed.len(), downloads.removed.len()), (1, 0));
}

fn known(size: u64, signer: &str) -> Known {
    let signers = BTreeSet::from([signer.to_owned()]);
    Known { nar_size: size, download_size: Some(size), signers, content_addressed: false }
}

fn answer(cache: &str, paths: &[(&StorePath, &str)]) -> CacheAnswer {
    let told = paths.iter().map(|(path, signer)| ((*path).clone(), known(10, signer)));
    CacheAnswer { cache: cache.to_owned(), told: Ok(told.collect()) }
}

#[test]
fn a_download_is_counted_for_the_first_cache_that_has_it() {
    let (one, two, three) = (path(1, "a-1"), path(2, "b-1"), path(3, "c-1"));
    let plan = BuildPlan {
        fetch: [one.clone(), two.clone(), three].into(),
        download_bytes: 30,
        ..BuildPlan::default()
    };
    let dead = CacheAnswer { cache: "dead".to_owned(), told: Err("no route".to_owned()) };
    let answers = [dead, answer("lan", &[(&one, "k")]), answer("wan", &[(&one, "k"), (&two, "k")])];
    let downloads = Downloads::of(&plan, &answers, []);
    let counts = downloads.caches.iter().map(|from| (&*from.cache, from.paths, from.bytes));
    assert_eq!(counts.collect::<Vec<_>>(), [("lan", 1, 10), ("wan", 1, 10)]);
    assert_eq!((downloads.paths, downloads.packages.added.len()), (3, 3));
}

#[test]
fn the_nearest_reason_is_found_why_a_package_has_to_be_built() {
    let hello = golden("package");
    let outputs: Vec<&StorePath> =
        hello.outputs.values().filter_map(|output| output.path.as_ref()).collect();
    let settings = Settings {
        require_signatures: true,
        trusted_keys: vec!["good:key".to_owned()],
        ..Settings::default()
    };
    let signed_by = |signer: &'static str| -> Vec<(&StorePath, &str)> {
        outputs.iter().map(|path| (*path, signer)).collect()
    };
    let dead = || CacheAnswer { cache: "dead".to_owned(), told: Err("no route".to_owned()) };
    let reason = |answers: &[CacheAnswer]| Reason::of(Some(&hello), &settings, answers);
    let lan = "lan".to_owned();

    assert_eq!(reason(&[]), Reason::NoCaches);
    let absent = reason(&[answer("lan", &[])]);
    assert_eq!(absent, Reason::Absent { caches: vec![lan.clone()] });
    // All of its outputs or none.
    let some = reason(&[answer("lan", &signed_by("good")[..2])]);
    assert_eq!(some, absent);
    let Reason::Unreachable { caches, absent } = reason(&[dead(), answer("lan", &[])]) else {
        panic!("a cache that cannot be asked may have it")
    };
    assert_eq!((&*caches[0].message, absent), ("no route", vec![lan.clone()]));
    let strange = reason(&[dead(), answer("lan", &signed_by("bad"))]);
    let signers = vec!["bad".to_owned()];
    assert_eq!(strange, Reason::Untrusted { cache: lan.clone(), signers });
    let behind = reason(&[answer("far", &signed_by("bad")), answer("lan", &signed_by("good"))]);
    assert_eq!(behind, Reason::NotTaken { cache: lan.clone() });
    let taken = reason(&[answer("lan", &signed_by("good"))]);
    assert_eq!(taken, Reason::NotTaken { cache: lan.clone() });
    let lost = Reason::of_missing(outputs[0], &settings, &[answer("lan", &signed_by("good")[..1])]);
    assert_eq!(lost, Reason::Broken { cache: lan });
    let careless = Settings { require_signatures: false, ..settings.clone() };
    let careless = Reason::of(Some(&hello), &careless, &[answer("lan", &signed_by("bad"))]);
    assert!(matches!(careless, Reason::NotTaken { .. }));

    assert_eq!(Reason::of(None, &settings, &[dead()]), Reason::OutputsUnknown);
    let mut forbidden = hello.clone();
    forbidden.variables.insert("allowSubstitutes".into(), String::new());
    let forbidden = Reason::of(Some(&forbidden), &settings, &[dead()]);
    assert_eq!(forbidden, Reason::NotSubstitutable);
    let mut floating = hello.clone();
    floating.outputs.values_mut().for_each(|output| output.path = None);
    let floating = Reason::of(Some(&floating), &settings, &[dead()]);
    assert_eq!(floating, Reason::OutputsUnknown);
}

#[test]
fn room_is_short_when_less_is_free_than_needed() {
    const MIB: u64 = 1024 * 1024;
    let in_store = |free| Room::in_store("/nix/store".into(), 100 * MIB, free);
    assert!(in_store(100 * MIB).is_short(), "a margin is kept");
    assert!(!in_store(200 * MIB).is_short());
    assert!(Room::in_store("/".into(), u64::MAX, u64::MAX - 1).is_short());
    let boot = |free| Room { partition: Partition::Boot, folder: "/boot".into(), needed: 5, free };
    let plan = Plan { room: vec![in_store(200 * MIB), boot(4), boot(5)], ..Plan::default() };
    assert_eq!(plan.short().collect::<Vec<_>>(), [&boot(4)]);
}

#[test]
fn every_derivation_is_judged_once() {
    let (etc, hello) = (golden("config-etc"), golden("package"));
    let paths = [path(1, "etc.drv"), path(2, "hello-2.12.1.drv"), path(3, "lost.drv")];
    let builds = Builds::judge(paths.iter().zip([Some(&etc), Some(&hello), None]), &code());
    assert_eq!(builds.configuration, [paths[0].clone()].into());
    assert_eq!(builds.packages, [paths[1].clone(), paths[2].clone()].into());
    assert!(builds.sources.is_empty());
}

fn any_closure() -> impl Strategy<Value = BTreeSet<StorePath>> {
    let one = (any::<u8>(), "[a-d]{1,2}(-[0-9](\\.[0-9])?)?(-dev|-man)?");
    proptest::collection::btree_set(one.prop_map(|(n, name)| path(n, &name)), 0..20)
}

/// The packages of a closure with their versions, counted another way.
fn versions(closure: &BTreeSet<StorePath>) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for path in closure {
        let PackageName { name, version } = PackageName::of(path);
        found.entry(name.to_owned()).or_default().insert(version.to_owned());
    }
    found
}

proptest! {
    #[test]
    fn a_system_does_not_differ_from_itself(closure in any_closure()) {
        prop_assert_eq!(PackageDiff::between(&closure, &closure), PackageDiff::default());
    }

    #[test]
    fn a_diff_leads_from_what_was_to_what_comes_and_back(
        before in any_closure(), after in any_closure(),
    ) {
        let diff = PackageDiff::between(&before, &after);
        let mut packages = versions(&before);
        for gone in &diff.removed {
            prop_assert_eq!(packages.remove(&gone.name), Some(gone.versions.clone()));
        }
        for change in &diff.changed {
            let had = packages.insert(change.name.clone(), change.after.clone());
            prop_assert_eq!(had, Some(change.before.clone()));
            prop_assert_ne!(&change.before, &change.after);
        }
        for new in &diff.added {
            prop_assert_eq!(packages.insert(new.name.clone(), new.versions.clone()), None);
        }
        prop_assert_eq!(packages, versions(&after));
        let back = PackageDiff::between(&after, &before);
        prop_assert_eq!((&back.added, &back.removed), (&diff.removed, &diff.added));
        prop_assert_eq!((back.changed.len(), back.rebuilt), (diff.changed.len(), diff.rebuilt));
    }
}

#[test]
fn settings_hold_however_they_were_said() {
    let said = |line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        settings_among(&words).join(" ")
    };
    assert_eq!(said("--option cores 2 -L --option"), "--option cores 2");
    assert_eq!(said("--extra-substituters http://x -j 4"), "--option extra-substituters http://x");
    assert_eq!(said("--no-substitute"), "--option substitute false");
    assert_eq!(said("--require-sigs --refresh"), "--option require-sigs true");
    assert_eq!(said("--override-input nixpkgs path:/x --substitute"), "--option substitute true");
    assert_eq!(said("--substituters"), "");
}
