//! What was fetched before: a static cache in Nix's plain layout, of which references may be missing.
//!
//! Nothing fails because of it: what cannot be read or written is fetched again. It is bounded by collecting it like
//! any cache.

use std::{ops::Range, sync::Arc, time::Duration};

use futures::TryStreamExt;
use larder_formats::{narinfo::NarInfo, store_path::StorePathHash};
use tokio::{sync::OnceCell, time::timeout};

use super::tee::{Copied, Tee};
use crate::{
    cache::{ByteStream, Cache, CacheError, NarIdentity},
    compression::Packing,
    last_use::LastUse,
    record::Name,
    source::{ObjectStorage, object_storage::layout},
    time::Clock,
};

/// How what came without compression is packed.
const PACKING: Packing = Packing::Zstd(3);

/// How long it may take to say whether it has something.
const PATIENCE: Duration = Duration::from_millis(500);

/// What was fetched before.
pub struct Kept {
    cache: ObjectStorage,
    uses: LastUse,
    clock: Clock,
    /// Whether it may be written to, once that was found out.
    prepared: OnceCell<()>,
}

impl Kept {
    /// A cache. `process` is a name that no other process has or had.
    #[must_use]
    pub fn new(cache: ObjectStorage, process: Name, clock: Clock) -> Self {
        let uses = LastUse::new(Arc::clone(cache.storage()), process);
        Self { cache, uses, clock, prepared: OnceCell::new() }
    }

    /// Writes down what was asked for since the last time.
    pub async fn note_uses(&self) {
        if let Err(error) = self.uses.flush((self.clock)()).await {
            self.complain("what was asked for is not written down", &error);
        }
    }

    /// What is known of a path that is kept.
    pub(super) async fn narinfo(&self, hash: StorePathHash) -> Option<Arc<NarInfo>> {
        match timeout(PATIENCE, self.cache.narinfo(hash)).await {
            Ok(Ok(info)) => info,
            Ok(Err(error)) => {
                self.complain("it is fetched again", &error);
                None
            }
            Err(_) => {
                self.complain("it is fetched again", &"no answer in time");
                None
            }
        }
    }

    /// A NAR that is kept.
    pub(super) async fn nar(
        self: &Arc<Self>,
        nar: NarIdentity,
        range: Range<u64>,
    ) -> Option<ByteStream> {
        let info = self.narinfo(nar.path).await.filter(|info| info.nar_hash == nar.nar_hash)?;
        let bytes = match self.cache.nar_of(&info, range).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.complain("it is fetched again", &error);
                None
            }
        };
        let Some(bytes) = bytes else {
            self.lose(nar.path).await;
            return None;
        };
        self.uses.record(nar.path, (self.clock)());
        let this = Arc::clone(self);
        Some(Box::pin(bytes.or_else(move |error| {
            let this = Arc::clone(&this);
            async move {
                // The next one who asks shall have it from elsewhere.
                this.lose(nar.path).await;
                Err(error)
            }
        })))
    }

    /// Begins to keep the file that a narinfo speaks of, where that can be done as it is.
    pub(super) async fn begin(&self, info: &NarInfo) -> Option<Tee> {
        if !self.is_prepared().await {
            return None;
        }
        let draft = self.cache.storage().draft().await;
        let draft = draft.inspect_err(|error| self.complain("nothing is kept", error)).ok()?;
        Some(Tee::new(draft, info.compression))
    }

    /// Keeps a path of which the file was copied and is what the narinfo says.
    pub(super) async fn keep(&self, info: &NarInfo, copied: Copied) {
        let Copied { draft, file, size } = copied;
        let written = async {
            draft.publish(&layout::nar_file(&file).map_err(other)?).await.map_err(other)?;
            let mut info = info.clone();
            info.url = file.url();
            (info.file_hash, info.file_size) = (Some(file.hash), Some(size));
            self.cache.put_narinfo(info, &[]).await.map_err(other)
        };
        self.tell(written.await);
        self.uses.record(info.store_path.hash(), (self.clock)());
    }

    /// Keeps a path by packing its NAR.
    pub(super) async fn pack(&self, info: &NarInfo, nar: ByteStream) {
        if !self.is_prepared().await {
            return;
        }
        let written = async {
            let packed = self.cache.pack_anew(info, nar, PACKING, |_| ()).await.map_err(other)?;
            let mut info = info.clone();
            info.url = packed.file.url();
            info.compression = packed.compression;
            (info.file_hash, info.file_size) = (Some(packed.file.hash), Some(packed.file_size));
            self.cache.put_narinfo(info, &[]).await.map_err(other)
        };
        self.tell(written.await);
        self.uses.record(info.store_path.hash(), (self.clock)());
    }

    /// Forgets a path that cannot be read.
    async fn lose(&self, path: StorePathHash) {
        tracing::warn!(%path, "cannot be read in {} any more", self.cache.storage().url());
        let Ok(key) = layout::narinfo(path) else { return };
        if let Err(error) = self.cache.storage().delete(&key).await {
            self.complain("it stays there", &error);
        }
    }

    async fn is_prepared(&self) -> bool {
        let prepared = self.prepared.get_or_try_init(|| self.cache.prepare()).await;
        prepared.inspect_err(|error| self.complain("nothing is kept", error)).is_ok()
    }

    fn tell(&self, written: Result<(), CacheError>) {
        if let Err(error) = written {
            self.complain("a path is not kept", &error);
        }
    }

    fn complain(&self, what: &str, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "{}: {what}", self.cache.storage().url());
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> CacheError {
    CacheError::new("keeping a path", error)
}
