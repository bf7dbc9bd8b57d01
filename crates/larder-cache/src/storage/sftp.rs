//! A folder of another machine, by SFTP through the user's own ssh: no mount, nothing to install there.
//!
//! What is written is first written elsewhere in the folder (`.larder/drafts`), flushed to the other
//! machine's disk where its server can do that (OpenSSH's can), and given its name then, in place of what
//! had it. So a reader of the folder sees whole files. The *name* cannot be flushed by SFTP: when the
//! other machine loses power within seconds of an acknowledged write, the file may be missing from its
//! folder afterwards. It is never there in part.
//!
//! Everything goes through one connection, which is made when first needed and made anew when it breaks;
//! what can be begun again then is. The configuration of ssh decides who is who.

mod connection;
mod draft;

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use openssh_sftp_client::{file::File, metadata::MetaData};
use tokio::{io::AsyncSeekExt, sync::mpsc};

use self::{
    connection::{Connection, Failure, Session},
    draft::SftpDraft,
};
use super::{
    Draft, Entry, EntryStream, Key, Object, ObjectStream, Storage, StorageError, StorageErrorKind,
    location::SftpLocation, options::OpenOptions, range,
};

/// Where files lie until they have their name.
const DRAFTS: &str = ".larder/drafts";

/// Bytes asked for or sent at once; servers give and take no more.
const PIECE: u32 = 255 * 1024;

/// Pieces of one file under way: it takes one journey's time for all of them.
const AHEAD: usize = 8;

/// With less room than this, in bytes, a failure without a reason is taken for a full disk.
const ROOM: u64 = 1024 * 1024;

/// A folder of another machine.
#[derive(Clone)]
pub struct Sftp {
    connection: Connection,
    root: Arc<Path>,
    url: Arc<str>,
}

impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sftp").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Sftp {
    /// A folder, which is made when something is first written to it. Nobody is asked anything yet.
    #[must_use]
    pub fn new(location: &SftpLocation, options: &OpenOptions) -> Self {
        Self {
            connection: Connection::new(location, options),
            root: Path::new(&location.folder).into(),
            url: location.to_string().into(),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn what(&self, doing: &str, key: &Key) -> String {
        format!("{doing} {key} in {}", self.url)
    }

    /// An open file and its size, if there is one.
    async fn open(&self, key: &Key) -> Result<Option<(Arc<Session>, File, u64)>, Failure> {
        let path = self.path(key);
        let opened = self.connection.retrying(|session| {
            let path = path.clone();
            async move {
                let mut file = session.client.open(path).await?;
                let metadata = file.metadata().await?;
                let is_file = metadata.file_type().is_some_and(|kind| kind.is_file());
                Ok(is_file.then_some((session, file, metadata.len().unwrap_or(0))))
            }
        });
        match opened.await {
            Err(failure) if failure.is_missing() => Ok(None),
            opened => opened,
        }
    }

    /// Part of an open file, several pieces of it under way at once.
    fn pieces(
        &self,
        session: &Arc<Session>,
        file: &File,
        range: Range<u64>,
    ) -> impl futures::Stream<Item = Result<Bytes, Failure>> + Send + use<> {
        let (connection, session, file) = (self.connection.clone(), session.clone(), file.clone());
        let starts = range.clone().step_by(PIECE as usize);
        let ahead = stream::iter(starts).map(move |start| {
            let length = u32::try_from(range.end - start).unwrap_or(PIECE).min(PIECE);
            let (connection, session, file) = (connection.clone(), session.clone(), file.clone());
            async move { connection.watched(&session, piece(file, start, length)).await }
        });
        ahead.buffered(AHEAD)
    }

    /// A new file without a name that a reader would ask for.
    async fn new_draft(&self) -> Result<SftpDraft, StorageError> {
        let what = format!("beginning a file in {}", self.url);
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| {
            StorageError::new(StorageErrorKind::Permanent, what.clone(), error.to_string())
        })?;
        let name = format!("draft-{:032x}", u128::from_be_bytes(random));
        let folder = self.root.join(DRAFTS);
        let path = folder.join(name);
        let opened = self.connection.retrying(|session| {
            let (folder, path) = (folder.clone(), path.clone());
            async move {
                let mut options = session.client.options();
                // What a broken attempt may have made is taken over.
                options.write(true).create(true).truncate(true);
                let opened = match options.open(&path).await.map_err(Failure::from) {
                    Err(failure) if failure.is_missing() => {
                        make_folder(&session, &folder).await?;
                        options.open(&path).await.map_err(Failure::from)
                    }
                    opened => opened,
                };
                Ok((session, opened?))
            }
        });
        let (session, file) = match opened.await {
            Ok(opened) => opened,
            Err(failure) => return Err(self.perhaps_full(failure).await.into_error(what)),
        };
        Ok(SftpDraft::new(self.clone(), session, file, path))
    }

    /// The failure of a write, said as a full disk where it is one.
    async fn perhaps_full(&self, failure: Failure) -> Failure {
        if !failure.is_unexplained() {
            return failure;
        }
        let root = self.root.to_path_buf();
        let room = self.connection.once(|session| async move {
            let room = session.client.fs().statvfs(root).await?;
            Ok(room.bavail.saturating_mul(room.frsize))
        });
        match room.await {
            Ok(room) if room < ROOM => Failure::Found(
                StorageErrorKind::Full,
                "no room is left on the other machine's disk".to_owned(),
            ),
            _ => failure,
        }
    }

    fn listing(&self, folder: Option<&Key>, deep: bool) -> EntryStream {
        let (sender, receiver) = mpsc::channel(1024);
        let (this, start) = (self.clone(), folder.map(ToString::to_string).unwrap_or_default());
        let walk = tokio::spawn(async move {
            let walked = this.walk(&start, deep, &sender).await;
            if let Err(failure) = walked {
                let error = failure.into_error(format!("listing {start:?} in {}", this.url));
                let _ = sender.send(Err(error)).await;
            }
        });
        drop(walk);
        Box::pin(stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|entry| (entry, receiver))
        }))
    }

    async fn walk(
        &self,
        start: &str,
        deep: bool,
        found: &mpsc::Sender<Result<Entry, StorageError>>,
    ) -> Result<(), Failure> {
        let mut folders = vec![start.to_owned()];
        while let Some(folder) = folders.pop() {
            let path = self.root.join(&folder);
            let opened = self.connection.retrying(|session| {
                let path = path.clone();
                async move {
                    let folder = session.client.fs().open_dir(path).await?;
                    Ok((session, folder))
                }
            });
            let (session, listing) = match opened.await {
                // Not there, or removed meanwhile.
                Err(failure) if failure.is_missing() => continue,
                opened => opened?,
            };
            let mut listing = Box::pin(listing.read_dir());
            loop {
                let next = async { listing.try_next().await.map_err(Failure::from) };
                let Some(entry) = self.connection.watched(&session, next).await? else { break };
                let Some(name) = entry.filename().to_str() else { continue };
                let Some(key) = key_of(&folder, name) else { continue };
                let metadata = match entry.file_type() {
                    Some(kind) if kind.is_dir() => {
                        if deep {
                            folders.push(key.to_string());
                        }
                        continue;
                    }
                    Some(kind) if kind.is_file() => entry.metadata(),
                    Some(kind) if !kind.is_symlink() => continue,
                    _ => match self.metadata(&key).await? {
                        Some(metadata) => metadata,
                        None => continue,
                    },
                };
                let entry = Entry { key, object: object(&metadata) };
                if found.send(Ok(entry)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What the server says of a regular file, if there is one.
    async fn metadata(&self, key: &Key) -> Result<Option<MetaData>, Failure> {
        let path = self.path(key);
        let asked = self.connection.retrying(|session| {
            let path = path.clone();
            async move { Ok(session.client.fs().metadata(path).await?) }
        });
        match asked.await {
            Ok(metadata) => {
                let is_file = metadata.file_type().is_some_and(|kind| kind.is_file());
                Ok(is_file.then_some(metadata))
            }
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// The key of a file in a folder, unless it has none, or lies where none of ours are looked for.
fn key_of(folder: &str, name: &str) -> Option<Key> {
    if folder.is_empty() && matches!(name, ".larder" | "lost+found") {
        return None;
    }
    let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    Key::new(path).ok()
}

fn object(metadata: &MetaData) -> Object {
    let time = |time: openssh_sftp_client::UnixTimeStamp| {
        Timestamp::try_from(time.as_system_time()).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    Object {
        size: metadata.len().unwrap_or(0),
        modified: metadata.modified().map_or(Timestamp::UNIX_EPOCH, time),
        accessed: metadata.accessed().map(time),
    }
}

/// So many bytes of a file from there on.
async fn piece(mut file: File, start: u64, length: u32) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::with_capacity(length as usize);
    while bytes.len() < length as usize {
        let at = start + bytes.len() as u64;
        file.seek(std::io::SeekFrom::Start(at)).await.map_err(openssh_sftp_client::Error::from)?;
        let left = length - u32::try_from(bytes.len()).unwrap_or(length);
        let Some(more) = file.read(left, BytesMut::with_capacity(left as usize)).await? else {
            let reason = "a file became shorter while it was read".to_owned();
            return Err(Failure::Found(StorageErrorKind::Permanent, reason));
        };
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.freeze())
}

/// Makes a folder and what is above it.
async fn make_folder(session: &Session, folder: &Path) -> Result<(), Failure> {
    let mut fs = session.client.fs();
    let mut missing = Vec::new();
    for above in folder.ancestors().filter(|above| !above.as_os_str().is_empty()) {
        match fs.metadata(above).await.map_err(Failure::from) {
            Ok(_) => break,
            Err(failure) if failure.is_missing() => missing.push(above),
            Err(failure) => return Err(failure),
        }
    }
    for folder in missing.into_iter().rev() {
        match fs.create_dir(folder).await.map_err(Failure::from) {
            // Somebody else made it, or it cannot be made: what is done in it will tell.
            Err(failure) if failure.is_unexplained() => {}
            made => made?,
        }
    }
    Ok(())
}

#[async_trait]
impl Storage for Sftp {
    fn url(&self) -> &str {
        &self.url
    }

    async fn stat(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        let metadata = self.metadata(key).await;
        let metadata = metadata.map_err(|error| error.into_error(self.what("looking at", key)))?;
        Ok(metadata.as_ref().map(object))
    }

    async fn get(&self, key: &Key, limit: usize) -> Result<Option<Bytes>, StorageError> {
        let what = || self.what("reading", key);
        let opened = self.open(key).await.map_err(|error| error.into_error(what()))?;
        let Some((session, file, size)) = opened else { return Ok(None) };
        if size > limit as u64 {
            return Err(StorageError::too_large(what(), limit));
        }
        let pieces = self.pieces(&session, &file, 0..size);
        let bytes = pieces.try_fold(BytesMut::new(), |mut bytes, piece| async move {
            bytes.extend_from_slice(&piece);
            Ok(bytes)
        });
        Ok(Some(bytes.await.map_err(|error| error.into_error(what()))?.freeze()))
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<ObjectStream>, StorageError> {
        let what = self.what("reading", key);
        let opened = self.open(key).await.map_err(|error| error.into_error(what.clone()))?;
        let Some((session, file, size)) = opened else { return Ok(None) };
        range::check(&range, size, || what.clone())?;
        let pieces = self.pieces(&session, &file, range);
        Ok(Some(Box::pin(pieces.map_err(move |error| error.into_error(what.clone())))))
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StorageError> {
        let mut draft = self.new_draft().await?;
        draft.write(bytes).await?;
        Box::new(draft).publish(key).await
    }

    async fn draft(&self) -> Result<Box<dyn Draft>, StorageError> {
        Ok(Box::new(self.new_draft().await?))
    }

    async fn delete(&self, key: &Key) -> Result<(), StorageError> {
        let path = self.path(key);
        let removed = self.connection.retrying(|session| {
            let path = path.clone();
            async move { Ok(session.client.fs().remove_file(path).await?) }
        });
        match removed.await {
            Err(failure) if failure.is_missing() => Ok(()),
            removed => removed.map_err(|error| error.into_error(self.what("removing", key))),
        }
    }

    fn list(&self, folder: Option<&Key>) -> EntryStream {
        self.listing(folder, true)
    }

    fn list_shallow(&self, folder: Option<&Key>) -> EntryStream {
        self.listing(folder, false)
    }
}
