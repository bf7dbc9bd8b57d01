//! Packing and unpacking, by Nix's names.
//!
//! Memory is bounded whatever the input says: a stream that would need more than [`MEMORY`] to be
//! unpacked is an error. How much comes out is for the caller to bound.

use std::io::{self, Write};

use async_compression::{
    tokio::bufread::{BrotliDecoder, BzDecoder, GzipDecoder, Lz4Decoder, XzDecoder, ZstdDecoder},
    zstd::DParameter,
};
use larder_formats::narinfo::Compression;
use liblzma::write::XzEncoder;
use tokio::io::{AsyncBufRead, AsyncRead};
use zstd::{bulk::Compressor, stream::raw::CParameter};

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

/// NARs up to this size are held and packed as a whole, which takes a sixth less time than piece by piece and makes
/// them a little smaller.
const WHOLE: u64 = 16 * 1024 * 1024;

/// What level 3 of zstd, at which nearly all caches are packed, is told besides. With half of the larger hash table more
/// of it stays in the cache of a processor, which often has two threads; four times the window makes up for it. Measured:
/// 1 to 8 % less time of the processor, and files that are together 0.1 % smaller.
const LEVEL_3: [CParameter; 2] = [CParameter::WindowLog(23), CParameter::HashLog(16)];

/// What each thread gets of a large NAR at that level, and sees of what was before: what zstd chooses by itself where the
/// window is as it was. It would take four times the memory for the larger one.
const LEVEL_3_THREADS: [CParameter; 2] =
    [CParameter::JobSize(8 * 1024 * 1024), CParameter::OverlapSizeLog(4)];

/// Packs a NAR that comes piece by piece. The same bytes come out for the same bytes, however they come in, and
/// on whatever machine.
pub struct Packer {
    kind: Kind,
    /// Bytes that are still to come.
    left: u64,
}

enum Kind {
    None(Vec<u8>),
    Whole(Compressor<'static>, Vec<u8>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Xz(XzEncoder<Vec<u8>>),
}

impl Packer {
    /// Packs a NAR of so many bytes. A large one is packed with zstd by this many threads.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(packing: Packing, size: u64, threads: u32) -> io::Result<Self> {
        let kind = match packing {
            Packing::None => Kind::None(Vec::new()),
            Packing::Zstd(level) if size <= WHOLE => {
                let mut compressor = Compressor::new(level.into())?;
                // Tells a reader early that a file was cut off or altered.
                compressor.include_checksum(true)?;
                for parameter in LEVEL_3.into_iter().filter(|_| level == 3) {
                    compressor.set_parameter(parameter)?;
                }
                Kind::Whole(compressor, Vec::with_capacity(usize::try_from(size).unwrap_or(0)))
            }
            Packing::Zstd(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level.into())?;
                encoder.include_checksum(true)?;
                encoder.set_pledged_src_size(Some(size))?;
                // What comes out depends on that there are some, and not on how many.
                encoder.multithread(threads.max(1))?;
                let parameters = LEVEL_3.into_iter().chain(LEVEL_3_THREADS);
                for parameter in parameters.filter(|_| level == 3) {
                    encoder.set_parameter(parameter)?;
                }
                Kind::Zstd(encoder)
            }
            Packing::Xz(level) => Kind::Xz(XzEncoder::new(Vec::new(), level.into())),
        };
        Ok(Self { kind, left: size })
    }

    /// Takes the next bytes. Gives what has come out since.
    ///
    /// # Errors
    /// When there are more than was said.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left =
            left.ok_or_else(|| io::Error::other("the NAR is larger than it is said to be"))?;
        let out = match &mut self.kind {
            Kind::None(out) => {
                out.extend_from_slice(bytes);
                out
            }
            Kind::Whole(_, nar) => {
                nar.extend_from_slice(bytes);
                return Ok(Vec::new());
            }
            Kind::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.get_mut()
            }
            Kind::Xz(encoder) => {
                encoder.write_all(bytes)?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(out))
    }

    /// Gives the rest.
    ///
    /// # Errors
    /// When there were fewer than was said.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        if self.left > 0 {
            return Err(io::Error::other("the NAR is smaller than it is said to be"));
        }
        match self.kind {
            Kind::None(out) => Ok(out),
            Kind::Whole(mut compressor, nar) => compressor.compress(&nar),
            Kind::Zstd(encoder) => encoder.finish(),
            Kind::Xz(encoder) => encoder.finish(),
        }
    }
}
