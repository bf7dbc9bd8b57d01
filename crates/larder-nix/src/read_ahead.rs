//! A source of bytes that may wait for a disk, made into a stream.
//!
//! What lies in memory is read at once, by the thread that sends it: handing it from thread to thread
//! costs more than reading it. What does not is read by a thread that may wait, and as long as that is
//! so, one chunk ahead of what is being sent. Memory per stream is two chunks at most, whatever its
//! length and however slow its reader; no thread waits for a slow reader. Dropping the stream ends the
//! work after the chunk under way.

use std::io;

use bytes::Bytes;
use futures::Stream;
use tokio::task::{JoinHandle, spawn_blocking, yield_now};

/// Bytes per chunk. Measured on NARs of large and of many small files: half as much costs some 10 %
/// more processor time per byte, twice as much saves nothing and takes memory for each slow reader.
pub const CHUNK: usize = 256 * 1024;

/// Whether a source may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// It may.
    Allowed,
    /// It may not: what could make it wait is an error of the kind `WouldBlock`, after which the source
    /// and the buffer stand where they would if it had been asked for less.
    Forbidden,
}

impl Blocking {
    /// An error where waiting is forbidden; before doing what cannot be done without.
    pub(crate) fn needed(self) -> io::Result<()> {
        match self {
            Self::Allowed => Ok(()),
            Self::Forbidden => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// A source of bytes.
pub trait Source: Send + 'static {
    /// Appends to `buffer` until it holds some [`CHUNK`] bytes, or fewer at the end. Leaves an empty one
    /// empty only at the end. Makes room for what it will append: many sources are small.
    fn fill(&mut self, buffer: &mut Vec<u8>, blocking: Blocking) -> io::Result<()>;
}

/// Where the next chunk comes from.
enum Next<S> {
    /// The first chunk, which goes out with what leads it.
    First(S),
    Source(S),
    Ahead(JoinHandle<Chunk<S>>),
}

struct Chunk<S> {
    source: S,
    bytes: io::Result<Vec<u8>>,
    waited: bool,
}

/// Streams a source to its end or to its first error.
pub fn stream<S: Source>(source: S) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures::stream::unfold(Some(Next::First(source)), |next| async move {
        let chunk = match next? {
            Next::First(source) => here(source).await,
            Next::Source(source) => {
                // A reader as fast as we are would otherwise have this thread to itself.
                yield_now().await;
                here(source).await
            }
            Next::Ahead(under_way) => under_way.await.map_err(io::Error::other),
        };
        let Chunk { source, bytes, waited } = match chunk {
            Ok(chunk) => chunk,
            Err(panicked) => return Some((Err(panicked), None)),
        };
        match bytes {
            Err(error) => Some((Err(error), None)),
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                let next = if waited {
                    Next::Ahead(elsewhere(source, Vec::new()))
                } else {
                    Next::Source(source)
                };
                Some((Ok(Bytes::from(bytes)), Some(next)))
            }
        }
    })
}

/// Fills a chunk on this thread as far as it goes without waiting.
async fn here<S: Source>(mut source: S) -> io::Result<Chunk<S>> {
    let mut buffer = Vec::new();
    match source.fill(&mut buffer, Blocking::Forbidden) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            elsewhere(source, buffer).await.map_err(io::Error::other)
        }
        filled => Ok(Chunk { source, bytes: filled.map(|()| buffer), waited: false }),
    }
}

/// Fills a chunk on a thread that may wait, and tells whether that was needed.
fn elsewhere<S: Source>(mut source: S, mut buffer: Vec<u8>) -> JoinHandle<Chunk<S>> {
    spawn_blocking(move || {
        let (filled, waited) = match source.fill(&mut buffer, Blocking::Forbidden) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (source.fill(&mut buffer, Blocking::Allowed), true)
            }
            filled => (filled, false),
        };
        Chunk { source, bytes: filled.map(|()| buffer), waited }
    })
}
