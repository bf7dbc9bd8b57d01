//! A NAR of another cache, packed and brought here. No narinfo leads to it yet.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use larder_formats::{
    hash::Sha256,
    nar::{Listing, NarError},
    nar_file::{NarFile, Suffix},
    narinfo::{Compression, NarInfo},
};
use larder_nix::read_ahead::CHUNK;

use super::{ObjectStorage, layout, watcher::Watcher};
use crate::{
    cache::ByteStream,
    compression::{Packer, Packing},
    hashing::Hasher,
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
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        let packer = Packer::new(packing, info.nar_size, threads).map_err(PackError::Read)?;
        let work = pack(nar, (packing, packer), draft, passed);
        let (found, mut packed, draft) = on_a_thread(work).await??;
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
    mut nar: ByteStream,
    (packing, mut packer): (Packing, Packer),
    draft: Box<dyn Draft>,
    mut passed: impl FnMut(usize) + Send + 'static,
) -> Result<(Sha256, Packed, Box<dyn Draft>), PackError> {
    let mut watcher = Watcher::new();
    // A NAR that is not packed is its file, and has been hashed once by the end.
    let hasher = (packing != Packing::None).then(Hasher::new);
    let mut file = Writing { draft, hasher, size: 0, waiting: BytesMut::new() };
    while let Some(chunk) = nar.next().await {
        let chunk = chunk.map_err(io::Error::other).map_err(PackError::Read)?;
        passed(chunk.len());
        watcher.see(&chunk)?;
        file.add(packer.write(&chunk).map_err(PackError::Read)?).await?;
    }
    let seen = watcher.finish()?;
    file.add(packer.finish().map_err(PackError::Read)?).await?;
    file.flush().await?;
    let compression = packing.compression();
    let hash = file.hasher.map_or(seen.hash, Hasher::finish);
    let packed = Packed {
        file: NarFile { hash, suffix: Suffix::of(compression) },
        file_size: file.size,
        compression,
        listing: seen.listing,
        held: Timestamp::MAX,
    };
    Ok((seen.hash, packed, file.draft))
}

/// A file on its way into a draft, in pieces of a size that is worth the way.
struct Writing {
    draft: Box<dyn Draft>,
    hasher: Option<Hasher>,
    size: u64,
    waiting: BytesMut,
}

impl Writing {
    async fn add(&mut self, bytes: Vec<u8>) -> Result<(), PackError> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.size += bytes.len() as u64;
        if self.waiting.is_empty() && bytes.len() >= CHUNK {
            return Ok(self.draft.write(Bytes::from(bytes)).await?);
        }
        self.waiting.extend_from_slice(&bytes);
        if self.waiting.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), PackError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        Ok(self.draft.write(self.waiting.split().freeze()).await?)
    }
}
