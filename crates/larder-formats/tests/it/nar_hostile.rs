//! NARs that nobody's Nix wrote.

use larder_formats::nar::{
    Decoder, Encoder, Event, Listing, ListingBuilder, MAX_DEPTH, MAX_NAME_LEN, MAX_TARGET_LEN,
    NarError, NarErrorKind,
};

/// Decodes in pieces of several sizes, which must all give the same error.
fn error(nar: &[u8]) -> NarError {
    let decode = |piece: usize| -> Result<(), NarError> {
        let mut decoder = Decoder::new();
        for mut input in nar.chunks(piece) {
            while decoder.next_event(&mut input)?.is_some() {}
        }
        decoder.finish()
    };
    let error = decode(nar.len().max(1)).expect_err("the NAR was taken");
    for piece in [1, 3, 8, 64] {
        let cut = decode(piece).expect_err("the NAR was taken");
        assert_eq!(cut.kind, error.kind, "in pieces of {piece}");
    }
    error
}

fn kind(nar: &[u8]) -> NarErrorKind {
    error(nar).kind
}

/// Words of a NAR after its first, as they are; a number is a bare length.
fn nar(words: &[&[u8]]) -> Vec<u8> {
    let mut nar = Vec::new();
    Encoder::new(&mut nar).magic();
    words.iter().for_each(|word| push(&mut nar, word));
    nar
}

fn push(nar: &mut Vec<u8>, word: &[u8]) {
    nar.extend_from_slice(&(word.len() as u64).to_le_bytes());
    nar.extend_from_slice(word);
    Encoder::new(nar).padding(word.len() as u64);
}

fn file(contents: &[u8]) -> Vec<u8> {
    nar(&[b"(", b"type", b"regular", b"contents", contents, b")"])
}

/// A directory with these entries, each an empty directory.
fn directory(names: &[&[u8]]) -> Vec<u8> {
    let mut words: Vec<&[u8]> = vec![b"(", b"type", b"directory"];
    for name in names {
        words.extend([&b"entry"[..], b"(", b"name", name, b"node"]);
        words.extend([&b"("[..], b"type", b"directory", b")", b")"]);
    }
    words.push(b")");
    nar(&words)
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_anything_is_kept() {
    for claimed in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 14] {
        let found = error(&claimed.to_le_bytes());
        assert!(matches!(found.kind, NarErrorKind::TooLong { len, .. } if len == claimed));
        assert_eq!(found.offset, 8);
    }
    let mut name = nar(&[b"(", b"type", b"directory", b"entry", b"(", b"name"]);
    name.extend_from_slice(&(MAX_NAME_LEN as u64 + 1).to_le_bytes());
    assert!(matches!(kind(&name), NarErrorKind::TooLong { what: "a name", len: 256, .. }));
    let mut target = nar(&[b"(", b"type", b"symlink", b"target"]);
    target.extend_from_slice(&(MAX_TARGET_LEN as u64 + 1).to_le_bytes());
    assert!(matches!(kind(&target), NarErrorKind::TooLong { len: 4096, .. }));
}

#[test]
fn a_file_that_claims_to_be_endless_costs_no_memory() {
    let mut start = nar(&[b"(", b"type", b"regular", b"contents"]);
    let head = start.len();
    start.extend_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(kind(&start), NarErrorKind::FileTooLarge(u64::MAX));

    start.truncate(head);
    start.extend_from_slice(&(1_u64 << 62).to_le_bytes());
    let mut decoder = Decoder::new();
    let mut input = start.as_slice();
    let event = decoder.next_event(&mut input).unwrap();
    assert!(matches!(event, Some(Event::RegularStart { size, .. }) if size == 1 << 62));
    for _ in 0..1000 {
        let mut input = &[7_u8; 4096][..];
        assert_eq!(decoder.next_event(&mut input).unwrap(), Some(Event::Content(&[7; 4096])));
        assert!(input.is_empty());
    }
    assert!(decoder.buffered() < 100);
    assert_eq!(decoder.finish().unwrap_err().kind, NarErrorKind::CutOff);
}

#[test]
fn padding_must_be_zeros() {
    let good = file(b"hello");
    for bit in 0..3 {
        let mut bad = good.clone();
        // The padding of `hello` ends 16 bytes before the end, which the closing word takes.
        let last = bad.len() - 17 - bit;
        assert_eq!(bad[last], 0);
        bad[last] = 1;
        assert_eq!(kind(&bad), NarErrorKind::Padding);
    }
    let mut word = good;
    // `nix-archive-1` has three bytes of padding.
    word[8 + 13] = 1;
    assert_eq!(kind(&word), NarErrorKind::Padding);
}

#[test]
fn entries_are_sorted_by_their_bytes_and_none_comes_twice() {
    for names in [[&b"b"[..], b"a"], [b"a", b"a"], [b"a", b"B"], [b"aa", b"a"], [b"\xff", b"z"]] {
        let names: Vec<_> = names.to_vec();
        assert!(matches!(kind(&directory(&names)), NarErrorKind::Order { .. }), "{names:?}");
    }
}

#[test]
fn the_order_is_each_directorys_own() {
    // `z` within `a` does not make `b` come too early.
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    encoder.magic();
    encoder.directory_start();
    encoder.entry_start(b"a");
    encoder.directory_start();
    encoder.entry_start(b"z");
    encoder.symlink(b"x");
    encoder.entry_end();
    encoder.directory_end();
    encoder.entry_end();
    encoder.entry_start(b"b");
    encoder.symlink(b"x");
    encoder.entry_end();
    encoder.directory_end();
    let (mut decoder, mut input) = (Decoder::new(), bytes.as_slice());
    while decoder.next_event(&mut input).unwrap().is_some() {}
    decoder.finish().unwrap();
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [&b""[..], b".", b"..", b"/", b"a/b", b"../x", b"a\0", b"\0"] {
        assert_eq!(kind(&directory(&[name])), NarErrorKind::Name(name.to_vec()));
    }
}

#[test]
fn a_target_is_not_empty_and_has_no_nul() {
    for target in [&b""[..], b"a\0b"] {
        let bad = nar(&[b"(", b"type", b"symlink", b"target", target, b")"]);
        assert_eq!(kind(&bad), NarErrorKind::Target(target.to_vec()));
    }
}

#[test]
fn words_in_another_order_than_nix_writes_are_refused() {
    for words in [
        &[&b"type"[..]][..],
        &[b"(", b"regular"],
        &[b"(", b"type", b"socket"],
        &[b"(", b"type", b"regular", b")"],
        &[b"(", b"type", b"regular", b"executable", b"x"],
        &[b"(", b"type", b"regular", b"executable", b"", b"executable"],
        &[b"(", b"type", b"regular", b"contents", b"", b"contents"],
        &[b"(", b"type", b"symlink", b"contents"],
        &[b"(", b"type", b"symlink", b"target", b"x", b"target"],
        &[b"(", b"type", b"directory", b"entry", b"name"],
        &[b"(", b"type", b"directory", b"entry", b"(", b"node"],
        &[b"(", b"type", b"directory", b"entry", b"(", b"name", b"a", b")"],
        &[b"(", b"type", b"directory", b"("],
    ] {
        let found = kind(&nar(words));
        assert!(matches!(found, NarErrorKind::Unexpected { .. }), "{words:?}: {found}");
    }
    let mut magic = Vec::new();
    push(&mut magic, b"nix-archive-2");
    insta::assert_snapshot!(
        error(&magic), @"bad NAR at byte 24: expected `nix-archive-1`, found nix-archive-2"
    );
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = file(b"");
    let end = bytes.len() as u64;
    bytes.push(0);
    assert_eq!(error(&bytes), NarError { offset: end, kind: NarErrorKind::TrailingBytes });
}

#[test]
fn nothing_at_all_is_cut_off() {
    assert_eq!(error(b""), NarError { offset: 0, kind: NarErrorKind::CutOff });
}

#[test]
fn a_decoder_that_met_an_error_stays_with_it() {
    let mut decoder = Decoder::new();
    assert!(decoder.next_event(&mut &[0xff; 8][..]).is_err());
    let again = decoder.next_event(&mut &b""[..]).unwrap_err();
    assert_eq!(again.kind, NarErrorKind::AfterError);
    assert_eq!(decoder.finish().unwrap_err().kind, NarErrorKind::AfterError);
}

/// Directories within each other, each with a name as long as allowed.
fn deep(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let name = [b'n'; MAX_NAME_LEN];
    Encoder::new(&mut bytes).magic();
    Encoder::new(&mut bytes).directory_start();
    for _ in 1..depth {
        Encoder::new(&mut bytes).entry_start(&name);
        Encoder::new(&mut bytes).directory_start();
    }
    for _ in 1..depth {
        Encoder::new(&mut bytes).directory_end();
        Encoder::new(&mut bytes).entry_end();
    }
    Encoder::new(&mut bytes).directory_end();
    bytes
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    assert_eq!(kind(&deep(MAX_DEPTH + 1)), NarErrorKind::TooDeep);
    let bytes = deep(MAX_DEPTH);
    let (mut decoder, mut builder) = (Decoder::new(), ListingBuilder::new());
    let mut input = bytes.as_slice();
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        builder.push(&event).unwrap();
        assert!(decoder.buffered() < 2 << 20);
    }
    let listing = builder.finish().unwrap();
    assert_eq!(listing.count(), MAX_DEPTH);
    let json = listing.to_json();
    assert_eq!(json.matches("\"entries\"").count(), MAX_DEPTH);
    assert!(Listing::parse(&json).is_err(), "deeper than the JSON reader goes");
}
