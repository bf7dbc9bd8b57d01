//! What lies in a directory: names as the system hands them out, each looked at from the folder that it is in.

use std::{ffi::CStr, io, path::Path, sync::Arc};

use futures::{StreamExt, stream};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat},
    io::Errno,
};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{is_absence, object};
use crate::storage::{Entry, EntryStream, Key, StorageError, StorageErrorKind};

/// Files that are handed over at once, and how many such portions may wait.
const BATCH: usize = 512;
const WAITING: usize = 8;

/// Bytes of names that are asked for at once.
const NAMES: usize = 32 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    One,
    All,
}

/// The files in a folder, or in all.
pub(super) fn of(root: &Arc<Path>, folder: Option<&Key>, depth: Depth) -> EntryStream {
    let (sender, receiver) = mpsc::channel(WAITING);
    let start = folder.map_or_else(String::new, ToString::to_string);
    let path = root.join(&start);
    let what = format!("listing {}", path.display());
    let failing = what.clone();
    let walk = spawn_blocking(move || {
        let mut walk = Walk { depth, sender, batch: Vec::with_capacity(BATCH) };
        let walked = open(CWD, &path).and_then(|opened| match opened {
            Some(folder) => walk.folder(&folder, &start),
            None => Ok(()),
        });
        if let Err(error) = walked {
            walk.batch.push(Err(StorageError::io(failing, error)));
        }
        walk.flush();
    });
    let batches = stream::unfold(Some((receiver, walk, what)), |state| async move {
        let (mut receiver, walk, what) = state?;
        if let Some(batch) = receiver.recv().await {
            return Some((stream::iter(batch), Some((receiver, walk, what))));
        }
        // A walk that broke off must not look like one that found no more.
        let error = walk.await.err()?;
        let error = StorageError::new(StorageErrorKind::Permanent, what, error);
        Some((stream::iter(vec![Err(error)]), None))
    });
    Box::pin(batches.flatten())
}

/// A folder; nothing if it is not there, was removed meanwhile, or is none at all.
fn open(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(at, path, flags, Mode::empty()).map_err(io::Error::from) {
        Err(error) if is_absence(&error) => Ok(None),
        opened => opened.map(Some),
    }
}

/// A listing on its way from the thread that walks to the one that asked.
struct Walk {
    depth: Depth,
    sender: mpsc::Sender<Vec<Result<Entry, StorageError>>>,
    batch: Vec<Result<Entry, StorageError>>,
}

impl Walk {
    fn folder(&mut self, folder: &OwnedFd, path: &str) -> io::Result<()> {
        let mut names = Vec::with_capacity(NAMES);
        let mut names = RawDir::new(folder, names.spare_capacity_mut());
        while let Some(entry) = names.next() {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            // What is ours, and what a file system has at the top of a disk, where few may look.
            if path.is_empty() && matches!(name, ".larder" | "lost+found") {
                continue;
            }
            let key =
                if path.is_empty() { Key::new(name) } else { Key::new(format!("{path}/{name}")) };
            let Ok(key) = key else { continue };
            if !self.entry(folder, entry.file_name(), entry.file_type(), key)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Says whether anybody still listens.
    fn entry(
        &mut self,
        folder: &OwnedFd,
        name: &CStr,
        kind: FileType,
        key: Key,
    ) -> io::Result<bool> {
        let kind = match kind {
            // Some file systems do not tell.
            FileType::Unknown => match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(true),
                found => FileType::from_raw_mode(found?.st_mode),
            },
            kind => kind,
        };
        if kind == FileType::Directory {
            if self.depth == Depth::All
                && let Some(below) = open(folder.as_fd(), name)?
            {
                self.folder(&below, key.as_str())?;
            }
            return Ok(!self.sender.is_closed());
        }
        let found = match statat(folder, name, AtFlags::empty()).map_err(io::Error::from) {
            // Removed meanwhile, or a symlink to nowhere or to itself.
            Err(error) if is_absence(&error) => return Ok(true),
            found => found?,
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(true);
        }
        self.batch.push(Ok(Entry { key, object: object(&found)? }));
        Ok(self.batch.len() < BATCH || self.flush())
    }

    fn flush(&mut self) -> bool {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.sender.blocking_send(batch).is_ok()
    }
}
