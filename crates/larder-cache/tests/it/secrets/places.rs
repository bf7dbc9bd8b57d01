//! Where a secret stands does not matter, nor how the NAR comes in pieces.

use std::collections::BTreeMap;

use larder_cache::secrets::{AllowList, Finding};
use larder_testkit::nix::busybox;
use proptest::{prelude::*, sample::Index};

use super::{Node, chance::Chance, found, found_in, only, samples, samples::Sample, scan};

/// So many bytes of something that is no secret.
fn filler(count: usize) -> Vec<u8> {
    let lines =
        (0u32..).flat_map(|n| format!("  environment.etc.\"{n}\".text = \"{n}\";\n").into_bytes());
    lines.take(count).collect()
}

/// A file that begins with so many bytes of something else, and ends with others.
fn file_with(sample: &Sample, before: usize, after: usize) -> Vec<u8> {
    let text = format!("\n{}\n", sample.text());
    [filler(before), text.into_bytes(), filler(after)].concat()
}

fn first(what: &str) -> Sample {
    samples::all().into_iter().find(|sample| sample.what == what).unwrap()
}

#[test]
fn a_secret_in_the_middle_of_megabytes_is_found() {
    for what in ["RSA", "Nix", "GitHub", "a password"] {
        let sample = first(what);
        let finding = only(file_with(&sample, 3_000_000, 2_000_000));
        assert_eq!(finding.offset, 3_000_001 + sample.before.len() as u64, "{what}");
        assert_eq!(finding.fingerprint, only(sample.text()).fingerprint);
    }
}

#[test]
fn a_secret_is_found_at_the_beginning_and_at_the_end_of_a_large_file() {
    for sample in samples::all() {
        let text = sample.text().into_bytes();
        let more = filler(300_000);
        let front = only([&text, b"\n".as_slice(), &more].concat());
        let back = only([&more, b"\n".as_slice(), &text].concat());
        assert_eq!(front.offset, sample.before.len() as u64, "{sample:?}");
        assert_eq!(back.offset, 300_001 + sample.before.len() as u64, "{sample:?}");
    }
}

/// Where blocks end inside the scanner is its own affair; every place near one, and a large key is across it.
#[test]
fn a_large_key_is_found_wherever_the_look_pauses() {
    let sample = first("a large RSA");
    let expected = only(sample.text()).fingerprint;
    for before in (110_000..150_000).step_by(509) {
        let nar = Node::File(file_with(&sample, before, 20_000)).nar();
        let found = scan(nar.chunks(65_536), &AllowList::default()).unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.offset, it.fingerprint)).collect();
        assert_eq!(found, [(before as u64 + 1, expected)], "{before}");
    }
}

#[test]
fn a_secret_is_found_in_every_file_of_a_tree_and_only_there() {
    let [nix, github, key, hash] = ["Nix", "GitHub", "OpenSSH", "a password"].map(first);
    let file = |sample: &Sample| Node::File(sample.text().into_bytes());
    let tree = Node::directory([
        ("bin", Node::directory([("run", Node::Program(github.text().into_bytes()))])),
        ("empty", Node::File(Vec::new())),
        (
            "etc",
            Node::directory([
                ("deep", Node::directory([("er", Node::directory([("key", file(&key))]))])),
                ("shadow", file(&hash)),
            ]),
        ),
        ("link", Node::Link("bin/run")),
        ("nothing", Node::directory([])),
        ("z", file(&nix)),
    ]);
    let found = found_in(&tree);
    let found: Vec<_> = found.iter().map(|it| (it.file.as_str(), it.kind)).collect();
    let files = ["bin/run", "etc/deep/er/key", "etc/shadow", "z"];
    let kinds = [github, key, hash, nix].map(|sample| sample.kind);
    assert_eq!(found, files.into_iter().zip(kinds).collect::<Vec<_>>());
}

#[test]
fn a_store_path_that_is_a_file_is_looked_at() {
    let finding = only(first("GitHub").text());
    assert_eq!(finding.file, "");
    assert!(finding.to_string().contains(&format!("{} at byte 0", super::PATH)));
}

#[test]
fn a_secret_in_a_program_is_found_and_the_program_itself_holds_none() {
    let program = std::fs::read(busybox()).unwrap();
    assert_eq!(found(&program), []);
    let (front, back) = program.split_at(program.len() / 2);
    for sample in samples::all() {
        let text = sample.text().into_bytes();
        let with = Node::Program([front, b"\0", &text, b"\0", back].concat());
        let found = found_in(&Node::directory([("tool", with)]));
        let found: Vec<_> = found.iter().map(|it| (it.offset, it.kind)).collect();
        let place = front.len() + 1 + sample.before.len();
        assert_eq!(found, [(place as u64, sample.kind)], "{sample:?}");
    }
}

#[test]
fn two_files_whose_names_are_told_alike_are_two_findings() {
    let [nix, github] = ["Nix", "GitHub"].map(first);
    let files = [(vec![0xfe], nix), (vec![0xff], github)];
    let files = files.map(|(name, sample)| (name, Node::File(sample.text().into_bytes())));
    assert_eq!(found_in(&Node::Directory(BTreeMap::from(files))).len(), 2);
}

/// A NAR of some files with secrets at any place in them, and what is in it.
fn with_secrets(places: &[(Index, usize)]) -> (Vec<u8>, Vec<(String, u64, String)>) {
    let samples = samples::all();
    let mut files = BTreeMap::new();
    let mut expected = Vec::new();
    for (n, (which, before)) in places.iter().enumerate() {
        let sample = which.get(&samples);
        let name = format!("{n:03}");
        let text = file_with(sample, *before, before / 3);
        expected.push((
            name.clone(),
            (before + 1 + sample.before.len()) as u64,
            sample.kind.to_string(),
        ));
        files.insert(name.into_bytes(), Node::File(text));
    }
    (Node::Directory(files).nar(), expected)
}

fn told(found: &[Finding]) -> Vec<(String, u64, String)> {
    found.iter().map(|it| (it.file.clone(), it.offset, it.kind.to_string())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pieces_of_any_size_make_the_same_findings(
        places in prop::collection::vec((any::<Index>(), 0usize..300_000), 1..4),
        small in prop::collection::vec(1usize..3000, 1..20),
        large in prop::collection::vec(1usize..200_000, 1..5),
        seed: u64,
    ) {
        let (nar, expected) = with_secrets(&places);
        let whole = scan([nar.as_slice()], &AllowList::default()).unwrap();
        prop_assert_eq!(told(&whole), expected);
        let sizes: Vec<usize> = [small, large].concat();
        let mut chance = Chance(seed);
        let mut rest = nar.as_slice();
        let pieces = std::iter::from_fn(|| {
            let size = sizes[chance.below(sizes.len())].min(rest.len());
            let (piece, behind) = rest.split_at(size);
            rest = behind;
            (size > 0).then_some(piece)
        });
        prop_assert_eq!(scan(pieces, &AllowList::default()).unwrap(), whole);
    }

    #[test]
    fn a_nar_that_comes_byte_by_byte_makes_the_same_findings(which: Index, before in 0usize..2000) {
        let (nar, expected) = with_secrets(&[(which, before)]);
        let found = scan(nar.chunks(1), &AllowList::default()).unwrap();
        prop_assert_eq!(told(&found), expected);
    }
}
