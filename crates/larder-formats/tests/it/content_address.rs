//! Content addresses; that they make the right paths is tested on golden files.

use std::collections::BTreeSet;

use larder_formats::StoreDir;
use larder_formats::content_address::ContentAddress;

const NIX32: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

#[test]
fn every_form_of_nix_is_read_and_kept_as_it_is() {
    for text in [
        format!("text:sha256:{NIX32}"),
        format!("fixed:sha256:{NIX32}"),
        format!("fixed:r:sha256:{NIX32}"),
        format!("fixed:git:sha256:{NIX32}"),
        format!("fixed:r:blake3:{NIX32}"),
        "fixed:md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        "fixed:git:sha1:2jmj7l5rSw0yVb/vlWAYkK/YBwk=".to_owned(),
        format!("fixed:r:sha512:{}", "0".repeat(103)),
    ] {
        let parsed: ContentAddress = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(parsed.to_string(), text);
    }
}

#[test]
fn other_texts_are_refused() {
    for text in [
        "",
        "text:",
        "fixed:",
        &format!("text:sha512:{}", "0".repeat(103)),
        &format!("text:r:sha256:{NIX32}"),
        &format!("fixed:x:sha256:{NIX32}"),
        &format!("fixed:r:git:sha256:{NIX32}"),
        &format!("fixed:sha1:{NIX32}"),
        &format!("fixed:sha256:{}", &NIX32[1..]),
        &format!("fixed:sha256:{NIX32}\n"),
        &format!("fixed:sha256:{}", "ü".repeat(26)),
    ] {
        assert!(text.parse::<ContentAddress>().is_err(), "{text:?}");
    }
}

#[test]
fn a_flat_file_and_a_text_have_no_path_with_references_they_cannot_have() {
    let store_dir = StoreDir::default();
    let other = "13l9abgqb8jgqa9blpqbjy8mbzvr1x7q-a".parse().unwrap();
    let flat: ContentAddress = format!("fixed:sha256:{NIX32}").parse().unwrap();
    let text: ContentAddress = format!("text:sha256:{NIX32}").parse().unwrap();
    let (none, one) = (BTreeSet::new(), BTreeSet::from([other]));
    assert!(flat.store_path(&store_dir, "a", &none, false).is_some());
    assert!(flat.store_path(&store_dir, "a", &one, false).is_none());
    assert!(flat.store_path(&store_dir, "a", &none, true).is_none());
    assert!(text.store_path(&store_dir, "a", &one, false).is_some());
    assert!(text.store_path(&store_dir, "a", &one, true).is_none());
}
