//! A directory of this machine.
//!
//! What is written is first written elsewhere in it (`.larder/drafts`), flushed to the disk, and given
//! its name then; the name is flushed too before anything is acknowledged. So any program that reads the
//! directory sees whole files, and a crash leaves drafts at most.

mod listing;

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use larder_nix::{
    contents::Contents,
    read_ahead::{self, Blocking},
};
use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fcntl_getfl, fcntl_setfl, fstat, openat2,
    },
    io::Errno,
};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use self::listing::Depth;
use super::{
    Draft, EntryStream, Key, Object, ObjectStream, Opened, Storage, StorageError, StorageErrorKind,
    key_of, location::file_url, range,
};

/// Where files lie until they have their name.
const DRAFTS: &str = ".larder/drafts";

/// Anybody may read what is published; who may enter the directory is its owner's business.
const MODE: u32 = 0o644;

/// A directory, which is made when something is first written to it.
#[derive(Clone, Debug)]
pub struct Directory {
    root: Arc<Path>,
    url: Arc<str>,
    flushed: bool,
}

impl Directory {
    /// The directory at an absolute path.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: Arc::from(root), url: file_url(root).into(), flushed: true }
    }

    /// The same for what can be had again: nothing waits for the disk, and after a power failure files may be empty.
    #[must_use]
    pub fn fleeting(root: &Path) -> Self {
        Self { flushed: false, ..Self::new(root) }
    }

    /// Where an object lies.
    #[must_use]
    pub fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: String,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let this = self.clone();
        match spawn_blocking(move || work(&this)).await {
            Ok(done) => done.map_err(|error| StorageError::io(what, error)),
            Err(panicked) => Err(StorageError::new(StorageErrorKind::Permanent, what, panicked)),
        }
    }

    /// Opens an object at once where all it takes is in memory, and on a thread that may wait where it is not:
    /// handing it from thread to thread costs more than opening it.
    async fn found(&self, key: &Key) -> Result<Option<(File, Object)>, StorageError> {
        let path = self.path(key);
        match open(&path, Blocking::Forbidden) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocking(self.what("reading", key), move |_| open(&path, Blocking::Allowed))
                    .await
            }
            opened => opened.map_err(|error| StorageError::io(self.what("reading", key), error)),
        }
    }

    fn what(&self, doing: &str, key: &Key) -> String {
        format!("{doing} {}", self.path(key).display())
    }

    fn new_draft(&self) -> io::Result<NamedTempFile> {
        let folder = self.root.join(DRAFTS);
        make_folder(&folder)?;
        tempfile::Builder::new().prefix("draft-").tempfile_in(folder)
    }

    /// Flushes a file, gives it its name, and flushes that.
    fn publish(&self, file: NamedTempFile, key: &Key) -> io::Result<()> {
        let to = self.path(key);
        let folder = to.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        file.as_file().set_permissions(Permissions::from_mode(MODE))?;
        if !self.flushed {
            return file.persist(&to).map(|_| ()).map_err(|error| error.error);
        }
        file.as_file().sync_all()?;
        file.persist(&to).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }
}

fn object(file: &Stat) -> io::Result<Object> {
    // The system's types differ from processor to processor.
    let time = |seconds, nanoseconds: Option<i32>| {
        Timestamp::new(seconds, nanoseconds.unwrap_or_default()).map_err(io::Error::other)
    };
    Ok(Object {
        size: u64::try_from(file.st_size).unwrap_or_default(),
        modified: time(file.st_mtime, file.st_mtime_nsec.try_into().ok())?,
        accessed: Some(time(file.st_atime, file.st_atime_nsec.try_into().ok())?),
    })
}

/// Makes a folder and what is above it, each flushed to the one it lies in.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(above) = folder.parent() else { return Ok(()) };
    make_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| File::open(above)?.sync_all()),
    }
}

/// Whether it says that nothing can be there: no such file, a file where a folder would be, or symlinks
/// that lead nowhere.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// An open file, if there is one. Where waiting is forbidden, an answer comes from memory or is an error of the kind
/// `WouldBlock`.
fn open(path: &Path, blocking: Blocking) -> io::Result<Option<(File, Object)>> {
    let resolve = match blocking {
        Blocking::Allowed => ResolveFlags::empty(),
        Blocking::Forbidden => ResolveFlags::CACHED,
    };
    // Nobody writes to a pipe that somebody has put here.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = match openat2(CWD, path, flags, Mode::empty(), resolve) {
        // Where the call is unknown or not allowed.
        Err(Errno::NOSYS | Errno::PERM) if blocking == Blocking::Allowed => File::open(path),
        Err(Errno::NOSYS | Errno::PERM) => Err(io::ErrorKind::WouldBlock.into()),
        opened => opened.map(File::from).map_err(io::Error::from),
    };
    let file = match opened {
        Err(error) if is_absence(&error) => return Ok(None),
        file => file?,
    };
    let found = fstat(&file)?;
    let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    if is_file { Ok(Some((file, object(&found)?))) } else { Ok(None) }
}

fn contents(
    file: File,
    range: Range<u64>,
    what: impl Fn() -> String + Send + 'static,
) -> ObjectStream {
    let contents = read_ahead::stream(Contents::new(file, range));
    Box::pin(contents.map(move |chunk| chunk.map_err(|error| StorageError::io(what(), error))))
}

#[async_trait]
impl Storage for Directory {
    fn url(&self) -> &str {
        &self.url
    }

    async fn stat(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        Ok(self.found(key).await?.map(|(_, object)| object))
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError> {
        let Some((file, Object { size, .. })) = self.found(key).await? else { return Ok(None) };
        let failed = |error| StorageError::io(self.what("reading", key), error);
        if size > limit as u64 {
            let what = format!("{size} bytes, where {limit} are expected at most");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let chunks = read_ahead::stream(Contents::new(file, 0..size));
        let mut chunks = std::pin::pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(failed)?;
            if bytes.is_empty() && chunk.len() as u64 == size {
                return Ok(Some(chunk));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(Bytes::from(bytes)))
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<ObjectStream>, StorageError> {
        let Some((file, Object { size, .. })) = self.found(key).await? else { return Ok(None) };
        range::check(&range, size, || self.what("reading", key))?;
        // Whoever uses an object opens it or follows a link to it. Here it is looked at, by a check that looks at all
        // others too: the system is asked not to note that, which it grants to a file's owner.
        if let Ok(flags) = fcntl_getfl(&file) {
            let _ = fcntl_setfl(&file, flags | OFlags::NOATIME);
        }
        let (this, key) = (self.clone(), key.clone());
        Ok(Some(contents(file, range, move || this.what("reading", &key))))
    }

    async fn follow(&self, link: &str, from: u64) -> Result<Option<ObjectStream>, StorageError> {
        let opened = self.open(&key_of(link, self)?).await?;
        Ok(opened.map(|Opened { size, read }| read(from.min(size)..size)))
    }

    async fn open(&self, key: &Key) -> Result<Option<Opened>, StorageError> {
        let Some((file, Object { size, .. })) = self.found(key).await? else { return Ok(None) };
        let (this, key) = (self.clone(), key.clone());
        let what = move || this.what("reading", &key);
        let read = Box::new(move |part| match range::check(&part, size, &what) {
            Ok(()) => contents(file, part, what),
            Err(error) => Box::pin(stream::once(std::future::ready(Err(error)))),
        });
        Ok(Some(Opened { size, read }))
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StorageError> {
        let to = key.clone();
        self.blocking(self.what("writing", key), move |this| {
            let mut file = this.new_draft()?;
            file.write_all(&bytes)?;
            this.publish(file, &to)
        })
        .await
    }

    async fn draft(&self) -> Result<Box<dyn Draft>, StorageError> {
        let what = format!("beginning a file in {}", self.root.display());
        let file = self.blocking(what, Self::new_draft).await?;
        Ok(Box::new(FileDraft { directory: self.clone(), file: Some(file) }))
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        let path = self.path(key);
        self.blocking(self.what("removing", key), move |_| match fs::remove_file(path) {
            Err(error) if is_absence(&error) => Ok(()),
            removed => removed,
        })
        .await
    }

    fn list(&self, folder: Option<&Key>) -> EntryStream {
        listing::of(&self.root, folder, Depth::All)
    }

    fn list_shallow(&self, folder: Option<&Key>) -> EntryStream {
        listing::of(&self.root, folder, Depth::One)
    }
}

/// A file that has no name yet.
struct FileDraft {
    directory: Directory,
    /// Away while it is written to; gone for good after a failure.
    file: Option<NamedTempFile>,
}

impl FileDraft {
    fn taken(&mut self) -> Result<NamedTempFile, StorageError> {
        self.file.take().ok_or_else(|| {
            let what = format!("writing to {}", self.directory.root.display());
            StorageError::new(StorageErrorKind::Permanent, what, "an earlier write failed")
        })
    }
}

#[async_trait]
impl Draft for FileDraft {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let mut file = self.taken()?;
        let what = format!("writing to {}", file.path().display());
        let write = move |_: &Directory| file.write_all(&bytes).map(|()| file);
        self.file = Some(self.directory.blocking(what, write).await?);
        Ok(())
    }

    async fn publish(mut self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        let (file, to) = (self.taken()?, key.clone());
        let what = self.directory.what("writing", key);
        self.directory.blocking(what, move |directory| directory.publish(file, &to)).await
    }
}
