//! Packing a NAR as it comes.
//!
//! Promise: the bytes that come out depend on the NAR and the recipe alone. An encoder of `async-compression`
//! would not do: it flushes whenever its source makes it wait, so that the pace of a disk would show in
//! the bytes.

use std::{
    io::{self, Write},
    mem,
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_formats::hash::Sha256;
use tokio::task::spawn_blocking;
use zstd::stream::write::Encoder;

use crate::{
    cache::{ByteStream, Cache, CacheError, NarIdentity},
    hashing::Hasher,
};

/// A NAR that a cache has, as it is.
#[derive(Clone)]
pub struct Unpacked {
    /// Who has it.
    pub cache: Arc<dyn Cache>,
    /// Which one.
    pub nar: NarIdentity,
    /// Bytes in it.
    pub size: u64,
}

impl Unpacked {
    /// It, packed, from one of the packed bytes on. Nothing, if the cache has it no more. It does not end
    /// well unless it is the NAR that its hash says: what is kept would outlive the repair of a path.
    pub(super) async fn packed(
        &self,
        level: u8,
        from: u64,
    ) -> Result<Option<ByteStream>, CacheError> {
        let Some(nar) = self.cache.nar(self.nar, 0..self.size).await? else { return Ok(None) };
        let what = format!("packing the NAR of {}", self.nar.path);
        let nar = verified(nar, self.nar.nar_hash, what.clone());
        Ok(Some(from_byte(packed(nar, level, what), from)))
    }
}

/// What there is to do next.
enum Next {
    Chunk(Encoder<'static, Vec<u8>>),
    Nothing,
}

fn packed(nar: ByteStream, level: u8, what: String) -> ByteStream {
    let error = move |error: io::Error| CacheError::new(what.clone(), error);
    let begun = encoder(level).map_err(&error);
    let state = begun.map(|encoder| (nar, Next::Chunk(encoder)));
    Box::pin(stream::try_unfold(state, move |state| {
        let error = error.clone();
        async move {
            let (mut nar, mut next) = state?;
            loop {
                let Next::Chunk(encoder) = next else { return Ok(None) };
                let chunk = nar.next().await.transpose()?;
                // Some levels take long enough to hold up whoever else is served by this thread.
                let packed = spawn_blocking(move || pack(encoder, chunk)).await;
                let (out, then) = packed.map_err(io::Error::other).flatten().map_err(&error)?;
                next = then;
                if !out.is_empty() {
                    return Ok(Some((Bytes::from(out), Ok((nar, next)))));
                }
            }
        }
    }))
}

fn encoder(level: u8) -> io::Result<Encoder<'static, Vec<u8>>> {
    let mut encoder = Encoder::new(Vec::new(), level.into())?;
    // Tells a reader early that a file was cut off or altered.
    encoder.include_checksum(true)?;
    Ok(encoder)
}

/// Takes the next bytes, or the end.
fn pack(
    mut encoder: Encoder<'static, Vec<u8>>,
    chunk: Option<Bytes>,
) -> io::Result<(Vec<u8>, Next)> {
    match chunk {
        None => Ok((encoder.finish()?, Next::Nothing)),
        Some(chunk) => {
            encoder.write_all(&chunk)?;
            Ok((mem::take(encoder.get_mut()), Next::Chunk(encoder)))
        }
    }
}

/// The same bytes, with an error in the place of the end where they are others.
fn verified(bytes: ByteStream, expected: Sha256, what: String) -> ByteStream {
    let state = Some((bytes, Hasher::new()));
    Box::pin(stream::unfold(state, move |state| {
        let what = what.clone();
        async move {
            let (mut bytes, mut hasher) = state?;
            match bytes.next().await {
                Some(Ok(chunk)) => {
                    hasher.update(&chunk);
                    Some((Ok(chunk), Some((bytes, hasher))))
                }
                Some(Err(error)) => Some((Err(error), None)),
                None if hasher.finish() == expected => None,
                None => {
                    let error = "its files are not what its hash says: it was changed or damaged; \
                                 `nix-store --verify-path` says more";
                    Some((Err(CacheError::new(what, error)), None))
                }
            }
        }
    }))
}

/// The bytes from that one on.
fn from_byte(bytes: ByteStream, from: u64) -> ByteStream {
    let mut before = from;
    Box::pin(bytes.filter_map(move |chunk| {
        let chunk = chunk.map(|mut chunk| {
            let skipped = chunk.len().min(usize::try_from(before).unwrap_or(usize::MAX));
            before -= skipped as u64;
            chunk.split_off(skipped)
        });
        let wanted = !chunk.as_ref().is_ok_and(Bytes::is_empty);
        std::future::ready(wanted.then_some(chunk))
    }))
}
