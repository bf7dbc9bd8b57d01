//! SHA-256 over whole NARs and their files.
//!
//! By ring, which knows more of each processor than the library of the formats: where one has no instructions for
//! SHA-256, as many a small server's, it takes little more than half of the time.

use larder_formats::hash::Sha256;
use ring::digest::{Context, SHA256};

/// Computes the hash of what passes.
#[derive(Clone)]
pub(crate) struct Hasher(Context);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Sha256 {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        Sha256::from_bytes(hash)
    }
}
