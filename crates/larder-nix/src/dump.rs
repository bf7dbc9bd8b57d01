//! A store path as a NAR, made while it is read.
//!
//! Files are read in plain reads, never mapped into memory: a mapped file that changes or shrinks
//! would send bytes that were never in it. Contents of different lengths than the file had when its
//! header was sent end the dump with an error. A range is found by adding up lengths, so resuming a
//! download at its end costs one look at each file's metadata before it and no reading. Memory is one
//! directory's names per level, and the caller's buffer.

mod walk;

use std::{io, ops::Range, path::Path};

use larder_formats::nar::{Event, Listing, ListingBuilder};
use walk::{Piece, Walk};

use crate::{
    contents::Contents,
    read_ahead::{Blocking, CHUNK, Source},
};

/// Part of the NAR of a path.
#[derive(Debug)]
pub struct Dump {
    walk: Walk,
    /// Bytes of the NAR still to be passed over before the first one wanted.
    skip: u64,
    /// Bytes still wanted.
    left: u64,
    contents: Option<Contents>,
    framing: Vec<u8>,
}

impl Dump {
    /// The bytes `range` of the NAR of what lies at `path`.
    pub fn new(path: &Path, range: Range<u64>) -> Self {
        Self {
            walk: Walk::new(path),
            skip: range.start,
            left: range.end.saturating_sub(range.start),
            contents: None,
            framing: Vec::new(),
        }
    }

    /// Sends what is wanted of the framing made last.
    fn send_framing(&mut self, buffer: &mut Vec<u8>) {
        let length = self.framing.len() as u64;
        let from = self.skip.min(length);
        let to = length.min(from.saturating_add(self.left));
        self.skip -= from;
        self.left -= to - from;
        // Both are at most the framing's length, which is a usize.
        buffer.extend_from_slice(&self.framing[from as usize..to as usize]);
        self.framing.clear();
    }

    /// Goes to the first byte wanted of the file that the walk stands at, if one is.
    fn begin_contents(&mut self, size: u64) -> io::Result<()> {
        if self.skip >= size {
            self.skip -= size;
        } else if self.left > 0 {
            let end = size.min(self.skip.saturating_add(self.left));
            self.contents = Some(Contents::new(self.walk.contents()?, self.skip..end));
            self.skip = 0;
        }
        Ok(())
    }

    fn send_contents(&mut self, buffer: &mut Vec<u8>, blocking: Blocking) -> io::Result<bool> {
        let Some(contents) = &mut self.contents else { return Ok(false) };
        let before = contents.left();
        let sent = contents.fill(buffer, blocking);
        let after = contents.left();
        self.left -= before - after;
        if after == 0 {
            self.contents = None;
        }
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                Err(self.error(&error.to_string()))
            }
            sent => sent.map(|()| true),
        }
    }

    fn error(&self, what: &str) -> io::Error {
        io::Error::other(format!("{what}: {}", self.walk.path().display()))
    }
}

impl Source for Dump {
    fn fill(&mut self, buffer: &mut Vec<u8>, blocking: Blocking) -> io::Result<()> {
        if self.skip > 0 {
            // The way to where a range begins leads over files that nobody opens.
            blocking.needed()?;
        }
        let room = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        buffer.reserve(room.saturating_sub(buffer.len()));
        while self.left > 0 && buffer.len() < CHUNK {
            if self.send_contents(buffer, blocking)? {
                continue;
            }
            let Some(piece) = self.walk.next(self.skip == 0, blocking)? else {
                return Err(self.error("the path is smaller than its NAR was"));
            };
            piece.encode(&mut self.framing);
            self.send_framing(buffer);
            if let Piece::RegularStart { size, .. } = piece {
                self.begin_contents(size)?;
            }
        }
        Ok(())
    }
}

/// The files inside a path, with the place of each one's contents in the NAR. Reads metadata only.
pub fn list(path: &Path) -> io::Result<Listing> {
    let mut walk = Walk::new(path);
    let mut builder = ListingBuilder::new();
    let mut framing = Vec::new();
    let mut offset = 0;
    while let Some(piece) = walk.next(false, Blocking::Allowed)? {
        piece.encode(&mut framing);
        offset += framing.len() as u64;
        framing.clear();
        if let Some(event) = piece.event(offset) {
            builder.push(&event).map_err(io::Error::other)?;
        }
        if let Piece::RegularStart { size, .. } = piece {
            offset += size;
        }
    }
    builder.push(&Event::End).map_err(io::Error::other)?;
    builder.finish().map_err(io::Error::other)
}
