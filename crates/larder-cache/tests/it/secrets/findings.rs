//! A finding tells where and what, and never the secret.

use larder_cache::secrets::{AllowList, Finding, Fingerprint};

use super::{Node, found, found_in, only, samples, scan, scanner};

/// Parts of a secret that nothing else has.
fn parts(secret: &str) -> impl Iterator<Item = &str> {
    let words = secret.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| word.len() >= 10 && *word != "PRIVATE" && !word.starts_with("service"))
}

#[test]
fn nothing_that_is_told_holds_any_part_of_the_secret() {
    for sample in samples::all() {
        let nar = Node::File(sample.text().into_bytes()).nar();
        let mut scanner = scanner(&AllowList::default());
        scanner.feed(&nar[..nar.len() - 20]).unwrap();
        let mut told = format!("{scanner:?} {scanner:#?}");
        scanner.feed(&nar[nar.len() - 20..]).unwrap();
        for finding in scanner.finish().unwrap() {
            told += &format!("{finding} {finding:?} {finding:#?}");
        }
        assert!(told.contains("fleet-config"));
        for part in parts(&sample.secret) {
            assert!(!told.contains(part), "{part} of {sample:?} is in {told}");
        }
    }
}

#[test]
fn a_finding_is_a_line_for_people() {
    let [nix, github] = ["Nix", "GitHub"].map(|what| {
        let sample = samples::all().into_iter().find(|sample| sample.what == what);
        sample.unwrap().secret
    });
    let shown = |finding: &Finding| finding.to_string();
    let of = |secret: &str| Fingerprint::of(secret.as_bytes()).to_string();
    let tree = Node::directory([(
        "etc",
        Node::directory([("token", Node::File(github.clone().into_bytes()))]),
    )]);
    let path = super::PATH;
    assert_eq!(
        shown(&found_in(&tree)[0]),
        format!("token for GitHub in {path}/etc/token at byte 0 ({})", of(&github))
    );
    // The key alone counts, and not what somebody called it.
    assert_eq!(
        shown(&only(format!("x:{nix}"))),
        format!("Nix signing key in {path} at byte 2 ({})", of(&nix))
    );
}

#[test]
fn control_characters_of_a_name_do_not_reach_a_terminal() {
    let secret = samples::all().remove(0).secret;
    let name = "a\nb\u{1b}[2J\u{202e}\r\t\u{7f}\u{9b}z";
    let tree = Node::directory([(name, Node::File(secret.into_bytes()))]);
    let shown = found_in(&tree)[0].to_string();
    assert!(!shown.chars().any(char::is_control) && !shown.contains('\u{202e}'), "{shown:?}");
    assert!(shown.contains("a\\nb\\u{1b}[2J"), "{shown}");
}

#[test]
fn findings_come_by_file_and_place() {
    let [one, two] = ["GitHub", "npm"].map(|what| {
        let sample = samples::all().into_iter().find(|sample| sample.what == what);
        sample.unwrap().secret
    });
    let text = format!("{two}\n{one}\n").into_bytes();
    let tree = Node::directory([("a", Node::File(text.clone())), ("a.b", Node::File(text))]);
    let told = |found: &[Finding]| -> Vec<_> {
        found.iter().map(|it| (it.file.clone(), it.offset)).collect()
    };
    let second = two.len() as u64 + 1;
    let expected = [("a", 0), ("a", second), ("a.b", 0), ("a.b", second)];
    let expected = expected.map(|(file, offset)| (file.to_owned(), offset));
    assert_eq!(told(&found_in(&tree)), expected);
}

#[test]
fn one_secret_has_one_fingerprint_in_every_file_and_every_store_path() {
    let sample = samples::all().remove(0);
    let fingerprint = only(sample.text()).fingerprint;
    let nar = Node::directory([("x", Node::File(sample.text().into_bytes()))]).nar();
    assert_eq!(scan([nar.as_slice()], &AllowList::default()).unwrap()[0].fingerprint, fingerprint);
    assert_eq!(fingerprint.to_string().parse::<Fingerprint>().unwrap(), fingerprint);
    let twice = format!("{}\n{}", sample.text(), sample.text());
    let twice = found(twice);
    assert_eq!(twice.len(), 2);
    assert!(twice.iter().all(|finding| finding.fingerprint == fingerprint));
}

#[test]
fn keys_that_differ_in_their_last_bits_have_different_fingerprints() {
    let key = samples::all().remove(0).secret;
    let end = key.rfind("\n-----END").unwrap() - 6;
    let other = if key.as_bytes()[end] == b'A' { "B" } else { "A" };
    let changed = format!("{}{other}{}", &key[..end], &key[end + 1..]);
    assert_ne!(only(&key).fingerprint, only(changed).fingerprint);
}
