//! Part of a regular file, read to its end and never beyond.
//!
//! Plain reads, never a memory map: a mapped file that changes or shrinks would send bytes that were
//! never in it. A file that became shorter is an error; it is not padded.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::read_ahead::{Blocking, CHUNK, Source};

/// Part of a regular file.
#[derive(Debug)]
pub struct Contents {
    file: File,
    offset: u64,
    end: u64,
}

impl Contents {
    /// The bytes `range` of a file.
    pub fn new(file: File, range: Range<u64>) -> Self {
        Self { file, offset: range.start, end: range.end }
    }

    /// Bytes not yet read.
    pub(crate) fn left(&self) -> u64 {
        self.end.saturating_sub(self.offset)
    }
}

impl Source for Contents {
    fn fill(&mut self, buffer: &mut Vec<u8>, blocking: Blocking) -> io::Result<()> {
        let flags = match blocking {
            Blocking::Allowed => ReadWriteFlags::empty(),
            // Answers from the page cache, or not at all.
            Blocking::Forbidden => ReadWriteFlags::NOWAIT,
        };
        while self.left() > 0 && buffer.len() < CHUNK {
            let begin = buffer.len();
            let space = CHUNK - begin;
            let wanted = usize::try_from(self.left()).map_or(space, |left| left.min(space));
            buffer.resize(begin + wanted, 0);
            let read = preadv2(
                &self.file,
                &mut [IoSliceMut::new(&mut buffer[begin..])],
                self.offset,
                flags,
            );
            buffer.truncate(begin + read.unwrap_or(0));
            match read {
                Ok(0) => {
                    return Err(io::Error::other("a file became shorter while it was read"));
                }
                Ok(read) => self.offset += read as u64,
                Err(Errno::INTR) => {}
                // Some file systems cannot tell what waits and what does not.
                Err(Errno::OPNOTSUPP) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
