//! `nix-cache-info`.

use larder_formats::StoreDir;
use larder_formats::cache_info::{CacheInfo, CacheInfoError};

use crate::golden;

#[test]
fn a_cache_that_says_no_priority_is_asked_first() {
    let info = CacheInfo::parse(&golden::text("all/nix-cache-info")).unwrap();
    let expected =
        CacheInfo { store_dir: StoreDir::default(), want_mass_query: false, priority: 0 };
    assert_eq!(info, expected);
}

#[test]
fn what_is_written_is_what_nix_reads() {
    let info = CacheInfo {
        store_dir: StoreDir::new("/gnu/store").unwrap(),
        want_mass_query: true,
        priority: 30,
    };
    insta::assert_snapshot!(info.to_text(), @r"
    StoreDir: /gnu/store
    WantMassQuery: 1
    Priority: 30
    ");
    assert_eq!(CacheInfo::parse(&info.to_text()).unwrap(), info);
}

#[test]
fn unknown_keys_odd_spaces_and_senseless_priorities_are_passed_over() {
    let text = "Colour: blue\r\nPriority:  41 \r\nWantMassQuery: yes\nPriority: -3\n\n";
    let info = CacheInfo::parse(text).unwrap();
    assert_eq!((info.priority, info.want_mass_query), (41, false));
}

#[test]
fn a_web_page_is_no_cache_info() {
    let error = CacheInfo::parse("<!doctype html>\n<title>Hello</title>\n").unwrap_err();
    assert_eq!(error, CacheInfoError::NoColon { line: 1 });
    assert!(matches!(CacheInfo::parse("StoreDir: nix"), Err(CacheInfoError::StoreDir(_))));
}
