//! Names of packages: split as Nix splits them, outputs folded into their package.

use larder_formats::{StorePath, StorePathHash, package_name::PackageName};
use proptest::prelude::*;

fn split(text: &str) -> (&str, &str) {
    let PackageName { name, version } = PackageName::parse(text);
    (name, version)
}

/// What `builtins.parseDrvName` of Nix 2.8, 2.26 and 2.34 answers to each.
#[test]
fn names_are_split_where_nix_splits_them() {
    for (text, expected) in [
        ("bash-interactive-5.2p37", ("bash-interactive", "5.2p37")),
        ("nix-js-1.2.3pre4", ("nix-js", "1.2.3pre4")),
        ("hello", ("hello", "")),
        ("etc-os-release", ("etc-os-release", "")),
        ("python3.13-requests-2.32.3", ("python3.13-requests", "2.32.3")),
        ("glibc-2.40-66-bin", ("glibc", "2.40-66-bin")),
        ("source-", ("source-", "")),
        ("a--b", ("a", "-b")),
        ("x-_y", ("x", "_y")),
        ("nixos-system-pc-25.05.20250601.abcdef", ("nixos-system-pc", "25.05.20250601.abcdef")),
    ] {
        assert_eq!(split(text), expected, "{text}");
    }
}

#[test]
fn outputs_and_derivations_are_folded_into_their_package() {
    let of = |name: &str| {
        let path = StorePath::new(StorePathHash::from_bytes([7; 20]), name).unwrap();
        let PackageName { name, version } = PackageName::of(&path);
        (name.to_owned(), version.to_owned())
    };
    let expect = |name: &str, version: &str| (name.to_owned(), version.to_owned());
    for ending in ["", "-bin", "-dev", "-man", ".drv"] {
        assert_eq!(of(&format!("glibc-2.40-66{ending}")), expect("glibc", "2.40-66"));
    }
    assert_eq!(of("linux-6.12.1-modules"), expect("linux", "6.12.1"));
    assert_eq!(of("linux-6.12.1-modules-shrunk"), expect("linux", "6.12.1-modules-shrunk"));
    // Without a version there is nothing to tell an output's name by.
    assert_eq!(of("xorg-dev"), expect("xorg-dev", ""));
}

proptest! {
    #[test]
    fn nothing_of_a_name_is_lost(text in "[a-z0-9A-Z.+_?=-]{1,40}") {
        let (name, version) = split(&text);
        let whole = if version.is_empty() { name.to_owned() } else { format!("{name}-{version}") };
        prop_assert_eq!(whole, text);
    }
}
