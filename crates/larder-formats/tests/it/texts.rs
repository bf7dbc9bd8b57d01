//! Base 32 and hashes.

use larder_formats::Sha256;
use larder_formats::hash::{HashError, Sha256Hasher};
use larder_formats::nix32::{self, Nix32Error};
use proptest::prelude::*;

/// SHA-256 of nothing, in Nix's three bases (`nix hash convert`; the first is in FIPS 180's examples).
const EMPTY_BASE16: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const EMPTY_NIX32: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
const EMPTY_SRI: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

#[test]
fn one_hash_is_read_in_every_spelling() {
    let hash = Sha256::of(b"");
    for text in [
        format!("sha256:{EMPTY_BASE16}"),
        format!("sha256:{}", EMPTY_BASE16.to_uppercase()),
        format!("sha256:{EMPTY_NIX32}"),
        format!("sha256:{}", &EMPTY_SRI[7..]),
        EMPTY_SRI.to_owned(),
    ] {
        assert_eq!(text.parse(), Ok(hash), "{text}");
    }
    assert_eq!(hash.to_string(), format!("sha256:{EMPTY_NIX32}"));
    assert_eq!(hash.to_nix32(), EMPTY_NIX32);
    assert_eq!(hash.to_base16(), EMPTY_BASE16);
    assert_eq!(hash.to_sri(), EMPTY_SRI);
}

#[test]
fn hashes_of_other_algorithms_and_lengths_are_refused() {
    let algorithm = |text: &str| matches!(text.parse::<Sha256>(), Err(HashError::Algorithm(_)));
    let digits = |text: &str| matches!(text.parse::<Sha256>(), Err(HashError::Digits(_)));
    assert!(algorithm(""));
    assert!(algorithm(EMPTY_BASE16));
    assert!(algorithm("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709"));
    assert!(digits("sha256:"));
    assert!(digits(&format!("sha256:{}", &EMPTY_BASE16[1..])));
    assert!(digits(&format!("sha256-{EMPTY_BASE16}")));
    assert!(digits(&format!("sha256:{}", "ü".repeat(26))));
    assert!(digits(&format!("sha256:{}", "ü".repeat(32))));
}

#[test]
fn hashing_in_pieces_is_hashing_the_whole() {
    let mut hasher = Sha256Hasher::new();
    hasher.update(b"ab");
    hasher.update(b"");
    hasher.update(b"c");
    assert_eq!(hasher.finish(), Sha256::of(b"abc"));
}

#[test]
fn base_32_that_nix_would_not_write_is_refused() {
    assert_eq!(nix32::decode("").unwrap(), b"");
    assert_eq!(nix32::decode("7z").unwrap(), [255]);
    assert_eq!(nix32::decode("8z"), Err(Nix32Error::SpillBits));
    assert_eq!(nix32::decode("z"), Err(Nix32Error::Length(1)));
    for (text, character) in [("e0", 'e'), ("0A", 'A'), ("0\u{fc}", 'ü'), ("e", 'e')] {
        let found = nix32::decode(text);
        assert!(
            matches!(found, Err(Nix32Error::Character { character: c, .. }) if c == character),
            "{text}"
        );
    }
    assert_eq!(
        nix32::decode_array::<20>("00"),
        Err(Nix32Error::WrongLength { expected: 32, found: 2 })
    );
}

proptest! {
    #[test]
    fn base_32_round_trips(bytes: Vec<u8>) {
        let text = nix32::encode(&bytes);
        prop_assert_eq!(text.len(), nix32::encoded_len(bytes.len()));
        prop_assert_eq!(nix32::decode(&text), Ok(bytes));
    }

    #[test]
    fn what_decodes_from_base_32_encodes_to_the_same_text(text in "[0-9a-df-np-sv-z]{0,60}") {
        if let Ok(bytes) = nix32::decode(&text) {
            prop_assert_eq!(nix32::encode(&bytes), text);
        }
    }

    #[test]
    fn hashes_round_trip_in_every_base(bytes: [u8; 32]) {
        let hash = Sha256::from_bytes(bytes);
        prop_assert_eq!(hash.to_string().parse(), Ok(hash));
        prop_assert_eq!(hash.to_sri().parse(), Ok(hash));
        prop_assert_eq!(format!("sha256:{}", hash.to_base16()).parse(), Ok(hash));
        prop_assert_eq!(Sha256::parse_nix32(&hash.to_nix32()), Ok(hash));
    }
}
