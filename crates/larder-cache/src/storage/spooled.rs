//! Bytes that are held until it is known what they become.
//!
//! Promises that memory does not grow with their length: beyond 8 MiB they lie in a temporary file that
//! has no name, so that it is gone with this process whatever ends it.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use larder_nix::{contents::Contents, read_ahead};
use tokio::task::spawn_blocking;

use super::{StorageError, StorageErrorKind};

/// What is held in memory, in bytes.
const HELD: usize = 8 * 1024 * 1024;

/// Bytes that are handed over at once from memory.
const PIECE: usize = 256 * 1024;

/// Bytes still coming.
pub(super) struct Spool {
    held: BytesMut,
    file: Option<File>,
    length: u64,
    /// After a failure nothing more is taken.
    broken: bool,
    folder: Option<PathBuf>,
}

/// All of the bytes, to be read as often as is needed.
#[derive(Clone)]
pub(super) enum Whole {
    Held(Bytes),
    File { file: Arc<File>, length: u64 },
}

impl Spool {
    /// Nothing yet. What does not fit into memory will lie in that folder.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { held: BytesMut::new(), file: None, length: 0, broken: false, folder }
    }

    /// Appends.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        if self.broken {
            let what = "holding an object back until it is whole";
            return Err(StorageError::new(
                StorageErrorKind::Permanent,
                what,
                "an earlier write failed",
            ));
        }
        self.length += bytes.len() as u64;
        self.held.extend_from_slice(&bytes);
        if self.held.len() > HELD { self.pour().await } else { Ok(()) }
    }

    /// The whole.
    pub(super) async fn finish(mut self) -> Result<Whole, StorageError> {
        if self.file.is_some() {
            self.pour().await?;
        }
        Ok(match self.file.take() {
            Some(file) => Whole::File { file: Arc::new(file), length: self.length },
            None => Whole::Held(self.held.freeze()),
        })
    }

    /// Moves what is held in memory to the file.
    async fn pour(&mut self) -> Result<(), StorageError> {
        self.broken = true;
        let held = self.held.split().freeze();
        let (file, folder) = (self.file.take(), self.folder.clone());
        let poured = spawn_blocking(move || {
            let mut file = match (file, folder) {
                (Some(file), _) => file,
                (None, Some(folder)) => tempfile::tempfile_in(folder)?,
                (None, None) => tempfile::tempfile()?,
            };
            file.write_all(&held)?;
            Ok(file)
        });
        let poured = poured.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        self.file = Some(poured.map_err(|error| {
            let folder = self.folder.clone().unwrap_or_else(std::env::temp_dir);
            StorageError::io(format!("writing a temporary file in {}", folder.display()), error)
        })?);
        self.broken = false;
        Ok(())
    }
}

impl Whole {
    /// Bytes in it.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// The bytes from the beginning, in pieces.
    pub(super) fn stream(
        &self,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        Ok(match self {
            Self::Held(bytes) => {
                let mut left = bytes.clone();
                let pieces = std::iter::from_fn(move || {
                    let piece = left.split_to(left.len().min(PIECE));
                    (!piece.is_empty()).then_some(Ok(piece))
                });
                stream::iter(pieces).left_stream()
            }
            Self::File { file, length } => {
                // Read at places of its own choosing, so that several readers do not disturb each other.
                let contents = Contents::new(file.try_clone()?, 0..*length);
                read_ahead::stream(contents).right_stream()
            }
        })
    }
}
