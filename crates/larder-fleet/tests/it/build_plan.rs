//! What Nix answers to `--dry-run` is understood in all three versions' words
//! (`tests/golden/make.sh` made the texts).

use std::collections::BTreeSet;

use larder_fleet::night::BuildPlan;
use larder_formats::store_path::{StoreDir, StorePath};

const VERSIONS: [&str; 3] = ["2.8", "2.26", "2.34"];
const MIB: u64 = 1024 * 1024;

const APP: &str = "k63bip8dizggwg3vabbx2gjww2mgg35i-app-1.0";
const BIG: &str = "fjdkqd5yv1ph3c7s2h7ds17jw0f3i1kk-big-2.0";
const LIBRARY: &str = "v57yg7d9v2fnsxryxiqi4sa3qf8rnlaw-library-1.0";
const APP_DRV: &str = "zcayi2y3x0zi9icgiqnrng2f6ljfp4qa-app-1.0.drv";
const BIG_DRV: &str = "4wbpkfi7qc8kv35s1i909974hwv8wslf-big-2.0.drv";
const HALF_DRV: &str = "j1kfhdy46cmvfbjzwns9s7axia8ng46k-half-1.0.drv";
const LIBRARY_DRV: &str = "n8q8xhrrgzi7awyrab7y6vr3xh56wl3f-library-1.0.drv";

fn golden(version: &str, name: &str) -> BuildPlan {
    let file = format!("{}/tests/golden/{version}/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    BuildPlan::parse(&text, &StoreDir::default())
}

fn paths(names: &[&str]) -> BTreeSet<StorePath> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn one_and_several_derivations_to_build_are_read() {
    for version in VERSIONS {
        let one = BuildPlan { build: paths(&[LIBRARY_DRV]), ..BuildPlan::default() };
        assert_eq!(golden(version, "one-to-build"), one, "{version}");
        let three = paths(&[APP_DRV, BIG_DRV, LIBRARY_DRV]);
        assert_eq!(golden(version, "three-to-build").build, three, "{version}");
    }
}

#[test]
fn downloads_are_read_with_their_sizes_whatever_the_unit() {
    for version in VERSIONS {
        let plan = golden(version, "three-to-fetch");
        assert_eq!(plan.fetch, paths(&[APP, BIG, LIBRARY]), "{version}");
        assert!(plan.build.is_empty(), "{version}");
        assert_eq!((plan.download_bytes, plan.unpacked_bytes), (2 * MIB, 2 * MIB), "{version}");
    }
    // 2.34 alone chooses the unit by the size.
    assert_eq!(golden("2.34", "one-of-each").download_bytes, 102);
}

#[test]
fn builds_and_downloads_of_one_answer_are_told_apart() {
    for version in VERSIONS {
        let plan = golden(version, "one-of-each");
        assert_eq!(plan.build, paths(&[HALF_DRV]), "{version}");
        assert_eq!(plan.fetch, paths(&[LIBRARY]), "{version}");
    }
}

#[test]
fn what_is_there_already_is_an_empty_plan() {
    for version in VERSIONS {
        assert!(golden(version, "nothing").is_empty(), "{version}");
    }
}

#[test]
fn paths_that_nobody_can_make_are_read() {
    for version in VERSIONS {
        let plan = golden(version, "unknown");
        assert_eq!(plan.unknown, paths(&["00000000000000000000000000000000-gone"]), "{version}");
        assert!(!plan.is_empty());
    }
}

#[test]
fn warnings_between_the_lists_and_paths_of_other_stores_are_passed_over() {
    let text = format!(
        "warning: ignoring an option:\n  /nix/store/{LIBRARY}\nthis derivation will be built:\n  \
         /nix/store/{APP_DRV}\nwarning: something\n  /nix/store/{BIG_DRV}\nthese 2 paths will be \
         fetched (1.50 GiB download, 3.00 TiB unpacked):\n  /gnu/store/{APP}\n"
    );
    let plan = BuildPlan::parse(&text, &StoreDir::default());
    assert_eq!(plan.build, paths(&[APP_DRV]));
    assert!(plan.fetch.is_empty() && plan.unknown.is_empty(), "{plan:?}");
    assert_eq!(plan.download_bytes, 1536 * MIB);
    assert_eq!(plan.unpacked_bytes, 3 * MIB * MIB);
}
