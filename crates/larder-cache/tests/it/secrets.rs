//! Tests of the look for secrets: what is found, wherever and however it is written; what is not; what is told of
//! it; and what lets it pass.

use std::collections::BTreeMap;

use jiff::Timestamp;
use larder_cache::secrets::{AllowList, Finding, Kind, Scanner};
use larder_formats::{
    nar::{Encoder, NarError},
    store_path::StorePath,
};

mod allow_list;
mod chance;
mod findings;
mod harmless;
mod key_pairs;
mod limits;
mod password_hashes;
mod places;
mod samples;
mod tokens;
mod writings;

const PATH: &str = "xk13jbc1qzf1qpw0hqf13ad57bfgcyqm-fleet-config-1.2";

/// When all tests look: the first second of August 2026.
const NOW: i64 = 1_785_542_400;

/// A file tree whose NAR is wanted.
enum Node {
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(&'static str),
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    fn directory<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Directory(entries.map(|(name, node)| (name.as_bytes().to_vec(), node)).into())
    }

    fn nar(&self) -> Vec<u8> {
        let mut nar = Vec::new();
        Encoder::new(&mut nar).magic();
        self.encode(&mut nar);
        nar
    }

    fn encode(&self, nar: &mut Vec<u8>) {
        match self {
            Self::File(bytes) | Self::Program(bytes) => {
                let size = bytes.len() as u64;
                Encoder::new(nar).regular_start(matches!(self, Self::Program(_)), size);
                nar.extend_from_slice(bytes);
                Encoder::new(nar).regular_end(size);
            }
            Self::Link(target) => Encoder::new(nar).symlink(target.as_bytes()),
            Self::Directory(entries) => {
                Encoder::new(nar).directory_start();
                for (name, node) in entries {
                    Encoder::new(nar).entry_start(name);
                    node.encode(nar);
                    Encoder::new(nar).entry_end();
                }
                Encoder::new(nar).directory_end();
            }
        }
    }
}

fn scanner(allowed: &AllowList) -> Scanner {
    let path: StorePath = PATH.parse().unwrap();
    Scanner::new(&path, allowed, Timestamp::from_second(NOW).unwrap())
}

/// What is found in a NAR that comes in these pieces.
fn scan<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    allowed: &AllowList,
) -> Result<Vec<Finding>, NarError> {
    let mut scanner = scanner(allowed);
    pieces.into_iter().try_for_each(|piece| scanner.feed(piece))?;
    scanner.finish()
}

/// What is found in a NAR of a store path of this name.
fn scan_named<'a>(
    name: &str,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    allowed: &AllowList,
) -> Result<Vec<Finding>, NarError> {
    let path: StorePath = format!("{}-{name}", &PATH[..32]).parse().unwrap();
    let mut scanner = Scanner::new(&path, allowed, Timestamp::from_second(NOW).unwrap());
    pieces.into_iter().try_for_each(|piece| scanner.feed(piece))?;
    scanner.finish()
}

/// What is found in a tree.
fn found_in(node: &Node) -> Vec<Finding> {
    scan([node.nar().as_slice()], &AllowList::default()).unwrap()
}

/// What is found in a text that is a store path by itself.
fn found(text: impl AsRef<[u8]>) -> Vec<Finding> {
    found_in(&Node::File(text.as_ref().to_vec()))
}

/// Where something is found in a text, and what.
fn places(text: impl AsRef<[u8]>) -> Vec<(u64, Kind)> {
    found(text).into_iter().map(|finding| (finding.offset, finding.kind)).collect()
}

/// The one thing that is found in a text.
#[track_caller]
fn only(text: impl AsRef<[u8]>) -> Finding {
    let text = text.as_ref();
    let mut found = found(text);
    let shown = String::from_utf8_lossy(text);
    assert_eq!(found.len(), 1, "{found:#?} in {shown}");
    found.remove(0)
}
