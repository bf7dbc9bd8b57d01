//! What is looked for in a closure before it is published.

use jiff::Timestamp;
use larder_cache::secrets::{AllowList, Finding, Scanner};
use larder_formats::nar::Encoder;
use larder_formats::{StorePath, StorePathHash};

/// A file is looked at: cutting it elsewhere changes nothing, what is found lies in the file, and can be
/// allowed by its fingerprint. The same bytes are read as an allow-list, too.
///
/// The first byte says in what pieces the rest is fed.
pub fn secrets(bytes: &[u8]) {
    let Some((pieces, file)) = bytes.split_first() else { return };
    let mut nar = Vec::new();
    let mut encoder = Encoder::new(&mut nar);
    encoder.magic();
    encoder.regular_start(false, file.len() as u64);
    nar.extend_from_slice(file);
    Encoder::new(&mut nar).regular_end(file.len() as u64);
    let found = scan(&nar, nar.len(), &AllowList::default());
    let cut = scan(&nar, usize::from(*pieces) + 1, &AllowList::default());
    assert_eq!(found, cut);
    let mut entries = String::new();
    for finding in &found {
        assert!(finding.offset < file.len() as u64 && finding.file.is_empty());
        entries += &format!("secret {}\n", finding.fingerprint);
    }
    let allowed = AllowList::parse(&entries);
    assert!(allowed.is_ok_and(|allowed| scan(&nar, nar.len(), &allowed).is_empty()));
    if let Ok(Ok(list)) = std::str::from_utf8(file).map(AllowList::parse) {
        assert!(found.iter().filter(|finding| list.allows(finding)).count() <= found.len());
    }
}

fn scan(nar: &[u8], piece: usize, allowed: &AllowList) -> Vec<Finding> {
    let path = StorePath::new(StorePathHash::from_bytes([0; 20]), "x");
    let Ok(path) = path else { return Vec::new() };
    let mut scanner = Scanner::new(&path, allowed, Timestamp::UNIX_EPOCH);
    nar.chunks(piece).for_each(|piece| assert!(scanner.feed(piece).is_ok()));
    scanner.finish().unwrap_or_default()
}
