//! A packed NAR that is not there yet, as its readers see it.
//!
//! Promise: a reader gets the NAR's packed bytes, whatever becomes of the file that they are written to: where it
//! cannot be written any more, each reader packs the rest for itself. No wait is without a bound, and a reader holds
//! two chunks in memory at most, unless it packs for itself.

use std::{fs::File, ops::Range, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use larder_nix::{contents::Contents, read_ahead};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use super::packer::Unpacked;
use crate::cache::{ByteStream, CacheError, StoredNar};

/// How long a reader waits until a NAR begins to be packed, or until it may pack it for itself.
const TURN: Duration = Duration::from_secs(20);

/// How long nothing may come of a NAR that is being packed.
const STALL: Duration = Duration::from_secs(120);

/// How long a reader waits that has to know how large the whole is. Nix gives up a download of which nothing came
/// for 300 s.
const PATIENCE: Duration = Duration::from_secs(240);

/// Why a packed NAR cannot be had now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PackedError {
    /// Others have all places, or it takes too long.
    #[error("too many NARs are being packed; try again")]
    Busy,
    /// It is not there any more.
    #[error("it is not in the store any more")]
    Gone,
    /// It could not be read.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// How far a NAR has been packed.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// Not begun.
    Waiting,
    /// So many bytes lie in the file.
    Written(Arc<File>, u64),
    /// All of them do.
    Whole(Arc<File>, u64),
    /// It is not written any more, for no fault of the NAR's.
    GivenUp,
    /// The NAR cannot be packed.
    Failed(PackedError),
}

/// How to have a NAR packed for one reader alone.
#[derive(Clone)]
pub(super) struct Alone {
    pub(super) unpacked: Unpacked,
    pub(super) level: u8,
    /// Each such reader takes the memory of an encoder.
    pub(super) places: Arc<Semaphore>,
}

impl Alone {
    /// The packed bytes from that one on.
    async fn stream(&self, from: u64) -> Result<ByteStream, PackedError> {
        let place = timeout(TURN, Arc::clone(&self.places).acquire_owned()).await;
        // It is never closed.
        let Ok(Ok(place)) = place else { return Err(PackedError::Busy) };
        self.stream_at(place, from).await
    }

    async fn stream_at(
        &self,
        place: OwnedSemaphorePermit,
        from: u64,
    ) -> Result<ByteStream, PackedError> {
        let bytes = self.unpacked.packed(self.level, from).await?.ok_or(PackedError::Gone)?;
        Ok(Box::pin(stream::unfold((bytes, place), |(mut bytes, place)| async move {
            let chunk = bytes.next().await?;
            Some((chunk, (bytes, place)))
        })))
    }

    /// The packed NAR, once it is known how large it is, which takes packing it.
    async fn whole(self) -> Result<StoredNar, PackedError> {
        let mut bytes = self.stream(0).await?;
        let mut size = 0;
        while let Some(chunk) = bytes.next().await {
            size += chunk?.len() as u64;
        }
        let contents = move |range: Range<u64>| until(self.later(range.start), range);
        Ok(StoredNar { size, contents: Box::new(contents) })
    }

    /// The same as [`Alone::stream`]; what keeps it from beginning is an error of the stream.
    fn later(self, from: u64) -> ByteStream {
        let begun = async move { self.stream(from).await.map_err(into_cache_error) };
        Box::pin(stream::once(begun).flat_map(|begun| {
            begun.unwrap_or_else(|error| Box::pin(stream::once(async { Err(error) })))
        }))
    }
}

fn into_cache_error(error: PackedError) -> CacheError {
    match error {
        PackedError::Cache(error) => error,
        other => CacheError::new("packing a NAR", other),
    }
}

/// A stream that begins with a range, up to its end.
fn until(bytes: ByteStream, range: Range<u64>) -> ByteStream {
    let left = range.end.saturating_sub(range.start);
    Box::pin(stream::unfold((bytes, left), |(mut bytes, left)| async move {
        if left == 0 {
            return None;
        }
        let chunk = bytes.next().await?.map(|mut chunk| {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            chunk
        });
        let left = left - chunk.as_ref().map_or(left, |chunk| chunk.len() as u64);
        Some((chunk, (bytes, left)))
    }))
}

/// A packed NAR that is not there yet.
pub struct Coming {
    /// How far it is; nothing where it is packed for this reader alone.
    pub(super) progress: Option<watch::Receiver<Progress>>,
    pub(super) alone: Alone,
}

impl Coming {
    /// All of it, as it comes.
    ///
    /// # Errors
    /// When it cannot begin.
    pub async fn stream(self) -> Result<ByteStream, PackedError> {
        let Some(mut progress) = self.progress else { return self.alone.stream(0).await };
        let begun = progress.wait_for(|progress| !matches!(progress, Progress::Waiting));
        let begun = timeout(TURN, begun).await.map(|begun| begun.map(|begun| begun.clone()));
        match begun {
            Ok(Ok(Progress::Failed(error))) => Err(error),
            Ok(Ok(Progress::Written(..) | Progress::Whole(..))) => Ok(follow(progress, self.alone)),
            Ok(Ok(Progress::Waiting | Progress::GivenUp) | Err(_)) | Err(_) => {
                self.alone.stream(0).await
            }
        }
    }

    /// All of it, once it is known how large it is.
    ///
    /// # Errors
    /// When it cannot be packed, or that takes too long.
    pub async fn whole(self) -> Result<StoredNar, PackedError> {
        let whole = async {
            let Some(mut progress) = self.progress else { return self.alone.whole().await };
            let ended = progress.wait_for(|progress| {
                !matches!(progress, Progress::Waiting | Progress::Written(..))
            });
            match ended.await.map(|ended| ended.clone()) {
                Ok(Progress::Whole(file, size)) => Ok(stored(file, size)),
                Ok(Progress::Failed(error)) => Err(error),
                Ok(_) | Err(_) => self.alone.whole().await,
            }
        };
        timeout(PATIENCE, whole).await.unwrap_or(Err(PackedError::Busy))
    }
}

/// A whole file.
pub(super) fn stored(file: Arc<File>, size: u64) -> StoredNar {
    let contents = move |range: Range<u64>| match file.try_clone() {
        Ok(file) => contents(file, range),
        Err(error) => Box::pin(stream::once(async { Err(unreadable(error)) })),
    };
    StoredNar { size, contents: Box::new(contents) }
}

/// Part of a file of packed NARs.
pub(super) fn contents(file: File, range: Range<u64>) -> ByteStream {
    let chunks = read_ahead::stream(Contents::new(file, range));
    Box::pin(chunks.map(|chunk| chunk.map_err(unreadable)))
}

fn unreadable(error: std::io::Error) -> CacheError {
    CacheError::new("reading a packed NAR that is kept", error)
}

/// A reader that follows a file.
struct Follower {
    progress: watch::Receiver<Progress>,
    alone: Alone,
    /// Bytes it has.
    at: u64,
    /// What it reads now.
    span: Option<ByteStream>,
    /// Whether that is the last.
    last: bool,
    /// Whether it is packed for this reader alone.
    by_itself: bool,
}

fn follow(progress: watch::Receiver<Progress>, alone: Alone) -> ByteStream {
    let follower = Follower { progress, alone, at: 0, span: None, last: false, by_itself: false };
    Box::pin(stream::try_unfold(follower, |mut follower| async move {
        loop {
            if let Some(span) = &mut follower.span {
                match span.next().await {
                    Some(Ok(chunk)) => {
                        follower.at += chunk.len() as u64;
                        return Ok(Some((chunk, follower)));
                    }
                    Some(Err(error)) if follower.by_itself => return Err(error),
                    // The file's fault, and not the NAR's.
                    Some(Err(_)) => {
                        follower.go_alone();
                        continue;
                    }
                    None if follower.last => return Ok(None),
                    None => follower.span = None,
                }
            }
            follower.next_span().await?;
        }
    }))
}

impl Follower {
    /// Has the rest packed for this reader.
    fn go_alone(&mut self) {
        (self.last, self.by_itself) = (true, true);
        self.span = Some(self.alone.clone().later(self.at));
    }

    /// Waits until there is more.
    async fn next_span(&mut self) -> Result<(), CacheError> {
        let at = self.at;
        let more = self.progress.wait_for(|progress| match progress {
            Progress::Waiting => false,
            Progress::Written(_, written) => *written > at,
            Progress::Whole(..) | Progress::GivenUp | Progress::Failed(_) => true,
        });
        let more = timeout(STALL, more).await.map(|more| more.map(|more| more.clone()));
        let (file, end) = match more {
            Ok(Ok(Progress::Written(file, written))) => (file, written),
            Ok(Ok(Progress::Whole(file, size))) => {
                self.last = true;
                (file, size)
            }
            Ok(Ok(Progress::Failed(error))) => return Err(into_cache_error(error)),
            // Who wrote it is gone as well as who gave up.
            Ok(Ok(Progress::GivenUp | Progress::Waiting) | Err(_)) => {
                self.go_alone();
                return Ok(());
            }
            Err(_) => return Err(CacheError::new("packing a NAR", "nothing came for too long")),
        };
        self.span = Some(contents(file.try_clone().map_err(unreadable)?, at..end));
        Ok(())
    }
}
