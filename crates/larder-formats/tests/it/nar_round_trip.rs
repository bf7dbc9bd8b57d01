//! NARs: what the encoder writes, the decoder reads, however it is cut.

use std::collections::BTreeMap;

use larder_formats::nar::{
    DIRECTORY_PREFIX_LEN, DIRECTORY_SUFFIX_LEN, Decoder, ENTRY_SUFFIX_LEN, Encoder, Event, Listing,
    ListingBuilder, ListingError, ListingNode, MAGIC_LEN, entry_prefix_len, padding, regular_len,
    regular_prefix_len, regular_suffix_len, symlink_len,
};
use proptest::prelude::*;

use crate::golden;

/// A file tree in memory.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    File { executable: bool, contents: Vec<u8> },
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    let target = proptest::collection::vec(1_u8.., 1..40);
    let leaf = prop_oneof![
        (any::<bool>(), bytes)
            .prop_map(|(executable, contents)| Tree::File { executable, contents }),
        target.prop_map(Tree::Symlink),
    ];
    let allowed = |name: &Vec<u8>| !name.contains(&b'/') && !matches!(&name[..], b"." | b"..");
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let name = proptest::collection::vec(1_u8.., 1..12).prop_filter("a name", allowed);
        proptest::collection::btree_map(name, inner, 0..6).prop_map(Tree::Directory)
    })
}

fn encode(tree: &Tree) -> Vec<u8> {
    let mut nar = Vec::new();
    Encoder::new(&mut nar).magic();
    encode_node(tree, &mut nar);
    nar
}

fn encode_node(tree: &Tree, nar: &mut Vec<u8>) {
    match tree {
        Tree::File { executable, contents } => {
            let size = contents.len() as u64;
            Encoder::new(nar).regular_start(*executable, size);
            nar.extend_from_slice(contents);
            Encoder::new(nar).regular_end(size);
        }
        Tree::Symlink(target) => Encoder::new(nar).symlink(target),
        Tree::Directory(entries) => {
            Encoder::new(nar).directory_start();
            for (name, tree) in entries {
                Encoder::new(nar).entry_start(name);
                encode_node(tree, nar);
                Encoder::new(nar).entry_end();
            }
            Encoder::new(nar).directory_end();
        }
    }
}

fn computed_len(tree: &Tree) -> u64 {
    match tree {
        Tree::File { executable, contents } => regular_len(*executable, contents.len() as u64),
        Tree::Symlink(target) => symlink_len(target.len()),
        Tree::Directory(entries) => {
            let entry = |(name, tree): (&Vec<u8>, &Tree)| {
                entry_prefix_len(name.len()) + computed_len(tree) + ENTRY_SUFFIX_LEN
            };
            DIRECTORY_PREFIX_LEN + entries.iter().map(entry).sum::<u64>() + DIRECTORY_SUFFIX_LEN
        }
    }
}

type Entries = BTreeMap<Vec<u8>, Tree>;

/// Builds a tree from events.
#[derive(Default)]
struct Planter {
    open: Vec<(Vec<u8>, Entries)>,
    file: Option<(bool, Vec<u8>)>,
    name: Vec<u8>,
    root: Option<Tree>,
    ended: bool,
}

impl Planter {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::RegularStart { executable, .. } => self.file = Some((*executable, Vec::new())),
            Event::Content(bytes) => {
                assert!(!bytes.is_empty());
                self.file.as_mut().unwrap().1.extend_from_slice(bytes);
            }
            Event::RegularEnd => {
                let (executable, contents) = self.file.take().unwrap();
                self.plant(Tree::File { executable, contents });
            }
            Event::Symlink { target } => self.plant(Tree::Symlink(target.to_vec())),
            Event::DirectoryStart => {
                self.open.push((std::mem::take(&mut self.name), BTreeMap::new()));
            }
            Event::Entry { name } => self.name = name.to_vec(),
            Event::DirectoryEnd => {
                let (name, entries) = self.open.pop().unwrap();
                self.name = name;
                self.plant(Tree::Directory(entries));
            }
            Event::End => self.ended = true,
        }
    }

    fn plant(&mut self, tree: Tree) {
        let name = std::mem::take(&mut self.name);
        match self.open.last_mut() {
            Some((_, entries)) => assert!(entries.insert(name, tree).is_none()),
            None => assert!(self.root.replace(tree).is_none()),
        }
    }
}

fn decode(pieces: &[&[u8]]) -> Tree {
    let (mut decoder, mut planter) = (Decoder::new(), Planter::default());
    for piece in pieces {
        let mut input = *piece;
        while let Some(event) = decoder.next_event(&mut input).unwrap() {
            planter.take(&event);
        }
        assert!(input.is_empty());
    }
    decoder.finish().unwrap();
    assert!(planter.ended);
    planter.root.unwrap()
}

proptest! {
    #[test]
    fn trees_round_trip_however_the_nar_is_cut(tree in trees(), piece in 1_usize..50) {
        let nar = encode(&tree);
        prop_assert_eq!(nar.len() as u64, MAGIC_LEN + computed_len(&tree));
        prop_assert_eq!(&decode(&[&nar]), &tree);
        prop_assert_eq!(&decode(&nar.chunks(piece).collect::<Vec<_>>()), &tree);
    }

    #[test]
    fn a_nar_cut_off_anywhere_is_not_complete(tree in trees(), at: prop::sample::Index) {
        let nar = encode(&tree);
        let mut decoder = Decoder::new();
        let mut input = &nar[..at.index(nar.len())];
        while decoder.next_event(&mut input).unwrap().is_some() {}
        prop_assert!(decoder.finish().is_err());
        prop_assert!(!decoder.is_complete());
    }
}

#[test]
fn the_encoder_writes_the_bytes_of_nix() {
    let nar = golden::bytes("all/tree.nar");
    assert_eq!(encode(&decode(&[&nar])), nar);
}

#[test]
fn contents_are_slices_of_the_input_and_not_copies() {
    let contents = vec![b'x'; 100_000];
    let nar = encode(&Tree::File { executable: false, contents });
    let (mut decoder, mut input) = (Decoder::new(), nar.as_slice());
    let mut seen = 0;
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        if let Event::Content(bytes) = event {
            assert!(nar.as_ptr_range().contains(&bytes.as_ptr()));
            seen += bytes.len();
        }
    }
    assert_eq!(seen, 100_000);
    assert!(decoder.buffered() < 100);
}

#[test]
fn lengths_are_computed_for_every_size_of_padding() {
    for size in 0..=17_u64 {
        for executable in [false, true] {
            let mut start = Vec::new();
            Encoder::new(&mut start).regular_start(executable, size);
            assert_eq!(start.len() as u64, regular_prefix_len(executable));
            let mut end = Vec::new();
            Encoder::new(&mut end).regular_end(size);
            assert_eq!(end.len() as u64, regular_suffix_len(size));
            assert_eq!((size + padding(size)) % 8, 0);
        }
    }
    assert_eq!(regular_len(true, u64::MAX), u64::MAX);
}

fn listing(tree: &Tree) -> Result<Listing, ListingError> {
    let nar = encode(tree);
    let (mut decoder, mut builder, mut input) = (Decoder::new(), ListingBuilder::new(), &nar[..]);
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        builder.push(&event)?;
    }
    builder.finish()
}

proptest! {
    #[test]
    fn listings_round_trip_through_json(tree in trees()) {
        if let Ok(listing) = listing(&tree) {
            prop_assert_eq!(Listing::parse(&listing.to_json()).unwrap(), listing);
        }
    }
}

#[test]
fn a_listing_is_asked_by_path() {
    let ours = Listing::parse(&golden::text("2.34/tree.ls")).unwrap();
    assert_eq!(ours.root(), &ListingNode::Directory);
    assert_eq!(ours.get(""), Some(&ListingNode::Directory));
    assert_eq!(ours.get("link"), Some(&ListingNode::Symlink { target: "nested/a".to_owned() }));
    let file = ListingNode::Regular { executable: false, size: 5, nar_offset: Some(6912) };
    assert_eq!(ours.get("nested/a/b/c/file"), Some(&file));
    assert_eq!(ours.get("nested/a/b/c/none"), None);
    assert_eq!(ours.get("link/b"), None, "symlinks are not followed");
    let names: Vec<_> = ours.entries("").map(|(name, _)| name).collect();
    let expected =
        ["dangling", "eight-bytes", "empty", "empty-dir", "large", "link", "nested", "odd"];
    assert_eq!(names[..8], expected);
    assert_eq!(ours.entries("link").count(), 0);
    assert_eq!(ours.entries("empty-dir").count(), 0);
}

#[test]
fn a_name_that_is_not_utf8_has_no_listing() {
    let entries = [(vec![0xff], Tree::Symlink(b"x".to_vec()))].into();
    assert!(matches!(listing(&Tree::Directory(entries)), Err(ListingError::NotUtf8(_))));
    let target = Tree::Symlink(vec![0xff]);
    assert!(matches!(listing(&target), Err(ListingError::NotUtf8(_))));
}

#[test]
fn hostile_listings_are_refused() {
    let root = |root: &str| Listing::parse(&format!(r#"{{"version":1,"root":{root}}}"#));
    let entry = |name: &str| {
        root(&format!(
            r#"{{"type":"directory","entries":{{"{name}":{{"type":"symlink","target":"x"}}}}}}"#
        ))
    };
    assert!(entry("a").is_ok());
    for name in ["", ".", "..", "a/b", "a\\u0000"] {
        assert!(matches!(entry(name), Err(ListingError::Name(_))), "{name:?}");
    }
    for node in [
        r#"{"type":"regular"}"#,
        r#"{"type":"directory"}"#,
        r#"{"type":"symlink"}"#,
        r#"{"type":"socket"}"#,
    ] {
        assert!(matches!(root(node), Err(ListingError::Node(_))), "{node}");
    }
    let two = r#"{"version":2,"root":{"type":"directory","entries":{}}}"#;
    assert!(matches!(Listing::parse(two), Err(ListingError::Version(2))));
    let deep = r#"{"type":"directory","entries":{"a":"#.repeat(100_000);
    assert!(matches!(root(&deep), Err(ListingError::Malformed(_))));
}

#[test]
fn events_out_of_order_make_no_listing() {
    let file = Event::RegularStart { executable: false, size: 0, offset: 0 };
    for events in [
        &[][..],
        &[Event::DirectoryStart],
        &[Event::DirectoryEnd],
        &[file, file],
        &[Event::DirectoryStart, file],
        &[Event::Entry { name: b"a" }, file],
        &[Event::DirectoryStart, Event::Entry { name: b"a" }, Event::DirectoryEnd],
        &[Event::DirectoryStart, Event::Entry { name: b"a" }, Event::Entry { name: b"b" }],
    ] {
        let mut builder = ListingBuilder::new();
        let pushed = events.iter().try_for_each(|event| builder.push(event));
        assert!(pushed.and_then(|()| builder.finish()).is_err(), "{events:?}");
    }
}
