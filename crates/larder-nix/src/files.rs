//! One file inside a store path.
//!
//! Promise: nothing outside of the store path is ever opened. Each step is taken from a folder that is
//! open and follows no symlink; symlinks are read and resolved here, and one that leads out of the
//! path (up, or to an absolute path that is not this one) is answered like a file that is not there.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
};

use larder_formats::store_path::{StoreDir, StorePath};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat},
    io::Errno,
};

/// Symlinks followed for one file; Linux follows as many.
const SYMLINKS: usize = 40;

/// What lies at a place inside a store path.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    Regular {
        /// Bytes in it.
        size: u64,
        /// Its contents.
        file: File,
    },
    /// A folder: what is in it, sorted by name.
    Directory(Vec<Entry>),
}

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry of a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, and the bytes in it.
    Regular(u64),
    /// A folder.
    Directory,
    /// A symlink, and what it says. It need not lead anywhere.
    Symlink(OsString),
}

/// Finds what lies at `names`, one below the other, inside of a store path whose files are at `real`.
/// `None` if there is nothing, or only a way out of the path.
pub fn find(
    real: &Path,
    store_dir: &StoreDir,
    path: &StorePath,
    names: &[OsString],
) -> io::Result<Option<Found>> {
    let itself = store_dir.display(path);
    let mut walk = Walk { real, itself: itself.as_bytes(), at: Vec::new(), followed: 0 };
    match walk.to(names) {
        Ok(found) => Ok(found),
        // Not there, not a folder, a name or a number of symlinks that no file can have.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL | Errno::LOOP) => {
            Ok(None)
        }
        Err(error) => {
            let error = io::Error::from(error);
            Err(io::Error::new(error.kind(), format!("{}: {error}", real.display())))
        }
    }
}

struct Walk<'a> {
    real: &'a Path,
    /// The path as symlinks call it.
    itself: &'a [u8],
    /// The folders passed, none of them a symlink.
    at: Vec<OsString>,
    followed: usize,
}

impl Walk<'_> {
    fn to(&mut self, names: &[OsString]) -> Result<Option<Found>, Errno> {
        let mut ahead: VecDeque<OsString> = names.iter().cloned().collect();
        let mut folder = open(None, self.real.as_os_str())?;
        while let Some(name) = ahead.pop_front() {
            match name.as_bytes() {
                b"" | b"." => {}
                b".." => {
                    if self.at.pop().is_none() {
                        return Ok(None);
                    }
                    folder = self.again()?;
                }
                _ => match open(Some(&folder), &name) {
                    Ok(next) => {
                        folder = next;
                        self.at.push(name);
                    }
                    // It is a symlink.
                    Err(Errno::LOOP) => {
                        let target = readlinkat(&folder, &name, Vec::new())?.into_bytes();
                        if !self.turn(&target, &mut ahead) {
                            return Ok(None);
                        }
                        folder = self.again()?;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        found(folder)
    }

    /// Puts a symlink's target in place of its name. False if it leads out of the path.
    fn turn(&mut self, target: &[u8], ahead: &mut VecDeque<OsString>) -> bool {
        self.followed += 1;
        let rest = match target.strip_prefix(self.itself) {
            Some(rest) if rest.is_empty() || rest[0] == b'/' => {
                self.at.clear();
                rest
            }
            _ if target.starts_with(b"/") => return false,
            _ => target,
        };
        for name in rest.split(|byte| *byte == b'/').rev() {
            ahead.push_front(OsString::from_vec(name.to_vec()));
        }
        self.followed <= SYMLINKS
    }

    /// Opens the folder that the walk stands at, from the beginning.
    fn again(&self) -> Result<OwnedFd, Errno> {
        let mut folder = open(None, self.real.as_os_str())?;
        for name in &self.at {
            folder = open(Some(&folder), name)?;
        }
        Ok(folder)
    }
}

fn open(folder: Option<&OwnedFd>, name: &OsStr) -> Result<OwnedFd, Errno> {
    // NONBLOCK, so that what is no regular file keeps nobody waiting.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match folder {
        Some(folder) => openat(folder, name, flags, Mode::empty()),
        None => openat(CWD, name, flags, Mode::empty()),
    }
}

fn found(fd: OwnedFd) -> Result<Option<Found>, Errno> {
    let stat = fstat(&fd)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            Some(Found::Regular { size: stat.st_size.unsigned_abs(), file: File::from(fd) })
        }
        FileType::Directory => Some(Found::Directory(entries(&fd)?)),
        _ => None,
    })
}

fn entries(fd: &OwnedFd) -> Result<Vec<Entry>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::Regular(stat.st_size.unsigned_abs()),
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => {
                let target = readlinkat(fd, name, Vec::new())?;
                EntryKind::Symlink(OsString::from_vec(target.into_bytes()))
            }
            // Nix puts nothing else into a store.
            _ => continue,
        };
        entries.push(Entry { name: OsStr::from_bytes(name.to_bytes()).to_owned(), kind });
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}
