//! Keeps the file of a NAR as an upstream sends it, while it passes.
//!
//! What is kept is read again without being verified as a whole, so only files are kept that tell themselves when
//! they were damaged. Others are packed once they are here.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use larder_formats::{
    nar_file::{NarFile, Suffix},
    narinfo::Compression,
};
use tokio::sync::Mutex;

use crate::{cache::ByteStream, hashing::Hasher, storage::Draft};

/// The first bytes of a zstd frame, before the one that says whether it ends in a checksum.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_CHECKSUM: u8 = 0x04;

/// A file that is being kept.
pub(super) struct Tee(Arc<Mutex<Option<Copying>>>);

struct Copying {
    draft: Box<dyn Draft>,
    compression: Compression,
    hasher: Hasher,
    size: u64,
}

/// A file that was kept, but for its name.
pub(super) struct Copied {
    pub(super) draft: Box<dyn Draft>,
    pub(super) file: NarFile,
    pub(super) size: u64,
}

impl Tee {
    /// Keeps what passes in a draft, as long as nothing goes wrong with that.
    pub(super) fn new(draft: Box<dyn Draft>, compression: Compression) -> Self {
        let copy = Copying { draft, compression, hasher: Hasher::new(), size: 0 };
        Self(Arc::new(Mutex::new(Some(copy))))
    }

    /// The same bytes.
    pub(super) fn watch(&self, file: ByteStream) -> ByteStream {
        let copying = Arc::clone(&self.0);
        Box::pin(file.then(move |chunk| {
            let copying = Arc::clone(&copying);
            async move {
                let mut copying = copying.lock().await;
                let goes_on = match (&mut *copying, &chunk) {
                    (Some(copy), Ok(chunk)) => copy.write(chunk).await,
                    _ => false,
                };
                if !goes_on {
                    *copying = None;
                }
                chunk
            }
        }))
    }

    /// What was kept. Only to be called where all of the file passed.
    pub(super) async fn finish(self) -> Option<Copied> {
        let copy = self.0.lock().await.take()?;
        let file = NarFile { hash: copy.hasher.finish(), suffix: Suffix::of(copy.compression) };
        Some(Copied { draft: copy.draft, file, size: copy.size })
    }
}

impl Copying {
    async fn write(&mut self, chunk: &Bytes) -> bool {
        if self.size == 0 && !tells_damage(self.compression, chunk) {
            return false;
        }
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
        self.draft.write(chunk.clone()).await.is_ok()
    }
}

/// Whether a file with this beginning cannot be read to its end when it was damaged.
fn tells_damage(compression: Compression, start: &[u8]) -> bool {
    match compression {
        Compression::Xz | Compression::Bzip2 | Compression::Gzip => true,
        Compression::Zstd => {
            start.starts_with(&ZSTD) && start.get(4).is_some_and(|it| it & ZSTD_CHECKSUM != 0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use larder_formats::narinfo::Compression;

    use super::tells_damage;
    use crate::compression::{Packer, Packing};

    #[test]
    fn our_own_files_tell_when_they_are_damaged_and_bare_ones_do_not() {
        for size in [10_u64, 40 << 20] {
            let mut packer = Packer::new(Packing::Zstd(1), size, 1).expect("there is memory");
            let nar = vec![7; usize::try_from(size).expect("it fits")];
            let mut packed = packer.write(&nar).expect("it is as large as was said");
            packed.extend(packer.finish().expect("it is as large as was said"));
            assert!(tells_damage(Compression::Zstd, &packed));
            packed[4] &= !super::ZSTD_CHECKSUM;
            assert!(!tells_damage(Compression::Zstd, &packed));
        }
        assert!(!tells_damage(Compression::None, b"\x0d\0\0\0\0\0\0\0nix-archive-1"));
        assert!(!tells_damage(Compression::Zstd, b"\x28\xb5"));
    }
}
