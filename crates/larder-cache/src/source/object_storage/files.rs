//! What is inside a NAR that is only had as a stream.

use std::{ffi::OsString, ops::Range};

use bytes::BytesMut;
use futures::{StreamExt, stream};
use larder_formats::nar::{Decoder, Listing, ListingBuilder, ListingError, ListingNode};
use larder_nix::read_ahead::CHUNK;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::cache::{ByteStream, CacheError, FolderEntry, FolderEntryKind, PathFile};

/// Symlinks that are followed to find one file; what Linux follows.
const SYMLINKS: usize = 40;

/// A NAR as it comes.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Part of a stream, what comes before it being read and dropped; without an end, all that is left. A stream that ends
/// before is an error.
pub(super) fn part(reader: Reader, start: u64, end: Option<u64>, what: String) -> ByteStream {
    let left = end.map(|end| end.saturating_sub(start));
    let chunks =
        stream::try_unfold((reader, start, left), |(mut reader, before, left)| async move {
            let (mut before, mut left) = (before, left);
            while left != Some(0) {
                let all = left.map_or(u64::MAX, |left| before.saturating_add(left));
                let wanted = usize::try_from(all).unwrap_or(CHUNK).min(CHUNK);
                let mut chunk = BytesMut::with_capacity(wanted);
                let mut limited = (&mut reader).take(wanted as u64);
                while chunk.len() < wanted && limited.read_buf(&mut chunk).await? > 0 {}
                if chunk.is_empty() && left.is_none() && before == 0 {
                    return Ok(None);
                }
                if chunk.is_empty() || (left.is_some() && chunk.len() < wanted) {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                let skipped = usize::try_from(before).unwrap_or(CHUNK).min(chunk.len());
                before -= skipped as u64;
                let chunk = chunk.split_off(skipped).freeze();
                left = left.map(|left| left - chunk.len() as u64);
                if !chunk.is_empty() {
                    return Ok(Some((chunk, (reader, before, left))));
                }
            }
            Ok(None)
        });
    Box::pin(chunks.map(move |chunk| {
        chunk.map_err(|error: std::io::Error| CacheError::new(what.clone(), error))
    }))
}

/// The listing of a NAR, read to its end.
pub(super) async fn list(mut nar: ByteStream, what: String) -> Result<Option<Listing>, CacheError> {
    let mut decoder = Decoder::new();
    let mut builder = ListingBuilder::new();
    while let Some(chunk) = nar.next().await {
        let chunk = chunk?;
        let mut bytes = &*chunk;
        while let Some(event) =
            decoder.next_event(&mut bytes).map_err(|error| CacheError::new(what.clone(), error))?
        {
            match builder.push(&event) {
                // JSON cannot say it, so there is no listing of it.
                Err(ListingError::NotUtf8(_)) => return Ok(None),
                pushed => pushed.map_err(|error| CacheError::new(what.clone(), error))?,
            }
        }
    }
    decoder.finish().map_err(|error| CacheError::new(what.clone(), error))?;
    builder.finish().map(Some).map_err(|error| CacheError::new(what, error))
}

/// What was found, without its contents yet.
pub(super) enum Found {
    /// A regular file: where its contents begin in the NAR, and their size.
    Regular { offset: u64, size: u64 },
    /// A folder.
    Directory(Vec<FolderEntry>),
}

impl Found {
    /// The same, whose contents are read by `nar` from the NAR.
    pub(super) fn with_contents(
        self,
        nar: impl FnOnce(Range<u64>) -> ByteStream + Send + 'static,
    ) -> PathFile {
        match self {
            Self::Directory(entries) => PathFile::Directory(entries),
            Self::Regular { offset, size } => {
                let contents = move |range: Range<u64>| {
                    nar(offset.saturating_add(range.start)..offset.saturating_add(range.end))
                };
                PathFile::Regular { size, contents: Box::new(contents) }
            }
        }
    }
}

/// Finds a file by its names, one below the other. Relative symlinks are followed as long as they stay inside.
pub(super) fn find(listing: &Listing, names: &[OsString]) -> Option<Found> {
    let mut left: Vec<String> = Vec::new();
    for name in names.iter().rev() {
        left.push(name.to_str()?.to_owned());
    }
    let mut at: Vec<String> = Vec::new();
    let mut symlinks = 0;
    while let Some(name) = left.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                at.pop()?;
                continue;
            }
            _ => at.push(name),
        }
        if let ListingNode::Symlink { target } = listing.get(&at.join("/"))? {
            symlinks += 1;
            if symlinks > SYMLINKS || target.starts_with('/') {
                return None;
            }
            at.pop();
            left.extend(target.rsplit('/').map(str::to_owned));
        }
    }
    found(listing, &at.join("/"))
}

fn found(listing: &Listing, path: &str) -> Option<Found> {
    match listing.get(path)? {
        ListingNode::Regular { size, nar_offset, .. } => {
            Some(Found::Regular { offset: (*nar_offset)?, size: *size })
        }
        ListingNode::Directory => {
            let entries = listing.entries(path).map(|(name, node)| FolderEntry {
                name: name.into(),
                kind: match node {
                    ListingNode::Regular { size, .. } => FolderEntryKind::Regular(*size),
                    ListingNode::Directory => FolderEntryKind::Directory,
                    ListingNode::Symlink { target } => FolderEntryKind::Symlink(target.into()),
                },
            });
            Some(Found::Directory(entries.collect()))
        }
        // The path itself is one, and leads outside.
        ListingNode::Symlink { .. } => None,
    }
}
