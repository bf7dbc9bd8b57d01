//! Store paths.

use larder_formats::store_path::{MAX_NAME_LEN, StorePathError};
use larder_formats::{StoreDir, StorePath, StorePathHash};
use proptest::prelude::*;

const HASH: &str = "13l9abgqb8jgqa9blpqbjy8mbzvr1x7q";

fn named(name: &str) -> Result<StorePath, StorePathError> {
    format!("{HASH}-{name}").parse()
}

/// Any name Nix allows.
pub(crate) fn names() -> impl Strategy<Value = String> {
    let names = "[A-Za-z0-9+._?=-]{1,40}";
    names.prop_filter("a name", |name| !matches!(name.split('-').next(), Some("." | "..")))
}

/// Any store path.
pub(crate) fn store_paths() -> impl Strategy<Value = StorePath> {
    let hashes = any::<[u8; 20]>().prop_map(StorePathHash::from_bytes);
    (hashes, names()).prop_map(|(hash, name)| StorePath::new(hash, &name).unwrap())
}

#[test]
fn a_full_path_is_read_and_written() {
    let store_dir = StoreDir::default();
    let full = format!("/nix/store/{HASH}-bash-5.2+a_b?=.drv");
    let path = store_dir.parse(&full).unwrap();
    assert_eq!(path.name(), "bash-5.2+a_b?=.drv");
    assert_eq!(path.hash().to_string(), HASH);
    assert!(path.is_derivation());
    assert_eq!(store_dir.display(&path), full);
    assert_eq!(serde_json::to_string(&path).unwrap(), format!("\"{HASH}-bash-5.2+a_b?=.drv\""));
}

#[test]
fn names_are_held_to_the_rules_of_nix() {
    for good in ["a", ".a", "...", "..a-b", "-", "=", "a.drv", &"x".repeat(MAX_NAME_LEN)] {
        assert!(named(good).is_ok(), "{good:?}");
    }
    let long = "x".repeat(MAX_NAME_LEN + 1);
    for bad in ["", ".", "..", ".-a", "..-a", "a/b", "a b", "a\0", "a\n", "ü", "a%b", &long] {
        assert!(matches!(named(bad), Err(StorePathError::Name(_))), "{bad:?}");
    }
}

#[test]
fn what_is_no_store_path_is_refused_with_the_reason() {
    let parse = |text: &str| StoreDir::default().parse(text).unwrap_err();
    let full = format!("/nix/store/{HASH}-a");
    assert!(matches!(parse("/nix/store"), StorePathError::OutsideStore { .. }));
    assert!(matches!(parse("/nix/store/"), StorePathError::NoHash(_)));
    assert!(matches!(parse("/nix/stores/x"), StorePathError::OutsideStore { .. }));
    assert!(matches!(parse(&format!("{full}/bin")), StorePathError::BelowStorePath(_)));
    assert!(matches!(parse(&format!("/nix/store/{HASH}")), StorePathError::NoHash(_)));
    assert!(matches!(parse(&format!("/nix/store/{HASH}a")), StorePathError::NoHash(_)));
    assert!(matches!(
        parse(&format!("/nix/store/{}-a", HASH.replace('l', "e"))),
        StorePathError::Hash { .. }
    ));
    // A character of more than one byte across the place where the hash ends.
    assert!(matches!(parse(&format!("/nix/store/{}ü-a", &HASH[1..])), StorePathError::NoHash(_)));
}

#[test]
fn a_store_folder_is_absolute_and_normalized() {
    for good in ["/nix/store", "/s", "/home/a b/store"] {
        assert_eq!(StoreDir::new(good).unwrap().as_str(), good);
    }
    for bad in ["", "/", "nix/store", "/nix/store/", "/nix//store", "/nix/../store", "/a\nb"] {
        assert!(StoreDir::new(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn store_paths_round_trip(path in store_paths()) {
        let store_dir = StoreDir::default();
        prop_assert_eq!(path.to_string().parse::<StorePath>().unwrap(), path.clone());
        prop_assert_eq!(store_dir.parse(&store_dir.display(&path)).unwrap(), path);
    }

    #[test]
    fn store_paths_have_the_order_of_their_texts(a in store_paths(), b in store_paths()) {
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        let same_hash = StorePath::new(a.hash(), b.name()).unwrap();
        prop_assert_eq!(a.cmp(&same_hash), a.to_string().cmp(&same_hash.to_string()));
    }
}
