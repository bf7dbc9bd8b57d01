//! What several modules need: stores as larder-nix sees them, and tests once per Nix version.

use std::path::Path;

use larder_formats::store_path::{StoreDir, StorePath};
use larder_nix::{
    database::Database,
    dump::Dump,
    layout::{NixEnvironment, StoreLayout},
    read_ahead::{Blocking, Source},
};
use larder_testkit::TestStore;

/// Makes one test of each claim for each Nix version, so that a failure names the version.
macro_rules! with_every_version {
    ($($claim:ident),+ $(,)?) => {
        mod nix_2_8 {
            $(#[test] fn $claim() { super::$claim(larder_testkit::NixVersion::V2_8); })+
        }
        mod nix_2_26 {
            $(#[test] fn $claim() { super::$claim(larder_testkit::NixVersion::V2_26); })+
        }
        mod nix_2_34 {
            $(#[test] fn $claim() { super::$claim(larder_testkit::NixVersion::V2_34); })+
        }
    };
}
pub(crate) use with_every_version;

pub(crate) fn layout(store: &TestStore) -> StoreLayout {
    StoreLayout::resolve(&store.uri(), &NixEnvironment::default()).unwrap()
}

pub(crate) fn database(store: &TestStore) -> Database {
    Database::open(&layout(store)).unwrap()
}

pub(crate) fn parse(path: &str) -> StorePath {
    StoreDir::default().parse(path).unwrap()
}

/// The bytes of a dump, and how many pieces they came in.
pub(crate) fn read(mut dump: Dump) -> std::io::Result<(Vec<u8>, usize)> {
    let (mut bytes, mut chunks) = (Vec::new(), 0);
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        dump.fill(&mut chunk, Blocking::Allowed)?;
        if chunk.is_empty() {
            return Ok((bytes, chunks));
        }
        chunks += 1;
        bytes.extend_from_slice(&chunk);
    }
}

/// What Nix itself makes of a path, by its newest version.
pub(crate) fn nix_dump(path: &Path) -> Vec<u8> {
    let nix = larder_testkit::NixVersion::V2_34.program("nix-store");
    nix.arg("--dump").arg(path).run().success().stdout_bytes
}
