//! Caches that clients ask as well, so that what they have need not be in ours.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt, stream};
use larder_formats::{narinfo::NarInfo, signature::PublicKey, store_path::StorePath};

use crate::cache::{Cache, CacheError};

/// Paths that an upstream is asked about at once.
const AT_ONCE: usize = 32;

/// Something that others get paths from anyway.
#[derive(Clone)]
pub struct Upstream {
    /// What it is called.
    pub name: String,
    /// Answers for it.
    pub cache: Arc<dyn Cache>,
    /// Whose signatures make its paths count; without a key, none does.
    pub keys: Vec<PublicKey>,
}

impl Upstream {
    /// Whether it has this path, signed by one of its keys.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn has(&self, path: &StorePath) -> Result<bool, CacheError> {
        let theirs = self.cache.narinfo(path.hash()).await?;
        Ok(theirs.is_some_and(|theirs| self.vouches_for(path, &theirs)))
    }

    /// Whether it has each of these, in their order; nothing where it does not tell. One that did not tell once is
    /// not asked on: it may be that there is no network.
    pub async fn has_each(&self, paths: &[StorePath]) -> Vec<Option<bool>> {
        let silent = &AtomicBool::new(false);
        let answers = stream::iter(paths).map(|path| async move {
            if silent.load(Ordering::Relaxed) {
                return None;
            }
            let answer = self.has(path).await;
            if let Err(error) = &answer {
                silent.store(true, Ordering::Relaxed);
                tracing::debug!(%error, upstream = self.name, "an upstream did not tell");
            }
            answer.ok()
        });
        answers.buffered(AT_ONCE).boxed().collect().await
    }

    fn vouches_for(&self, path: &StorePath, theirs: &NarInfo) -> bool {
        theirs.store_path == *path && theirs.is_trusted_by(&self.cache.info().store_dir, &self.keys)
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({})", self.name)
    }
}
