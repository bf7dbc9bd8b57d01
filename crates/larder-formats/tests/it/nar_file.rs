//! Names of NARs' files: what Nix writes is read, written the same again, and nothing else is a name.

use larder_formats::{
    Sha256,
    nar_file::{NarFile, Suffix},
    narinfo::Compression,
};
use proptest::prelude::*;

#[test]
fn the_names_that_nix_gives_are_read_and_written() {
    for (compression, ending) in [
        (Compression::None, ""),
        (Compression::Gzip, ""),
        (Compression::Xz, ".xz"),
        (Compression::Bzip2, ".bz2"),
        (Compression::Zstd, ".zst"),
        (Compression::Br, ".br"),
        (Compression::Lz4, ".lz4"),
        (Compression::Lzip, ".lzip"),
    ] {
        let file = NarFile { hash: Sha256::of(b"x"), suffix: Suffix::of(compression) };
        let url = format!("nar/{}.nar{ending}", Sha256::of(b"x").to_nix32());
        assert_eq!((file.url(), NarFile::of_url(&url)), (url, Some(file)));
        let told = file.suffix.compression();
        assert!(told == Some(compression) || (told.is_none() && ending.is_empty()));
    }
}

#[test]
fn what_could_lead_elsewhere_is_no_name() {
    let hash = Sha256::of(b"x").to_nix32();
    for odd in [
        "",
        "nar",
        ".nar",
        ".nar.xz",
        &format!("{hash}.nar.exe"),
        &format!("{hash}.nar.xz.xz"),
        &format!("{hash}.nar/../x"),
        &format!("../{hash}.nar"),
        &format!("{}.nar", hash.to_uppercase()),
        &format!("{}.nar", &hash[1..]),
        &format!("{hash}.nar?hash=x"),
        &format!("{hash} .nar"),
    ] {
        assert_eq!(NarFile::parse(odd), None, "{odd}");
    }
    assert_eq!(NarFile::of_url(&format!("{hash}.nar")), None);
    assert_eq!(NarFile::of_url(&format!("/nar/{hash}.nar")), None);
}

proptest! {
    #[test]
    fn any_text_that_is_a_name_is_written_as_it_was_read(text in ".{0,80}") {
        if let Some(file) = NarFile::parse(&text) {
            prop_assert_eq!(file.to_string(), text);
        }
    }
}
