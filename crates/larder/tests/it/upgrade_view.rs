//! What people read of an upgrade.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use larder::view::upgrade;
use larder_fleet::upgrade::plan::{
    Builds, Change, Changes, Downloads, FromCache, Package, PackageDiff, Partition, Plan, Reason,
    Reboot, Refused, Room, UnreachableCache,
};
use larder_formats::{StorePath, StorePathHash};

const MIB: u64 = 1024 * 1024;

fn path(n: u8, name: &str) -> StorePath {
    StorePath::new(StorePathHash::from_bytes([n; 20]), name).unwrap()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn diff() -> PackageDiff {
    let package =
        |name: &str, versions: &[&str]| Package { name: name.to_owned(), versions: set(versions) };
    PackageDiff {
        added: vec![package("ripgrep", &["14.1.1"]), package("unit-sshd.service", &[""])],
        removed: vec![package("python3", &["3.11.9", "3.12.4"])],
        changed: vec![Change {
            name: "linux".to_owned(),
            before: set(&["6.12.1"]),
            after: set(&["6.12.4"]),
        }],
        rebuilt: 211,
    }
}

/// An upgrade of a real size.
fn sample() -> Plan {
    let configuration = (0..24).map(|n| path(n, &format!("unit-{n}.service.drv"))).collect();
    Plan {
        running: Some(path(1, "nixos-system-pc-25.05")),
        downloads: Downloads {
            paths: 240,
            bytes: 812 * MIB,
            unpacked_bytes: 3200 * MIB,
            caches: vec![
                FromCache {
                    cache: "http://cache.lan:5000".to_owned(),
                    paths: 239,
                    bytes: 811 * MIB,
                },
                FromCache { cache: "https://cache.nixos.org".to_owned(), paths: 1, bytes: MIB },
            ],
            packages: diff(),
            ..Downloads::default()
        },
        builds: Builds {
            configuration,
            packages: [path(40, "hello-2.12.1.drv")].into(),
            sources: [path(41, "hello-2.12.1.tar.gz.drv")].into(),
        },
        ..Plan::default()
    }
}

fn refused(n: u8, name: &str, reason: Reason) -> Refused {
    Refused::new(path(n, name), reason)
}

#[test]
fn the_plan_before_a_build() {
    assert_snapshot!(upgrade::plan(&sample()));
    assert_eq!(upgrade::plan(&Plan::default()), "everything is there");
}

#[test]
fn the_new_system_against_the_running_one() {
    let changes =
        Changes { packages: diff(), closure_before: Some(9000 * MIB), closure_after: 8900 * MIB };
    let reboot = Some(Reboot { changed: vec!["kernel", "initrd", "kernel-modules"] });
    assert_snapshot!(upgrade::changes(&Plan { changes: Some(changes), reboot, ..sample() }));
}

#[test]
fn what_may_not_be_built_with_the_reasons_and_the_choices() {
    let caches = || vec!["http://cache.lan:5000".to_owned(), "https://cache.nixos.org".to_owned()];
    let cache = || "http://cache.lan:5000".to_owned();
    let unreachable = UnreachableCache {
        cache: cache(),
        message: "unable to download: Could not connect to server".to_owned(),
    };
    let absent = vec!["https://cache.nixos.org".to_owned()];
    assert_snapshot!(upgrade::refused(&[
        refused(1, "hello-2.12.1.drv", Reason::Absent { caches: caches() }),
        refused(2, "curl-8.10.0.drv", Reason::Unreachable { caches: vec![unreachable], absent }),
        refused(
            3,
            "jq-1.7.drv",
            Reason::Untrusted { cache: cache(), signers: vec!["x-1".to_owned()] }
        ),
        refused(4, "jo-1.9.drv", Reason::Untrusted { cache: cache(), signers: Vec::new() }),
        refused(5, "fd-10.2.drv", Reason::NotTaken { cache: cache() }),
        refused(6, "steam-1.0.drv", Reason::NotSubstitutable),
        refused(7, "floating.drv", Reason::OutputsUnknown),
        refused(8, "lonely-3.drv", Reason::NoCaches),
    ]));
    let lost = refused(9, "bash-5.2-man", Reason::Broken { cache: cache() });
    let said = ["error: unable to download: HTTP error 500".to_owned()];
    assert_snapshot!(upgrade::not_fetched(&[lost], &said));
}

#[test]
fn a_long_list_is_cut_short_and_all_are_allowed_at_once() {
    let absent = || Reason::Absent { caches: vec!["http://cache.lan:5000".to_owned()] };
    let many: Vec<Refused> =
        (0..50).map(|n| refused(n, &format!("package{n}-1.0.drv"), absent())).collect();
    let text = upgrade::refused(&many);
    assert!(text.starts_with("50 packages would have to be built here"), "{text}");
    assert!(text.contains("\n  and 30 more, which `--json` lists\n"), "{text}");
    assert!(text.contains("(`--allow-builds`, or `--allow-build NAME` for some)"), "{text}");
    assert_eq!(text.lines().count(), 24);
}

#[test]
fn partitions_that_are_too_small() {
    let room = |partition, folder: &str| Room {
        partition,
        folder: folder.into(),
        needed: 3300 * MIB,
        free: 1200 * MIB,
    };
    let room = vec![room(Partition::Store, "/nix/store"), room(Partition::Boot, "/boot")];
    assert_snapshot!(upgrade::short(&Plan { room, ..Plan::default() }));
}

#[test]
fn the_document_for_programs() {
    let mut plan = sample();
    plan.builds.configuration = [path(2, "etc.drv")].into();
    let changes = Changes { packages: diff(), closure_before: None, closure_after: 5 };
    plan.changes = Some(changes);
    let reason = Reason::Absent { caches: vec!["http://cache.lan:5000".to_owned()] };
    plan.refused = vec![refused(40, "hello-2.12.1.drv", reason)];
    plan.room = vec![Room::in_store("/nix/store".into(), 5, 6)];
    plan.reboot = Some(Reboot::default());
    assert_snapshot!(upgrade::json(&"pc".parse().unwrap(), Some(7), &plan));
}
