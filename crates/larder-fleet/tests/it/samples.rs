//! A revision and its key, to be changed by tests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use larder_fleet::revision::Revision;
use larder_formats::{hash::Sha256Hasher, lock_file::LockedInput, signature::SecretKey};

/// The fleet's key of these tests.
pub(crate) fn fleet_key() -> SecretKey {
    SecretKey::from_seed("fleet-1", [7; 32]).unwrap()
}

/// A time, by its RFC 3339 text.
pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A revision of the host `pc` that expires a month after its time.
pub(crate) fn revision() -> Revision {
    let mut hasher = Sha256Hasher::new();
    hasher.update(b"a system");
    let nar_hash = hasher.finish();
    let nixpkgs = LockedInput {
        node: "nixpkgs".to_owned(),
        rev: Some("a".repeat(40)),
        nar_hash: Some(nar_hash),
        last_modified: Some(1_700_000_000),
        kind: "github".to_owned(),
        description: "github:NixOS/nixpkgs".to_owned(),
    };
    Revision {
        format: Revision::current_format(),
        number: 12,
        host: "pc".parse().unwrap(),
        system: "x86_64-linux".to_owned(),
        time: time("2026-01-01T03:00:00Z"),
        expires: time("2026-02-01T03:00:00Z"),
        flake: "/etc/nixos".to_owned(),
        commit: Some("b".repeat(40)),
        nixpkgs: nixpkgs.rev.clone(),
        inputs: BTreeMap::from([("nixpkgs".to_owned(), nixpkgs)]),
        lock: "{}".to_owned(),
        sources: vec![path("source")],
        store_dir: "/nix/store".to_owned(),
        store_path: path("nixos-system-pc"),
        nar_hash,
        closure_size: 4096,
    }
}

/// A store path with this name.
pub(crate) fn path(name: &str) -> larder_formats::store_path::StorePath {
    format!("{}-{name}", "0".repeat(32)).parse().unwrap()
}
