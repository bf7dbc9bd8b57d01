//! What a NAR is, found out while it passes.

use larder_formats::{
    hash::Sha256,
    nar::{Decoder, Listing, ListingBuilder, NarError},
};

use crate::hashing::Hasher;

/// Files, folders and symlinks in a listing that is made on the way. What has more is listed when somebody asks for
/// it: a listing is held in memory.
const LISTED: usize = 200_000;

/// Sees a NAR's bytes.
pub(super) struct Watcher {
    hasher: Hasher,
    decoder: Decoder,
    size: u64,
    listing: Option<ListingBuilder>,
}

/// What was seen.
pub(super) struct Seen {
    /// The NAR's hash.
    pub(super) hash: Sha256,
    /// Bytes in it.
    pub(super) size: u64,
    /// What is in it. Nothing where that is very much, or a name is not UTF-8, for which there is no listing.
    pub(super) listing: Option<Listing>,
}

impl Watcher {
    pub(super) fn new() -> Self {
        Self {
            hasher: Hasher::new(),
            decoder: Decoder::new(),
            size: 0,
            listing: Some(ListingBuilder::new()),
        }
    }

    /// Bytes seen so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes.
    pub(super) fn see(&mut self, chunk: &[u8]) -> Result<(), NarError> {
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
        let mut bytes = chunk;
        while let Some(event) = self.decoder.next_event(&mut bytes)? {
            let fits = |it: &mut ListingBuilder| it.push(&event).is_ok() && it.count() <= LISTED;
            if !self.listing.as_mut().is_some_and(fits) {
                self.listing = None;
            }
        }
        Ok(())
    }

    /// Ends where the NAR must end.
    pub(super) fn finish(self) -> Result<Seen, NarError> {
        self.decoder.finish()?;
        let listing = self.listing.and_then(|listing| listing.finish().ok());
        Ok(Seen { hash: self.hasher.finish(), size: self.size, listing })
    }
}
