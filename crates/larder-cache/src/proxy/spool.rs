//! A NAR on its way through, as those see it who read it while it comes.
//!
//! Promise: a reader gets the first byte early and the last one only when all of them were verified. A small NAR is
//! passed on when it is whole, so that a wrong one is never seen at all. A reader holds two chunks in memory at most,
//! and no wait is without a bound.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use larder_nix::{contents::Contents, read_ahead};
use tokio::{sync::watch, time::timeout};

use crate::cache::{ByteStream, CacheError};

/// NARs up to this size are held in memory on their way.
const HELD: u64 = 1024 * 1024;

/// NARs up to this size are passed on when they are whole and verified.
pub(super) const VERIFIED_FIRST: u64 = 8 * 1024 * 1024;

/// How long nothing may come for a reader. Nix gives a download up after 300 s.
const STALL: Duration = Duration::from_secs(240);

/// Where the bytes lie.
#[derive(Clone)]
pub(super) enum Body {
    Held(Bytes),
    File(Arc<File>),
}

impl Body {
    fn read(&self, range: Range<u64>) -> ByteStream {
        let unreadable = |error| CacheError::new("reading a NAR on its way", error);
        match self {
            Self::Held(bytes) => {
                let part = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let bytes = bytes.slice(part(range.start)..part(range.end));
                Box::pin(stream::iter([Ok(bytes)]))
            }
            Self::File(file) => match file.try_clone() {
                Ok(file) => {
                    let chunks = read_ahead::stream(Contents::new(file, range));
                    Box::pin(chunks.map(move |chunk| chunk.map_err(unreadable)))
                }
                Err(error) => Box::pin(stream::iter([Err(unreadable(error))])),
            },
        }
    }
}

/// How far a NAR is.
#[derive(Clone)]
pub(super) enum Progress {
    /// Nothing of it may be passed on yet.
    Begun,
    /// So many bytes of it may.
    Some(Body, u64),
    /// All of it may: it is verified.
    Whole(Body),
    /// Nobody has it, or nobody any more.
    Absent,
    /// It cannot be had now.
    Failed(CacheError),
}

/// What is written to.
pub(super) enum Spool {
    Held(Vec<u8>),
    File(Arc<File>),
}

impl Spool {
    /// For a NAR of that size; a large one lies in a file without a name in this folder.
    pub(super) fn new(size: u64, folder: &Path) -> io::Result<Self> {
        if size <= HELD {
            return Ok(Self::Held(Vec::with_capacity(usize::try_from(size).unwrap_or(0))));
        }
        let file = match tempfile::tempfile_in(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                tempfile::tempfile_in(folder)?
            }
            file => file?,
        };
        Ok(Self::File(Arc::new(file)))
    }

    pub(super) fn write(&mut self, chunk: &[u8], at: u64) -> io::Result<()> {
        match self {
            Self::Held(bytes) => bytes.extend_from_slice(chunk),
            Self::File(file) => file.write_all_at(chunk, at)?,
        }
        Ok(())
    }

    /// Begins again.
    pub(super) fn clear(&mut self) {
        if let Self::Held(bytes) = self {
            bytes.clear();
        }
    }

    /// What may be passed on before all of it is there.
    pub(super) fn growing(&self) -> Option<Body> {
        match self {
            Self::Held(_) => None,
            Self::File(file) => Some(Body::File(Arc::clone(file))),
        }
    }

    pub(super) fn finish(self) -> Body {
        match self {
            Self::Held(bytes) => Body::Held(bytes.into()),
            Self::File(file) => Body::File(file),
        }
    }
}

/// Part of a NAR as it comes. Nothing, if nobody has it. Waits until it begins.
pub(super) async fn follow(
    mut progress: watch::Receiver<Progress>,
    range: Range<u64>,
) -> Result<Option<ByteStream>, CacheError> {
    let begun = progress.wait_for(|it| !matches!(it, Progress::Begun));
    let begun = timeout(STALL, begun).await.map_err(|_| stalled())?;
    match &*begun.map_err(|_| ended())? {
        Progress::Absent => return Ok(None),
        Progress::Failed(error) => return Err(error.clone()),
        Progress::Whole(body) => return Ok(Some(body.read(range))),
        Progress::Begun | Progress::Some(..) => {}
    }
    Ok(Some(Box::pin(stream::try_unfold(
        (progress, range, None::<ByteStream>),
        |(mut progress, mut left, mut span)| async move {
            loop {
                if let Some(reading) = &mut span
                    && let Some(chunk) = reading.next().await.transpose()?
                {
                    left.start += chunk.len() as u64;
                    return Ok(Some((chunk, (progress, left, span))));
                }
                if left.is_empty() {
                    return Ok(None);
                }
                span = Some(more(&mut progress, &left).await?);
            }
        },
    ))))
}

/// The next bytes of the range, once there are some.
async fn more(
    progress: &mut watch::Receiver<Progress>,
    left: &Range<u64>,
) -> Result<ByteStream, CacheError> {
    let news = progress.wait_for(|it| match it {
        Progress::Begun => false,
        Progress::Some(_, there) => *there > left.start,
        Progress::Whole(_) | Progress::Absent | Progress::Failed(_) => true,
    });
    let news = timeout(STALL, news).await.map_err(|_| stalled())?;
    match &*news.map_err(|_| ended())? {
        Progress::Some(body, there) => Ok(body.read(left.start..left.end.min(*there))),
        Progress::Whole(body) => Ok(body.read(left.clone())),
        Progress::Failed(error) => Err(error.clone()),
        Progress::Begun | Progress::Absent => Err(ended()),
    }
}

fn stalled() -> CacheError {
    CacheError::new("fetching a NAR", "nothing came for too long")
}

fn ended() -> CacheError {
    CacheError::new("fetching a NAR", "it was not fetched to its end")
}
