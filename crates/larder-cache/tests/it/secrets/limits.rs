//! A NAR that is none, or not whole, is an error and never "nothing found"; and there is an end to what is told.

use larder_cache::secrets::{AllowList, MAX_FINDINGS};

use super::{Node, chance::Chance, found, samples, scan, scanner};

#[test]
fn a_nar_that_ends_too_early_is_an_error_wherever_it_ends() {
    let secret = samples::all().remove(0).secret;
    let tree = Node::directory([("a", Node::File(secret.into_bytes())), ("b", Node::Link("a"))]);
    let nar = tree.nar();
    for end in 0..nar.len() {
        assert!(scan([&nar[..end]], &AllowList::default()).is_err(), "{end}");
    }
    assert_eq!(scan([nar.as_slice()], &AllowList::default()).unwrap().len(), 1);
}

#[test]
fn what_is_no_nar_is_an_error_and_remains_one() {
    let secret = samples::all().remove(0).secret;
    let nar = Node::File(secret.clone().into_bytes()).nar();
    for text in [secret.as_bytes(), b"\x0d\0\0\0\0\0\0\0nix-archive-2\0\0\0", &[0; 200]] {
        let mut scanner = scanner(&AllowList::default());
        assert!(scanner.feed(text).is_err());
        assert!(scanner.feed(&nar).is_err());
        assert!(scanner.finish().is_err());
    }
    let mut scanner = scanner(&AllowList::default());
    scanner.feed(&nar).unwrap();
    assert!(scanner.feed(b"more").is_err() || scanner.finish().is_err());
}

#[test]
fn nothing_at_all_is_an_error() {
    assert!(scanner(&AllowList::default()).finish().is_err());
    assert!(scan([b"".as_slice(), b""], &AllowList::default()).is_err());
}

/// Hugging Face's tokens: the shortest there are.
fn many(count: usize) -> Vec<String> {
    let mut chance = Chance(7);
    let token = |_| format!("hf_{}", chance.letters(super::chance::LETTERS, 34));
    (0..count).map(token).collect()
}

#[test]
fn of_one_store_path_the_first_findings_are_told_and_no_more_than_a_limit() {
    let text = many(MAX_FINDINGS + 500).join("\n");
    let whole = found(&text);
    assert_eq!(whole.len(), MAX_FINDINGS);
    let last = (MAX_FINDINGS as u64 - 1) * 38;
    assert_eq!(whole.last().map(|finding| finding.offset), Some(last));
    // However it is cut, they are the same ones.
    let nar = Node::File(text.into_bytes()).nar();
    assert_eq!(scan(nar.chunks(1000), &AllowList::default()).unwrap(), whole);
}

#[test]
fn what_is_allowed_does_not_count_towards_the_limit() {
    let tokens = many(MAX_FINDINGS + 500);
    let entries: Vec<String> = found(tokens.join("\n"))
        .iter()
        .map(|finding| format!("secret {}", finding.fingerprint))
        .collect();
    let allowed = AllowList::from_entries(entries.iter().map(String::as_str)).unwrap();
    let nar = Node::File(tokens.join("\n").into_bytes()).nar();
    assert_eq!(scan([nar.as_slice()], &allowed).unwrap().len(), 500);
}
