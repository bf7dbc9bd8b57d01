//! A NAR of another cache, packed and brought here. No narinfo leads to it yet.

use std::io;

use bytes::BytesMut;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use larder_formats::{
    hash::{Sha256, Sha256Hasher},
    nar::{Listing, NarError},
    nar_file::{NarFile, Suffix},
    narinfo::{Compression, NarInfo},
};
use larder_nix::read_ahead::CHUNK;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use super::{ObjectStorage, layout, watcher::Watcher};
use crate::{
    cache::ByteStream,
    compression::{self, Packing},
    lease::LeaseError,
    names::Names,
    on_a_thread::{Lost, on_a_thread},
    storage::{Draft, KeyError, Object, StorageError},
    time::before,
};

/// How old a file may be that is not written again. An older one may have been without a narinfo for long, and be
/// noted as that; then it would go at once if its new narinfo gave way to another one. Half of the time that a
/// collection spares what is young, so that it is young for as long after this.
const FRESH: SignedDuration = SignedDuration::from_hours(12);

/// A NAR's file that was brought here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its name.
    pub file: NarFile,
    /// Bytes in it.
    pub file_size: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// What is in the NAR. Nothing where a name in it is not UTF-8, for which there is no listing.
    pub listing: Option<Listing>,
    /// Since when it is kept from being collected.
    pub held: Timestamp,
}

/// Why a NAR was not brought here.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Its bytes are not what is known of it.
    #[error(
        "{path} has the hash sha256:{found}, and sha256:{expected} is known of it: it was changed or damaged. \
         `nix-store --verify-path` says more, `nix-store --repair-path` may mend it",
        found = found.to_nix32(), expected = expected.to_nix32()
    )]
    Changed {
        /// The path.
        path: String,
        /// What the hash is.
        found: Sha256,
        /// What it should be.
        expected: Sha256,
    },
    /// It could not be read.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// It is not a NAR.
    #[error(transparent)]
    NotANar(#[from] NarError),
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
    /// Packs the NAR of a path and keeps it. `passed` is told of its bytes as they pass.
    ///
    /// # Errors
    /// When it is not the NAR that the narinfo speaks of, or cannot be read or kept. Nothing of it is
    /// left then.
    pub async fn pack(
        &self,
        info: &NarInfo,
        nar: ByteStream,
        packing: Packing,
        passed: impl FnMut(usize) + Send + 'static,
    ) -> Result<Packed, PackError> {
        let (packed, draft) = self.packed(info, nar, packing, passed).await?;
        let there = self.nar_there(&packed).await?;
        if there.is_none_or(|object| object.modified < before(packed.held, FRESH)) {
            draft.publish(&layout::nar_file(&packed.file)?).await?;
        }
        Ok(packed)
    }

    /// The same where the file that is there may be damaged: it is written anew.
    ///
    /// # Errors
    /// As [`ObjectStorage::pack`].
    pub async fn pack_anew(
        &self,
        info: &NarInfo,
        nar: ByteStream,
        packing: Packing,
        passed: impl FnMut(usize) + Send + 'static,
    ) -> Result<Packed, PackError> {
        let (packed, draft) = self.packed(info, nar, packing, passed).await?;
        draft.publish(&layout::nar_file(&packed.file)?).await?;
        Ok(packed)
    }

    /// The NAR, verified, in a draft that is held by the name it will have.
    async fn packed(
        &self,
        info: &NarInfo,
        nar: ByteStream,
        packing: Packing,
        passed: impl FnMut(usize) + Send + 'static,
    ) -> Result<(Packed, Box<dyn Draft>), PackError> {
        let draft = self.storage.draft().await?;
        let (found, mut packed, draft) = on_a_thread(pack(nar, packing, draft, passed)).await??;
        if found != info.nar_hash {
            let path = self.info.store_dir.display(&info.store_path);
            return Err(PackError::Changed { path, found, expected: info.nar_hash });
        }
        packed.held = self.hold(&Names::of_nar(packed.file)).await?.nars;
        Ok((packed, draft))
    }

    /// Whether the file of a NAR that was brought here is still there.
    ///
    /// # Errors
    /// When the place does not tell.
    pub async fn has_nar(&self, packed: &Packed) -> Result<bool, PackError> {
        Ok(self.nar_there(packed).await?.is_some())
    }

    async fn nar_there(&self, packed: &Packed) -> Result<Option<Object>, PackError> {
        let there = self.storage.stat(&layout::nar_file(&packed.file)?).await?;
        // Its name says what is in it, so one of the right size is the same.
        Ok(there.filter(|object| object.size == packed.file_size))
    }
}

/// The NAR's hash, and what it was packed into.
async fn pack(
    nar: ByteStream,
    packing: Packing,
    mut draft: Box<dyn Draft>,
    mut passed: impl FnMut(usize) + Send + 'static,
) -> Result<(Sha256, Packed, Box<dyn Draft>), PackError> {
    let mut watcher = Watcher::new();
    let watched = nar.map(|chunk| {
        let chunk = chunk.map_err(io::Error::other)?;
        passed(chunk.len());
        watcher.see(&chunk).map_err(io::Error::other)?;
        Ok::<_, io::Error>(chunk)
    });
    let mut file = compression::packed(packing, StreamReader::new(watched));
    let (hash, file_size) = write(&mut *file, &mut *draft).await?;
    drop(file);
    let seen = watcher.finish()?;
    let compression = packing.compression();
    let packed = Packed {
        file: NarFile { hash, suffix: Suffix::of(compression) },
        file_size,
        compression,
        listing: seen.listing,
        held: Timestamp::MAX,
    };
    Ok((seen.hash, packed, draft))
}

/// Writes a file to its end; its hash and size.
async fn write(
    file: &mut (dyn AsyncRead + Send + Unpin),
    draft: &mut dyn Draft,
) -> Result<(Sha256, u64), PackError> {
    let (mut hasher, mut size) = (Sha256Hasher::new(), 0);
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            if file.read_buf(&mut chunk).await.map_err(PackError::Read)? == 0 {
                break;
            }
        }
        if chunk.is_empty() {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&chunk);
        size += chunk.len() as u64;
        draft.write(chunk.freeze()).await?;
    }
}
