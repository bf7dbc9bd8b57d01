//! A store path as a NAR, made while it is read.
//!
//! Files are read in plain reads, never mapped into memory: a mapped file that changes or shrinks
//! would send bytes that were never in it. Contents of different lengths than the file had when its
//! header was sent end the dump with an error. A range is found by adding up lengths, so resuming a
//! download at its end costs one look at each file's metadata before it and no reading. Memory is one
//! directory's names per level, and the caller's buffer.

mod walk;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use larder_formats::nar::{Event, Listing, ListingBuilder};
use walk::{Piece, Walk};

use crate::read_ahead::{CHUNK, Source};

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

/// A file whose contents are being sent.
#[derive(Debug)]
struct Contents {
    file: File,
    left: u64,
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
            let mut file = self.walk.contents()?;
            if self.skip > 0 {
                file.seek(SeekFrom::Start(self.skip))?;
            }
            self.contents = Some(Contents { file, left: size - self.skip });
            self.skip = 0;
        }
        Ok(())
    }

    fn send_contents(&mut self, contents: &mut Contents, buffer: &mut Vec<u8>) -> io::Result<()> {
        let space = CHUNK.saturating_sub(buffer.len()) as u64;
        let wanted = space.min(contents.left).min(self.left);
        let read = (&mut contents.file).take(wanted).read_to_end(buffer)? as u64;
        if read < wanted {
            return Err(self.error("a file became shorter while it was read"));
        }
        contents.left -= read;
        self.left -= read;
        Ok(())
    }

    fn error(&self, what: &str) -> io::Error {
        io::Error::other(format!("{what}: {}", self.walk.path().display()))
    }
}

impl Source for Dump {
    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        while self.left > 0 && buffer.len() < CHUNK {
            if let Some(mut contents) = self.contents.take() {
                self.send_contents(&mut contents, buffer)?;
                if contents.left > 0 {
                    self.contents = Some(contents);
                }
                continue;
            }
            let Some(piece) = self.walk.next(self.skip == 0)? else {
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
    while let Some(piece) = walk.next(false)? {
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
