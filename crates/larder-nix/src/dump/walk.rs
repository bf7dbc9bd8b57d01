//! A file tree in the order of its NAR, one small piece after the other.

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use larder_formats::nar::{Encoder, Event};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2,
    readlinkat, statat,
};

use crate::read_ahead::Blocking;

/// Folders kept open at once, for each walk. What lies deeper is found by its whole path, so that a
/// deep tree costs time and not file descriptors.
const OPEN_FOLDERS: usize = 32;

/// How files are opened. What is no regular file after all must not make us wait for its other end.
const FILE: OFlags = OFlags::NONBLOCK.union(NODE);

/// A symlink is what it says, not what it leads to.
const NODE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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
    /// The folders begun and not ended.
    open: Vec<Folder>,
    next: Next,
    /// What the directory said the next node is.
    kind: FileType,
    /// The regular file that the last piece began, opened if it was wanted.
    file: Option<File>,
}

#[derive(Debug)]
struct Folder {
    fd: Option<OwnedFd>,
    /// Names still to come.
    names: std::vec::IntoIter<(CString, FileType)>,
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
        Self {
            path: path.to_owned(),
            open: Vec::new(),
            next: Next::Magic,
            kind: FileType::Unknown,
            file: None,
        }
    }

    /// The file that the last piece was about.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The contents of the regular file that the last piece began.
    pub(super) fn contents(&mut self) -> io::Result<File> {
        match self.file.take() {
            Some(file) => Ok(file),
            None => self.open(FILE).map(File::from),
        }
    }

    /// The next piece. With `wanted`, a regular file is opened where it begins, which tells its size
    /// as well and saves a look; without, only its metadata is looked at. Where waiting is forbidden and
    /// needed, the walk stays where it is.
    pub(super) fn next(&mut self, wanted: bool, blocking: Blocking) -> io::Result<Option<Piece>> {
        let piece = match self.next {
            Next::Nothing => return Ok(None),
            Next::Magic => {
                self.next = Next::Node;
                Piece::Magic
            }
            Next::Node => self.node(wanted, blocking).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => error,
                kind => io::Error::new(kind, format!("{}: {error}", self.path.display())),
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
            Next::Entry => match self.open.last_mut().and_then(|folder| folder.names.next()) {
                Some((name, kind)) => {
                    let name = OsString::from_vec(name.into_bytes());
                    self.path.push(&name);
                    self.kind = kind;
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

    fn node(&mut self, wanted: bool, blocking: Blocking) -> io::Result<Piece> {
        if blocking == Blocking::Forbidden && wanted {
            return self.at_once();
        }
        blocking.needed()?;
        if self.kind == FileType::Unknown {
            self.kind = FileType::from_raw_mode(self.stat()?.st_mode);
        }
        match self.kind {
            FileType::RegularFile => self.regular(wanted),
            FileType::Symlink => {
                let (folder, name) = self.place();
                let target = readlinkat(folder, name, Vec::new())?.into_bytes();
                self.next = self.after_node();
                Ok(Piece::Symlink { target })
            }
            FileType::Directory => self.directory(),
            _ => Err(io::Error::other("neither a file nor a symlink nor a directory")),
        }
    }

    /// A regular file that is known to be in memory, which the root of a path often is. Of all else
    /// nobody can tell whether it makes one wait.
    fn at_once(&mut self) -> io::Result<Piece> {
        let wait = || io::Error::from(io::ErrorKind::WouldBlock);
        if !matches!(self.kind, FileType::RegularFile | FileType::Unknown) {
            return Err(wait());
        }
        let (folder, name) = self.place();
        // Whatever is wrong is told to who may wait.
        let file = openat2(folder, name, FILE, Mode::empty(), ResolveFlags::CACHED);
        let file = File::from(file.map_err(|_| wait())?);
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(wait());
        }
        self.file = Some(file);
        self.begin(&stat)
    }

    fn regular(&mut self, wanted: bool) -> io::Result<Piece> {
        let stat = if wanted {
            let file = File::from(self.open(FILE)?);
            let stat = fstat(&file)?;
            self.file = Some(file);
            stat
        } else {
            self.stat()?
        };
        self.begin(&stat)
    }

    fn begin(&mut self, stat: &Stat) -> io::Result<Piece> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("the file changed while it was read"));
        }
        let size = u64::try_from(stat.st_size).map_err(io::Error::other)?;
        self.next = Next::RegularEnd(size);
        // Nix looks at the owner's bit alone.
        Ok(Piece::RegularStart { executable: stat.st_mode & 0o100 != 0, size })
    }

    fn directory(&mut self) -> io::Result<Piece> {
        let fd = self.open(NODE | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let fd = (self.open.len() < OPEN_FOLDERS).then_some(fd);
        self.open.push(Folder { fd, names: names.into_iter() });
        self.next = Next::Entry;
        Ok(Piece::DirectoryStart)
    }

    fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let (folder, name) = self.place();
        Ok(openat(folder, name, flags, Mode::empty())?)
    }

    fn stat(&self) -> io::Result<Stat> {
        let (folder, name) = self.place();
        Ok(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Where the next node is, by the shortest way: in the folder that is open, or by its whole path.
    fn place(&self) -> (BorrowedFd<'_>, &OsStr) {
        let folder = self.open.last().and_then(|folder| folder.fd.as_ref());
        match (folder, self.path.file_name()) {
            (Some(folder), Some(name)) => (folder.as_fd(), name),
            _ => (CWD, self.path.as_os_str()),
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
