//! The first step of an upload: a NAR's file is taken in, checked, and there to stay, but no narinfo
//! leads to it yet.
//!
//! What was found out is written beside it (`.larder/staged/`), so that the narinfo may arrive at another
//! server. A record that is missing costs reading the file again, nothing else.

use std::{io, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use larder_formats::{
    hash::Sha256,
    nar::{Listing, NarError},
    nar_file::NarFile,
    narinfo::Compression,
};
use larder_nix::read_ahead::CHUNK;
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

use super::{
    LISTING_LIMIT, ObjectStorage, layout,
    watcher::{Seen, Watcher},
};
use crate::{
    compression::{self, UnsupportedCompression},
    hashing::Hasher,
    lease::LeaseError,
    names::Names,
    on_a_thread::{Lost, on_a_thread},
    storage::{Draft, KeyError, StorageError},
};

/// Bytes of a record.
const RECORD_LIMIT: usize = 64 * 1024;

/// Chunks of a file that wait to be unpacked.
const AHEAD: usize = 2;

/// What is taken in at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a NAR's file.
    pub file_size: u64,
    /// Bytes of a NAR.
    pub nar_size: u64,
}

impl Default for Limits {
    /// What no package has, and every disk can hold.
    fn default() -> Self {
        Self { file_size: 32 << 30, nar_size: 32 << 30 }
    }
}

/// A NAR's file that is there to stay, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// How the file is compressed, by Nix's name.
    #[serde(with = "as_text")]
    pub compression: Compression,
    /// Bytes in the file.
    pub file_size: u64,
    /// The hash of the NAR in it.
    pub nar_hash: Sha256,
    /// Bytes in the NAR.
    pub nar_size: u64,
}

/// Why a NAR's file was not taken in. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It is not what its name says.
    #[error("the file's hash is sha256:{found}, but its name says {file}", found = found.to_nix32())]
    OtherHash {
        /// Its name.
        file: NarFile,
        /// Its hash.
        found: Sha256,
    },
    /// It is too large.
    #[error("{what} has more than {limit} bytes, which is the limit here")]
    TooLarge {
        /// The file or the NAR in it.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// It cannot be unpacked.
    #[error("the file cannot be unpacked as {compression}: {source}")]
    Packed {
        /// What it was taken for.
        compression: Compression,
        /// What is wrong.
        source: io::Error,
    },
    /// It is packed in a way that we cannot check.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedCompression),
    /// What is in it is not a NAR.
    #[error("what is in the file is not a NAR: {0}")]
    NotANar(#[from] NarError),
    /// The sender stopped.
    #[error("the file broke off: {0}")]
    BrokeOff(#[source] io::Error),
    /// The work was not finished.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The place for it failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It could not be kept from being collected meanwhile.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A name that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl ObjectStorage {
    /// Takes in a NAR's file, named for its hash.
    ///
    /// # Errors
    /// When it is not what its name says, or cannot be kept.
    pub async fn stage(
        &self,
        file: NarFile,
        bytes: Incoming,
        limits: Limits,
    ) -> Result<Staged, StageError> {
        let mut draft = self.storage.draft().await?;
        let (found, listing) = examined(Some(&mut *draft), file, bytes, limits).await?;
        self.hold(&Names::of_nar(file)).await?;
        draft.publish(&layout::nar_file(&file)?).await?;
        self.record(&file, &found, listing.as_ref()).await?;
        Ok(found)
    }

    /// What is known of a NAR's file that lies here: as recorded, or as found by reading it.
    ///
    /// # Errors
    /// When it is not what its name says, or cannot be read.
    pub async fn staged(
        &self,
        file: NarFile,
        limits: Limits,
    ) -> Result<Option<Staged>, StageError> {
        let key = layout::nar_file(&file)?;
        let Some(object) = self.storage.stat(&key).await? else { return Ok(None) };
        let record = self.storage.get(&layout::staged(&file)?, RECORD_LIMIT).await?;
        if let Some(record) = record.and_then(|text| serde_json::from_slice::<Staged>(&text).ok())
            && record.file_size == object.size
        {
            return Ok(Some(record));
        }
        let Some((found, listing)) = self.examine(file, limits).await? else { return Ok(None) };
        self.record(&file, &found, listing.as_ref()).await?;
        Ok(Some(found))
    }

    /// What a NAR's file that lies here is, and what is in it, found out by reading all of it.
    ///
    /// # Errors
    /// When it is not what its name says, or cannot be read.
    pub(crate) async fn examine(
        &self,
        file: NarFile,
        limits: Limits,
    ) -> Result<Option<(Staged, Option<Listing>)>, StageError> {
        let key = layout::nar_file(&file)?;
        let Some(object) = self.storage.stat(&key).await? else { return Ok(None) };
        let Some(contents) = self.storage.read(&key, 0..object.size).await? else {
            return Ok(None);
        };
        let contents = contents.map_err(io::Error::other);
        examined(None, file, Box::pin(contents), limits).await.map(Some)
    }

    /// What is in a file that was taken in, where that was written down.
    pub(super) async fn staged_listing(
        &self,
        file: &NarFile,
    ) -> Result<Option<Listing>, StageError> {
        let text = self.storage.get(&layout::staged_listing(file)?, LISTING_LIMIT).await?;
        let text = text.as_deref().and_then(|text| std::str::from_utf8(text).ok());
        Ok(text.and_then(|text| Listing::parse(text).ok()))
    }

    /// Forgets what was recorded of a file, once a narinfo says it.
    pub(super) async fn unstage(&self, file: &NarFile) -> Result<(), StageError> {
        self.storage.delete(&layout::staged_listing(file)?).await?;
        Ok(self.storage.delete(&layout::staged(file)?).await?)
    }

    async fn record(
        &self,
        file: &NarFile,
        found: &Staged,
        listing: Option<&Listing>,
    ) -> Result<(), StageError> {
        if let Some(listing) = listing {
            let text = Bytes::from(listing.to_json());
            self.storage.put(&layout::staged_listing(file)?, text).await?;
        }
        let text = serde_json::to_vec(found).map_err(|error| StageError::BrokeOff(error.into()))?;
        Ok(self.storage.put(&layout::staged(file)?, text.into()).await?)
    }
}

/// A stream of bytes that somebody sends.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Finds out what a file is, and writes it to a draft, if there is one, while it passes.
async fn examined(
    mut draft: Option<&mut dyn Draft>,
    file: NarFile,
    bytes: Incoming,
    limits: Limits,
) -> Result<(Staged, Option<Listing>), StageError> {
    let mut bytes = bytes.fuse();
    let mut first = bytes.next().await.transpose().map_err(StageError::BrokeOff)?;
    let start = first.as_deref().unwrap_or_default();
    let compression = file.suffix.compression().unwrap_or_else(|| compression::recognised(start));
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let unpacked = unpack(compression, ReceiverStream::new(receiver), limits.nar_size);
    let unpacked = tokio::spawn(on_a_thread(unpacked));
    let (mut hasher, mut file_size) = (Hasher::new(), 0);
    loop {
        let Some(chunk) = (match first.take() {
            Some(first) => Some(first),
            None => bytes.next().await.transpose().map_err(StageError::BrokeOff)?,
        }) else {
            break;
        };
        file_size += chunk.len() as u64;
        if file_size > limits.file_size {
            return Err(StageError::TooLarge { what: "the file", limit: limits.file_size });
        }
        hasher.update(&chunk);
        if sender.send(Ok(chunk.clone())).await.is_err() {
            // It found something wrong, and says below what.
            break;
        }
        if let Some(draft) = &mut draft {
            draft.write(chunk).await?;
        }
    }
    drop(sender);
    let seen = unpacked.await.map_err(Lost::from)???;
    let found = hasher.finish();
    if found != file.hash {
        return Err(StageError::OtherHash { file, found });
    }
    let Seen { hash: nar_hash, size: nar_size, listing } = seen;
    Ok((Staged { compression, file_size, nar_hash, nar_size }, listing))
}

/// What the NAR in a file is.
async fn unpack(
    compression: Compression,
    file: ReceiverStream<io::Result<Bytes>>,
    limit: u64,
) -> Result<Seen, StageError> {
    let mut nar = compression::unpacked(compression, StreamReader::new(file))?;
    let mut watcher = Watcher::new();
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        buffer.clear();
        let read = nar.read_buf(&mut buffer).await;
        if read.map_err(|source| StageError::Packed { compression, source })? == 0 {
            return Ok(watcher.finish()?);
        }
        watcher.see(&buffer)?;
        if watcher.size() > limit {
            return Err(StageError::TooLarge { what: "the NAR", limit });
        }
    }
}

/// A compression by Nix's name for it.
mod as_text {
    use larder_formats::narinfo::Compression;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        compression: &Compression,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(compression)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Compression, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
