//! Packing and unpacking, by Nix's names.
//!
//! Memory is bounded whatever the input says: a stream that would need more than [`MEMORY`] to be
//! unpacked is an error. How much comes out is for the caller to bound.

use std::io;

use async_compression::{
    Level,
    tokio::{
        bufread::{BrotliDecoder, BzDecoder, GzipDecoder, Lz4Decoder, XzDecoder, ZstdDecoder},
        write::{XzEncoder, ZstdEncoder},
    },
    zstd::{CParameter, DParameter},
};
use bytes::Bytes;
use futures::stream;
use larder_formats::narinfo::Compression;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::StreamReader;

/// Bytes that unpacking may take: what the highest levels of xz and zstd need.
pub const MEMORY: u64 = 128 * 1024 * 1024;

/// The window of zstd, as a power of two, that [`MEMORY`] allows.
const ZSTD_WINDOW: u32 = 27;

/// How NARs are packed. Only what every Nix of the last years reads, and what is worth its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    None,
    /// With zstd, at a level from 1 to 19.
    Zstd(u8),
    /// With xz, at a level from 0 to 9. Much slower, a quarter smaller.
    Xz(u8),
}

impl Packing {
    /// What the narinfo says of it.
    #[must_use]
    pub fn compression(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Zstd(_) => Compression::Zstd,
            Self::Xz(_) => Compression::Xz,
        }
    }
}

/// A compression that we cannot unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("NARs compressed with {0} cannot be read here; use zstd, xz, bzip2, gzip, br, lz4 or none")]
pub struct UnsupportedCompression(pub Compression);

/// What comes out of a compressed file. Several compressed streams, one after the other, are one file.
///
/// # Errors
/// For a compression that cannot be read here.
pub fn unpacked(
    compression: Compression,
    file: impl AsyncBufRead + Send + Unpin + 'static,
) -> Result<Box<dyn AsyncRead + Send + Unpin>, UnsupportedCompression> {
    macro_rules! all_streams {
        ($decoder:expr) => {{
            let mut decoder = $decoder;
            decoder.multiple_members(true);
            Box::new(decoder)
        }};
    }
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Xz => all_streams!(XzDecoder::with_mem_limit(file, MEMORY)),
        Compression::Bzip2 => all_streams!(BzDecoder::new(file)),
        Compression::Gzip => all_streams!(GzipDecoder::new(file)),
        Compression::Zstd => {
            let window = DParameter::window_log_max(ZSTD_WINDOW);
            all_streams!(ZstdDecoder::with_params(file, &[window]))
        }
        Compression::Br => Box::new(BrotliDecoder::new(file)),
        Compression::Lz4 => all_streams!(Lz4Decoder::new(file)),
        other => return Err(UnsupportedCompression(other)),
    })
}

/// What a file is compressed with, by its first bytes, where its name says nothing: `None` for a NAR as
/// it is, and for anything unknown.
#[must_use]
pub fn recognised(first: &[u8]) -> Compression {
    if first.starts_with(&[0x1f, 0x8b]) { Compression::Gzip } else { Compression::None }
}

/// A NAR, packed. The same bytes come out for the same bytes, however they come in.
pub fn packed<'a>(
    packing: Packing,
    nar: impl AsyncBufRead + Send + Unpin + 'a,
) -> Box<dyn AsyncRead + Send + Unpin + 'a> {
    let level = |level: u8| Level::Precise(i32::from(level));
    match packing {
        Packing::None => Box::new(nar),
        Packing::Zstd(at) => {
            // Tells a reader early that a file was cut off or altered.
            let checksum = [CParameter::checksum_flag(true)];
            let encoder = ZstdEncoder::with_quality_and_params(Vec::new(), level(at), &checksum);
            through(nar, encoder, ZstdEncoder::get_mut)
        }
        Packing::Xz(at) => {
            through(nar, XzEncoder::with_quality(Vec::new(), level(at)), XzEncoder::get_mut)
        }
    }
}

/// What comes out of an encoder that is written to. Those that read end a block whenever they have to wait for more,
/// so that the time a disk takes would show in the file, and in its size.
fn through<'a, E: AsyncWrite + Send + Unpin + 'a>(
    nar: impl AsyncBufRead + Send + Unpin + 'a,
    encoder: E,
    written: fn(&mut E) -> &mut Vec<u8>,
) -> Box<dyn AsyncRead + Send + Unpin + 'a> {
    let chunks = stream::try_unfold(Some((nar, encoder)), move |state| async move {
        let Some((mut nar, mut encoder)) = state else { return Ok(None) };
        loop {
            let chunk = nar.fill_buf().await?;
            let size = chunk.len();
            if size == 0 {
                encoder.shutdown().await?;
                let last = std::mem::take(written(&mut encoder));
                return Ok::<_, io::Error>(Some((Bytes::from(last), None)));
            }
            encoder.write_all(chunk).await?;
            nar.consume(size);
            let some = std::mem::take(written(&mut encoder));
            if !some.is_empty() {
                return Ok(Some((Bytes::from(some), Some((nar, encoder)))));
            }
        }
    });
    Box::new(StreamReader::new(Box::pin(chunks)))
}
