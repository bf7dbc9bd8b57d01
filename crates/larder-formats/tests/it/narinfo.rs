//! Narinfos beyond the golden ones.

use larder_formats::narinfo::{Compression, NarInfoError};
use larder_formats::signature::SecretKey;
use larder_formats::{NarInfo, Sha256, StoreDir};
use proptest::prelude::*;

use crate::store_path::store_paths;

const PATH: &str = "/nix/store/13l9abgqb8jgqa9blpqbjy8mbzvr1x7q-golden-app-1.0";
const OTHER: &str = "5wm7nawbq4fbri424w887l1xqyyxgfpg-golden-base";
const HASH: &str = "sha256:01kg29xw488zr77jcr91i2sb1sjiczyk479gs4vrdn65026dljxn";

fn parse(text: &str) -> Result<NarInfo, NarInfoError> {
    NarInfo::parse(text, &StoreDir::default())
}

/// The least a narinfo must say, and the lines given.
fn minimal(more: &str) -> String {
    format!("StorePath: {PATH}\nURL: nar/x.nar\nNarHash: {HASH}\nNarSize: 600\n{more}")
}

#[test]
fn a_narinfo_without_compression_means_bzip2() {
    assert_eq!(parse(&minimal("")).unwrap().compression, Compression::Bzip2);
    assert_eq!(parse(&minimal("Compression: \n")).unwrap().compression, Compression::Bzip2);
    let none = parse(&minimal("Compression: none\n")).unwrap();
    assert_eq!(none.compression, Compression::None);
}

#[test]
fn fields_may_come_in_any_order() {
    let text = minimal(&format!("References: {OTHER}\nDeriver: {OTHER}.drv\n"));
    let mut lines: Vec<_> = text.lines().collect();
    lines.reverse();
    let reversed = lines.join("\n") + "\n";
    assert_eq!(parse(&reversed).unwrap(), parse(&text).unwrap());
}

#[test]
fn required_fields_are_required() {
    for field in ["StorePath", "URL", "NarHash", "NarSize"] {
        let without: String = minimal("")
            .lines()
            .filter(|l| !l.starts_with(field))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(parse(&without), Err(NarInfoError::Missing(field)));
    }
    assert_eq!(parse(""), Err(NarInfoError::Missing("StorePath")));
    let zero = minimal("").replace("NarSize: 600", "NarSize: 0");
    assert_eq!(parse(&zero), Err(NarInfoError::Missing("NarSize")));
    let empty = minimal("").replace("nar/x.nar", "");
    assert_eq!(parse(&empty), Err(NarInfoError::Missing("URL")));
}

#[test]
fn a_second_value_is_an_error_but_an_empty_one_is_none() {
    let twice = |line: &str| parse(&minimal(&format!("{line}\n{line}\n")));
    let ca = format!("CA: fixed:r:{HASH}");
    for line in [
        &format!("References: {OTHER}"),
        &ca,
        "Compression: xz",
        "Deriver: unknown-deriver",
        "FileSize: 4",
        &format!("FileHash: {HASH}"),
    ] {
        assert!(matches!(twice(line), Err(NarInfoError::Duplicate { line: 6, .. })), "{line}");
    }
    for line in ["StorePath: /nix/store/x", "NarSize: 601"] {
        assert!(parse(&minimal(&format!("{line}\n"))).is_err(), "{line}");
    }
    let both = parse(&minimal(&format!("References: \nReferences: {OTHER}\nCA: \n"))).unwrap();
    assert_eq!(both.references.len(), 1);
    assert_eq!(both.ca, None);
}

#[test]
fn unknown_keys_and_an_unknown_deriver_are_passed_over() {
    let info = parse(&minimal("System: x86_64-linux\nDeriver: unknown-deriver\n")).unwrap();
    assert_eq!(info.deriver, None);
}

#[test]
fn a_signature_no_key_could_have_made_is_left_out() {
    let good = SecretKey::from_seed("a", [1; 32]).unwrap().sign(b"");
    let info = parse(&minimal(&format!("Sig: nonsense\nSig: {good}\nSig: a:b\n"))).unwrap();
    assert_eq!(info.signatures.into_iter().collect::<Vec<_>>(), [good]);
}

#[test]
fn a_narinfo_that_was_cut_off_is_refused() {
    let text = minimal("");
    for end in 1..text.len() {
        assert!(parse(&text[..end]).is_err(), "{:?}", &text[..end]);
    }
}

#[test]
fn values_that_mean_something_else_to_others_are_refused() {
    for (line, with) in [
        ("NarSize: 600", "NarSize: +600"),
        ("NarSize: 600", "NarSize: 18446744073709551616"),
        ("NarSize: 600", "NarSize: -1"),
        ("NarSize: 600", "NarSize:600"),
        ("URL: nar/x.nar", "URL: nar/x.nar\r"),
        ("URL: nar/x.nar", "URL: nar/x y.nar"),
        (PATH, "/nix/store/../etc/passwd"),
        (PATH, "/other/store/13l9abgqb8jgqa9blpqbjy8mbzvr1x7q-a"),
    ] {
        let text = minimal("").replace(line, with);
        assert!(parse(&text).is_err(), "{with}");
    }
    for line in ["Compression: rar", "References: a", "Deriver: a", "CA: a", "no colon", ""] {
        assert!(parse(&minimal(&format!("{line}\n"))).is_err(), "{line:?}");
    }
}

#[test]
fn an_altered_narinfo_is_not_trusted() {
    let (store_dir, key) = (StoreDir::default(), SecretKey::from_seed("a", [1; 32]).unwrap());
    let mut info = parse(&minimal("")).unwrap();
    info.sign_with(&store_dir, &key);
    let keys = [key.public()];
    assert!(info.is_trusted_by(&store_dir, &keys));
    assert!(!info.is_trusted_by(&store_dir, &[]));
    let other_store = StoreDir::new("/other/store").unwrap();
    assert!(!info.is_trusted_by(&other_store, &keys));
    let larger = NarInfo { nar_size: 601, ..info.clone() };
    assert!(!larger.is_trusted_by(&store_dir, &keys));
    let fewer = NarInfo { references: [OTHER.parse().unwrap()].into(), ..info.clone() };
    assert!(!fewer.is_trusted_by(&store_dir, &keys));
}

#[test]
fn a_content_address_that_does_not_make_the_path_is_no_ground_for_trust() {
    let info = parse(&minimal(&format!("CA: fixed:r:{HASH}\n"))).unwrap();
    assert!(!info.is_content_addressed(&StoreDir::default()));
    assert!(!info.is_trusted_by(&StoreDir::default(), &[]));
}

fn narinfos() -> impl Strategy<Value = NarInfo> {
    let compressions = prop_oneof![
        Just(Compression::None),
        Just(Compression::Xz),
        Just(Compression::Bzip2),
        Just(Compression::Gzip),
        Just(Compression::Zstd),
        Just(Compression::Br),
        Just(Compression::Lz4),
        Just(Compression::Lzip),
    ];
    let file = (compressions, any::<Option<[u8; 32]>>(), any::<Option<u64>>(), "[a-z/.?=:]{1,30}");
    let nar = (store_paths(), any::<[u8; 32]>(), 1..u64::MAX);
    let references = proptest::collection::btree_set(store_paths(), 0..5);
    let rest = (references, proptest::option::of(store_paths()), 0..3_usize);
    (file, nar, rest).prop_map(|(file, nar, (references, deriver, signatures))| {
        let mut info = NarInfo {
            store_path: nar.0,
            url: file.3,
            compression: file.0,
            file_hash: file.1.map(Sha256::from_bytes),
            file_size: file.2,
            nar_hash: Sha256::from_bytes(nar.1),
            nar_size: nar.2,
            references,
            deriver,
            signatures: [].into(),
            ca: (signatures == 1).then(|| format!("fixed:r:{HASH}").parse().unwrap()),
        };
        for key in 0..signatures {
            let key = SecretKey::from_seed(&format!("key-{key}"), [7; 32]).unwrap();
            info.sign_with(&StoreDir::default(), &key);
        }
        info
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn narinfos_round_trip(info in narinfos()) {
        let text = info.to_text(&StoreDir::default());
        prop_assert_eq!(parse(&text).unwrap(), info);
    }
}
