//! The parsers of what a client may send, on values from all over their domains.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use larder_formats::{
    hash::Sha256,
    store_path::{StorePath, StorePathHash},
};
use larder_web::request::{
    encoding::accepts_zstd,
    id::RequestId,
    info_file::{InfoFile, LogName},
    inner_path::InnerPath,
    nar_name::NarName,
    range::{self, Unsatisfiable},
    realisation_file,
    revision_file::RevisionFile,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::{collection::vec, prelude::*, sample::select};

const ETAG: &str = "\"e\"";

fn ask(
    range: &str,
    if_range: Option<&[u8]>,
) -> Result<Option<std::ops::Range<u64>>, Unsatisfiable> {
    range::requested(Some(range.as_bytes()), if_range, 100, ETAG)
}

fn hash() -> impl Strategy<Value = StorePathHash> {
    any::<[u8; 20]>().prop_map(StorePathHash::from_bytes)
}

fn nar_hash() -> impl Strategy<Value = Sha256> {
    any::<[u8; 32]>().prop_map(Sha256::from_bytes)
}

/// Names that a file may have: any bytes but `/` and NUL.
fn file_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("not in a name", |byte| !matches!(byte, b'/' | 0));
    vec(byte, 1..9).prop_filter("not a file", |name| !matches!(name.as_slice(), b"." | b".."))
}

#[test]
fn one_range_of_bytes_is_understood_in_its_three_forms() {
    assert_eq!(ask("bytes=10-", None), Ok(Some(10..100)));
    assert_eq!(ask("bytes=10-19", None), Ok(Some(10..20)));
    assert_eq!(ask("bytes=90-500", None), Ok(Some(90..100)));
    assert_eq!(ask("bytes=-7", None), Ok(Some(93..100)));
    assert_eq!(ask("bytes=-700", None), Ok(Some(0..100)));
}

#[test]
fn what_is_not_one_range_of_bytes_gets_the_whole() {
    for odd in [
        "bytes=1-2,4-5",
        "bytes=5-1",
        "bytes=+1-",
        "bytes=a-",
        "lines=1-",
        "bytes=",
        "bytes=-",
        "",
        "bytes=99999999999999999999-",
    ] {
        assert_eq!(ask(odd, None), Ok(None), "{odd}");
    }
    assert_eq!(range::requested(None, None, 100, ETAG), Ok(None));
}

#[test]
fn a_range_without_a_byte_is_refused() {
    for behind in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
        assert_eq!(ask(behind, None), Err(Unsatisfiable), "{behind}");
    }
    assert_eq!(range::requested(Some(b"bytes=0-"), None, 0, ETAG), Err(Unsatisfiable));
}

#[test]
fn the_last_bytes_of_nothing_are_the_whole() {
    assert_eq!(range::requested(Some(b"bytes=-7"), None, 0, ETAG), Ok(None));
}

#[test]
fn a_range_of_anything_but_these_bytes_gets_the_whole() {
    assert_eq!(ask("bytes=10-", Some(ETAG.as_bytes())), Ok(Some(10..100)));
    for other in [
        b"\"other\"".as_slice(),
        b"W/\"e\"",
        b"",
        b"\xff",
        b"\"e\xff\"",
        b"Sat, 01 Jan 2000 00:00:00 GMT",
    ] {
        assert_eq!(ask("bytes=10-", Some(other)), Ok(None), "{}", other.escape_ascii());
    }
}

#[test]
fn zstd_is_accepted_by_its_name_and_a_weight() {
    for willing in ["zstd", "br,zstd", "gzip, ZSTD ;q=0.001", "zstd;q=1", "zstd;q=0, zstd;q=1"] {
        assert!(accepts_zstd(willing.as_bytes()), "{willing}");
    }
    for unwilling in ["", "gzip", "zstdx", "*", "zstd;q=0", "zstd; Q=0.000", "xzstd, zst"] {
        assert!(!accepts_zstd(unwilling.as_bytes()), "{unwilling}");
    }
}

#[test]
fn a_name_that_says_twice_which_path_it_means_means_none() {
    let (path, nar) = (StorePathHash::from_bytes([1; 20]), Sha256::of(b"").to_nix32());
    let file = format!("{nar}.nar");
    assert!(NarName::parse(&file, Some(&format!("x=1&hash={path}"))).is_some());
    assert_eq!(NarName::parse(&file, Some(&format!("hash={path}&hash={path}"))), None);
}

#[test]
fn places_that_no_file_can_have_are_refused() {
    let hash = StorePathHash::from_bytes([1; 20]);
    for odd in [
        "..", "a/..", "%2e%2e", ".%2e/x", ".", "a/./b", "a//b", "/", "/a", "a//", "a%2fb", "%2f",
        "a%00", "%00", "../",
    ] {
        assert_eq!(InnerPath::parse(&format!("{hash}/{odd}")), None, "{odd}");
    }
    for odd in ["", "/", "x", "/a", &format!("/{hash}/a"), &format!("{hash}a/b")] {
        assert_eq!(InnerPath::parse(odd), None, "{odd}");
    }
}

proptest! {
    #[test]
    fn a_chosen_part_is_never_empty_and_lies_within(
        size in prop_oneof![0..20u64, any::<u64>()],
        first in prop_oneof![0..30u64, any::<u64>()],
        last in prop_oneof![0..30u64, any::<u64>()],
        form in 0..3,
    ) {
        let value = match form {
            0 => format!("bytes={first}-"),
            1 => format!("bytes={first}-{last}"),
            _ => format!("bytes=-{last}"),
        };
        if let Ok(Some(part)) = range::requested(Some(value.as_bytes()), None, size, ETAG) {
            prop_assert!(part.start < part.end && part.end <= size, "{value} of {size}: {part:?}");
        }
    }

    #[test]
    fn every_style_of_a_nar_names_the_same_one(path in hash(), nar in nar_hash()) {
        let (exact, nar) = (NarName { path, nar_hash: Some(nar) }, nar.to_nix32());
        let parameter = format!("hash={path}");
        prop_assert_eq!(NarName::parse(&format!("{nar}.nar"), Some(&parameter)), Some(exact));
        prop_assert_eq!(NarName::parse(&format!("{path}-{nar}.nar"), None), Some(exact));
        let any = NarName { path, nar_hash: None };
        prop_assert_eq!(NarName::parse(&format!("{path}.nar"), None), Some(any));
        prop_assert_eq!(NarName::parse(&format!("{nar}.nar"), None), None);
    }

    #[test]
    fn every_file_can_be_named_by_its_escaped_names(
        hash in hash(), names in vec(file_name(), 0..5), folder: bool,
    ) {
        let mut address = hash.to_string();
        for name in &names {
            address = format!("{address}/{}", percent_encode(name, NON_ALPHANUMERIC));
        }
        address.push_str(if folder { "/" } else { "" });
        let names = names.into_iter().map(OsString::from_vec).collect();
        prop_assert_eq!(InnerPath::parse(&address), Some(InnerPath { hash, names, folder }));
    }

    #[test]
    fn no_address_leads_to_a_name_that_is_none(
        hash in hash(),
        pieces in vec(select(&["..", ".", "/", "%2f", "%2e", "%00", "%", "a", "%ff", "ä"][..]), 0..9),
    ) {
        if let Some(place) = InnerPath::parse(&format!("{hash}/{}", pieces.concat())) {
            for name in place.names {
                let name = name.into_vec();
                prop_assert!(!matches!(name.as_slice(), b"" | b"." | b".."));
                prop_assert!(!name.contains(&b'/') && !name.contains(&0));
            }
        }
    }

    #[test]
    fn what_is_about_a_path_is_named_by_its_hash(hash in hash(), value in "[a-z=]{0,3}") {
        let narinfo = format!("{hash}.narinfo");
        prop_assert_eq!(InfoFile::parse(&narinfo, None), Some(InfoFile::Narinfo(hash)));
        let query = format!("x&json={value}");
        let as_json = Some(InfoFile::NarinfoAsJson(hash));
        prop_assert_eq!(InfoFile::parse(&narinfo, Some(&query)), as_json);
        let listing = Some(InfoFile::Listing(hash));
        prop_assert_eq!(InfoFile::parse(&format!("{hash}.ls"), Some(&query)), listing);
        prop_assert_eq!(InfoFile::parse(&format!("{hash}.x{value}"), None), None);
        prop_assert_eq!(LogName::parse(&hash.to_string()), Some(LogName::Hash(hash)));
        let output = format!("{hash}-name-1.0");
        prop_assert_eq!(LogName::parse(&output), Some(LogName::Hash(hash)));
        let derivation: StorePath = format!("{output}.drv").parse().unwrap();
        let named = LogName::parse(&derivation.to_string());
        prop_assert_eq!(named, Some(LogName::Derivation(derivation)));
    }

    #[test]
    fn realisations_are_named_by_hash_and_by_path(
        hash in hash(), modulo in nar_hash(), output in "[a-z][a-z0-9_+-]{0,9}",
    ) {
        let by_hash = format!("sha256:{}!{output}", modulo.to_base16());
        let key = realisation_file::by_hash(&format!("{by_hash}.doi"));
        prop_assert_eq!(key.map(|key| key.to_string()), Some(by_hash));
        let (derivation, file) = (format!("{hash}-name.drv"), format!("{output}.doi"));
        let key = realisation_file::by_path(&derivation, &file);
        prop_assert_eq!(key.map(|key| key.to_string()), Some(format!("{derivation}^{output}")));
        prop_assert_eq!(realisation_file::by_path(&derivation, &output), None);
    }

    #[test]
    fn a_hosts_files_are_named_by_the_host(host in "[a-z0-9_+@][a-z0-9_+@.-]{0,20}") {
        let named = |ending| match RevisionFile::parse(&format!("{host}.{ending}")) {
            Some(RevisionFile::Sealed(host)) => Some(("json", host.as_str().to_owned())),
            Some(RevisionFile::Nixpkgs(host)) => Some(("rev", host.as_str().to_owned())),
            None => None,
        };
        prop_assert_eq!(named("json"), Some(("json", host.clone())));
        prop_assert_eq!(named("rev"), Some(("rev", host.clone())));
        prop_assert_eq!(named("txt"), None);
    }

    #[test]
    fn what_a_request_may_be_called_can_stand_in_a_header(id in "[!-~]{0,140}|[a-zA-Z0-9._-]{0,140}") {
        let plain = id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let parsed = RequestId::parse(id.as_bytes());
        prop_assert_eq!(parsed.is_some(), plain && (1..=128).contains(&id.len()));
        if let Some(parsed) = parsed {
            prop_assert_eq!(parsed.into_header(), id.as_str());
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, size: u64) {
        let _ = range::requested(Some(&bytes), None, size, ETAG);
        let _ = accepts_zstd(&bytes);
        let _ = RequestId::parse(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = InnerPath::parse(&text);
        let _ = NarName::parse(&format!("{text}.nar"), Some(&text));
        let _ = InfoFile::parse(&text, Some(&text));
        let _ = LogName::parse(&text);
        let _ = realisation_file::by_hash(&format!("{text}.doi"));
        let _ = realisation_file::by_path(&text, &format!("{text}.doi"));
        let _ = RevisionFile::parse(&format!("{text}.rev"));
    }
}
