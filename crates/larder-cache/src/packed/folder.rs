//! The folder that packed NARs are kept in.
//!
//! Promise: a file in it is whole. One under way has no name, so that it is gone with the process that writes
//! it, whatever ends that; it is flushed to the disk before it gets its name. So nothing has to be swept up, and
//! several processes may use one folder. Files that are not ours are left alone.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;
use std::os::fd::AsRawFd;

use super::kept::Kept;

/// A folder of packed NARs.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The folder at an absolute path, made where it is not there, and what is kept in it, the least recently used
    /// first.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Kept>)> {
        let folder = Self(path.to_owned());
        // Whether files can be made here at all is better known now than with the first NAR.
        folder.draft()?;
        let mut used = Vec::new();
        for kept in folder.list()? {
            // Gone meanwhile, or of another size: a file that another process removes, or none of ours.
            if let Ok(metadata) = fs::metadata(folder.path(&kept))
                && metadata.len() == kept.size
            {
                used.push((metadata.atime().max(metadata.mtime()), kept));
            }
        }
        used.sort_by_key(|(time, _)| *time);
        Ok((folder, used.into_iter().map(|(_, kept)| kept).collect()))
    }

    /// What is kept in it, in no order.
    pub(super) fn list(&self) -> io::Result<Vec<Kept>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            found.extend(entry?.file_name().to_str().and_then(Kept::of_name));
        }
        Ok(found)
    }

    /// An empty file without a name.
    pub(super) fn draft(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let opened = match open(&self.0, flags, mode) {
            Err(Errno::NOENT) => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
                open(&self.0, flags, mode)
            }
            opened => opened,
        };
        match opened {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => Err(io::Error::other(
                "its file system has no files without a name (O_TMPFILE), as ext4, XFS, Btrfs and ZFS have",
            )),
            opened => Ok(File::from(opened?)),
        }
    }

    /// Gives a whole file its name.
    pub(super) fn keep(&self, file: &File, kept: &Kept) -> io::Result<()> {
        file.sync_data()?;
        // What `linkat` has for it besides needs a privilege.
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = || linkat(CWD, &own, CWD, self.path(kept), AtFlags::SYMLINK_FOLLOW);
        match link() {
            // Another process was as fast. The name says what is in it.
            Err(Errno::EXIST) if self.file(kept)?.is_some() => Ok(()),
            // Somebody cut it off.
            Err(Errno::EXIST) => {
                self.remove(kept)?;
                Ok(link()?)
            }
            linked => Ok(linked?),
        }
    }

    /// The file, if it is there.
    pub(super) fn file(&self, kept: &Kept) -> io::Result<Option<File>> {
        match File::open(self.path(kept)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => {
                let file = file?;
                let whole = file.metadata()?.len() == kept.size;
                Ok(whole.then_some(file))
            }
        }
    }

    /// Removes a file. Who reads it reads on.
    pub(super) fn remove(&self, kept: &Kept) -> io::Result<()> {
        match fs::remove_file(self.path(kept)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Where it is, as people write it.
    pub(super) fn display(&self) -> std::path::Display<'_> {
        self.0.display()
    }

    fn path(&self, kept: &Kept) -> PathBuf {
        self.0.join(kept.to_string())
    }
}
