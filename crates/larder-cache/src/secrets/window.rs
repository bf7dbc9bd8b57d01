//! The part of a file that is looked at, while the file passes by in pieces.
//!
//! Promise: each check sees the same bytes wherever the pieces were cut, and memory is bounded.

use jiff::Timestamp;

use super::{
    marks,
    view::{AHEAD, BEHIND, Found},
};

/// Bytes that are gathered before they are looked at.
const BLOCK: usize = 128 * 1024;

/// What is at hand of one file.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// Where `bytes` begins in the file.
    offset: u64,
    /// How much of `bytes` was looked at already.
    searched: usize,
}

impl Window {
    /// Takes the next bytes of the file. Hands over where in the file a secret begins, with what it is.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        now: Timestamp,
        mut found: impl FnMut(u64, Found),
    ) {
        while !bytes.is_empty() {
            let room = (BLOCK + BEHIND + AHEAD).saturating_sub(self.bytes.len()).max(1);
            let (here, rest) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend_from_slice(here);
            bytes = rest;
            if self.bytes.len() >= BLOCK + BEHIND + AHEAD {
                self.search(self.bytes.len() - AHEAD, now, &mut found);
                let passed = self.searched - BEHIND;
                self.bytes.drain(..passed);
                self.offset += passed as u64;
                self.searched = BEHIND;
            }
        }
    }

    /// Looks at what is left, and is ready for another file.
    pub(super) fn finish(&mut self, now: Timestamp, mut found: impl FnMut(u64, Found)) {
        self.search(self.bytes.len(), now, &mut found);
        self.bytes.clear();
        (self.offset, self.searched) = (0, 0);
    }

    fn search(&mut self, to: usize, now: Timestamp, found: &mut impl FnMut(u64, Found)) {
        let offset = self.offset;
        marks::search(&self.bytes, self.searched, to, now, |at, secret| {
            found(offset + at as u64, secret);
        });
        self.searched = to;
    }
}

/// Looks at a file that is at hand as a whole.
pub(super) fn whole(bytes: &[u8], now: Timestamp, mut found: impl FnMut(u64, Found)) {
    marks::search(bytes, 0, bytes.len(), now, |at, secret| found(at as u64, secret));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_block_and_what_a_check_sees_is_held() {
        let mut window = Window::default();
        for size in [1, 100, BLOCK, 5 * BLOCK, BEHIND, 17, 3 * BLOCK + AHEAD].repeat(3) {
            window.feed(&vec![b'x'; size], Timestamp::UNIX_EPOCH, |_, _| ());
            assert!(window.bytes.len() < BLOCK + BEHIND + AHEAD);
            assert!(window.bytes.capacity() <= 2 * (BLOCK + BEHIND + AHEAD));
        }
        window.finish(Timestamp::UNIX_EPOCH, |_, _| ());
        assert!(window.bytes.is_empty() && window.offset == 0 && window.searched == 0);
    }
}
