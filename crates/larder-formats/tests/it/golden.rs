//! The bytes that three versions of Nix made (`tests/golden/README.md` says how).

use larder_formats::nar::{Decoder, Event, Listing, ListingBuilder};
use larder_formats::signature::{PublicKey, SecretKey};
use larder_formats::{NarInfo, Sha256, StoreDir};

/// The versions the golden files come from.
pub(crate) const VERSIONS: [&str; 3] = ["2.8", "2.26", "2.34"];

const NARINFOS: [&str; 8] = [
    "app.narinfo",
    "drv.narinfo",
    "flat-sha1.narinfo",
    "flat.narinfo",
    "recursive-sha512.narinfo",
    "text.narinfo",
    "tree.narinfo",
    "unsigned.narinfo",
];

/// The bytes of a golden file.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text of a golden file.
pub(crate) fn text(name: &str) -> String {
    String::from_utf8(bytes(name)).unwrap()
}

fn narinfo(name: &str) -> NarInfo {
    NarInfo::parse(&text(&format!("all/{name}")), &StoreDir::default()).unwrap()
}

fn listing_of(nar: &[u8]) -> Listing {
    let (mut decoder, mut builder, mut input) = (Decoder::new(), ListingBuilder::new(), nar);
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        builder.push(&event).unwrap();
    }
    decoder.finish().unwrap();
    builder.finish().unwrap()
}

#[test]
fn narinfos_of_nix_are_written_again_byte_for_byte() {
    for name in NARINFOS {
        let original = text(&format!("all/{name}"));
        assert_eq!(narinfo(name).to_text(&StoreDir::default()), original, "{name}");
    }
}

#[test]
fn signatures_of_nix_verify_and_ours_are_the_same_bytes() {
    let store_dir = StoreDir::default();
    let secret = SecretKey::parse(&text("golden-1.secret")).unwrap();
    let public: PublicKey = text("golden-1.public").parse().unwrap();
    for name in NARINFOS.iter().filter(|name| **name != "unsigned.narinfo") {
        let signed = narinfo(name);
        let fingerprint = signed.fingerprint(&store_dir);
        assert_eq!(signed.signatures.len(), 1, "{name}");
        assert!(
            signed.signatures.iter().all(|s| public.verify(fingerprint.as_bytes(), s)),
            "{name}"
        );
        let mut ours = NarInfo { signatures: [].into(), ..signed.clone() };
        ours.sign_with(&store_dir, &secret);
        assert_eq!(ours, signed, "{name}");
    }
}

#[test]
fn content_addresses_of_nix_make_the_paths_nix_gave_them() {
    let store_dir = StoreDir::default();
    for name in NARINFOS {
        let built = matches!(name, "app.narinfo" | "unsigned.narinfo");
        let info = narinfo(name);
        assert_eq!(info.is_content_addressed(&store_dir), !built, "{name}");
        assert_eq!(info.is_trusted_by(&store_dir, &[]), !built, "{name}");
    }
}

#[test]
fn a_key_file_of_nix_is_written_again_byte_for_byte_and_has_its_public_key() {
    let secret = SecretKey::parse(&text("golden-1.secret")).unwrap();
    assert_eq!(*secret.expose(), text("golden-1.secret"));
    assert_eq!(secret.public().to_string(), text("golden-1.public"));
}

#[test]
fn nars_of_nix_have_the_hash_and_size_nix_says() {
    for name in ["tree", "app"] {
        let nar = bytes(&format!("all/{name}.nar"));
        let info = narinfo(&format!("{name}.narinfo"));
        assert_eq!(Sha256::of(&nar), info.nar_hash);
        assert_eq!(nar.len() as u64, info.nar_size);
    }
}

#[test]
fn listings_of_our_decoder_are_those_of_every_version() {
    for name in ["tree", "app"] {
        let ours = listing_of(&bytes(&format!("all/{name}.nar")));
        for version in VERSIONS {
            let theirs = text(&format!("{version}/{name}.ls"));
            assert_eq!(Listing::parse(&theirs).unwrap(), ours, "{version} {name}");
        }
        // 2.8 wrote keys in another order; since then they are sorted.
        for version in ["2.26", "2.34"] {
            assert_eq!(ours.to_json(), text(&format!("{version}/{name}.ls")), "{version} {name}");
        }
    }
}

#[test]
fn offsets_of_a_listing_lead_to_the_contents() {
    let nar = bytes("all/tree.nar");
    let listing = listing_of(&nar);
    let Some(larder_formats::nar::ListingNode::Regular { size, nar_offset, executable }) =
        listing.get("run")
    else {
        panic!("no file named run");
    };
    assert!(executable);
    let start = usize::try_from(nar_offset.unwrap()).unwrap();
    assert_eq!(&nar[start..][..usize::try_from(*size).unwrap()], b"#!/bin/sh\necho hello\n");
}

#[test]
fn a_nar_of_nix_has_the_events_of_its_tree() {
    let nar = bytes("all/app.nar");
    let (mut decoder, mut input, mut events) = (Decoder::new(), nar.as_slice(), Vec::new());
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        events.push(match event {
            Event::Content(bytes) => format!("Content of {} bytes", bytes.len()),
            Event::Entry { name } => format!("Entry {}", name.escape_ascii()),
            other => format!("{other:?}"),
        });
    }
    insta::assert_snapshot!(events.join("\n"), @r"
    DirectoryStart
    Entry bin
    DirectoryStart
    Entry app
    RegularStart { executable: true, size: 115, offset: 400 }
    Content of 115 bytes
    RegularEnd
    DirectoryEnd
    DirectoryEnd
    End
    ");
}

#[test]
fn store_paths_sort_as_their_texts_do() {
    let paths = text("all/sorted-paths");
    let parse = |line: &str| StoreDir::default().parse(line).unwrap();
    let in_order: Vec<_> = paths.lines().map(parse).collect();
    assert!(in_order.len() > 2);
    assert!(in_order.is_sorted());
}
