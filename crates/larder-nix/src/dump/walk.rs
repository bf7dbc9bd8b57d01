//! A file tree in the order of its NAR, one small piece after the other.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use larder_formats::nar::{Encoder, Event};

/// A step through a tree.
#[derive(Debug)]
pub(super) enum Piece {
    Magic,
    RegularStart { executable: bool, size: u64 },
    RegularEnd { size: u64 },
    Symlink { target: Vec<u8> },
    DirectoryStart,
    EntryStart { name: OsString },
    EntryEnd,
    DirectoryEnd,
}

/// Yields the pieces of a tree. Names the place it stands at.
#[derive(Debug)]
pub(super) struct Walk {
    path: PathBuf,
    /// Names still to come, for each directory that is open.
    open: Vec<std::vec::IntoIter<OsString>>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    Magic,
    Node,
    RegularEnd(u64),
    EntryEnd,
    Entry,
    Nothing,
}

impl Walk {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: Vec::new(), next: Next::Magic }
    }

    /// The file that the last piece was about.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        let piece = match self.next {
            Next::Nothing => return Ok(None),
            Next::Magic => {
                self.next = Next::Node;
                Piece::Magic
            }
            Next::Node => self.node().map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
            })?,
            Next::RegularEnd(size) => {
                self.next = self.after_node();
                Piece::RegularEnd { size }
            }
            Next::EntryEnd => {
                self.path.pop();
                self.next = Next::Entry;
                Piece::EntryEnd
            }
            Next::Entry => match self.open.last_mut().and_then(Iterator::next) {
                Some(name) => {
                    self.path.push(&name);
                    self.next = Next::Node;
                    Piece::EntryStart { name }
                }
                None => {
                    self.open.pop();
                    self.next = self.after_node();
                    Piece::DirectoryEnd
                }
            },
        };
        Ok(Some(piece))
    }

    fn node(&mut self) -> io::Result<Piece> {
        let metadata = fs::symlink_metadata(&self.path)?;
        let kind = metadata.file_type();
        if kind.is_file() {
            let size = metadata.len();
            self.next = Next::RegularEnd(size);
            // Nix looks at the owner's bit alone.
            let executable = metadata.permissions().mode() & 0o100 != 0;
            Ok(Piece::RegularStart { executable, size })
        } else if kind.is_symlink() {
            self.next = self.after_node();
            Ok(Piece::Symlink { target: fs::read_link(&self.path)?.into_os_string().into_vec() })
        } else if kind.is_dir() {
            let mut names = fs::read_dir(&self.path)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            self.open.push(names.into_iter());
            self.next = Next::Entry;
            Ok(Piece::DirectoryStart)
        } else {
            Err(io::Error::other("neither a file nor a symlink nor a directory"))
        }
    }

    fn after_node(&self) -> Next {
        if self.open.is_empty() { Next::Nothing } else { Next::EntryEnd }
    }
}

impl Piece {
    /// Appends the piece's bytes; the contents of a file are not among them.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut encoder = Encoder::new(out);
        match self {
            Self::Magic => encoder.magic(),
            Self::RegularStart { executable, size } => encoder.regular_start(*executable, *size),
            Self::RegularEnd { size } => encoder.regular_end(*size),
            Self::Symlink { target } => encoder.symlink(target),
            Self::DirectoryStart => encoder.directory_start(),
            Self::EntryStart { name } => encoder.entry_start(name.as_bytes()),
            Self::EntryEnd => encoder.entry_end(),
            Self::DirectoryEnd => encoder.directory_end(),
        }
    }

    /// The piece as a decoder would report it; `offset` is the NAR's length up to and with it.
    pub(super) fn event(&self, offset: u64) -> Option<Event<'_>> {
        Some(match self {
            Self::Magic | Self::EntryEnd => return None,
            Self::RegularStart { executable, size } => {
                Event::RegularStart { executable: *executable, size: *size, offset }
            }
            Self::RegularEnd { .. } => Event::RegularEnd,
            Self::Symlink { target } => Event::Symlink { target },
            Self::DirectoryStart => Event::DirectoryStart,
            Self::EntryStart { name } => Event::Entry { name: name.as_bytes() },
            Self::DirectoryEnd => Event::DirectoryEnd,
        })
    }
}
