//! The NARs of a store, packed when they are first asked for, and kept in a folder of bounded size.
//!
//! Promise: what is given for a NAR and a recipe is always the same bytes, so that a download that broke off can go
//! on, whoever packed them. Nothing fails because of the folder: where a packed NAR cannot be kept, it is packed for
//! the reader that asks. Knows nothing of HTTP.

mod coming;
mod folder;
mod kept;
mod packer;
mod recipe;
mod shelf;
mod writing;

use std::{path::PathBuf, sync::Arc};

use futures::TryStreamExt;
use larder_formats::{hash::Sha256, narinfo::NarInfo};
use tokio::sync::Semaphore;

use self::{
    coming::{Alone, Progress, stored},
    folder::Folder,
    kept::Key,
    writing::Keeping,
};
use crate::cache::{ByteStream, StoredNar};

pub use self::{
    coming::{Coming, PackedError},
    packer::Unpacked,
    recipe::{NotARecipe, Recipe},
    writing::{DROPPED, KEPT_BYTES, PACKED},
};

/// The counter of packed NARs asked for. Its label is `outcome`: `kept`, `packing` where it was packed for this
/// request or another one just then, or `alone` where it was packed and not kept.
pub const PACKED_REQUESTS: &str = "larder_packed_nar_requests_total";

/// What that label says.
pub const PACKED_OUTCOMES: [&str; 3] = [KEPT, PACKING, ALONE];
const KEPT: &str = "kept";
const PACKING: &str = "packing";
const ALONE: &str = "alone";

/// Readers at once that each pack for themselves. Up to level 9 each takes 20 MB for it at most.
const PLACES: usize = 16;

/// The same at higher levels, where each takes 51 MB (level 12), 76 MB (level 15) and more.
const PLACES_HIGH: usize = 4;
const HIGH: u8 = 9;

/// How NARs are packed, and which are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where they are kept, and how many bytes of them at most; nothing where none is.
    pub keep: Option<(PathBuf, u64)>,
    /// The level of zstd, from 1 to 19.
    pub level: u8,
    /// NARs that are packed at once, for the folder.
    pub at_once: usize,
}

/// Packed NARs of a store. Its clones are the same.
#[derive(Clone)]
pub struct PackedNars {
    settings: Arc<Settings>,
    recipe: Recipe,
    keeping: Option<Arc<Keeping>>,
    alone: Arc<Semaphore>,
}

/// A packed NAR.
pub enum PackedNar {
    /// It is there.
    Whole(StoredNar),
    /// It is being packed.
    Coming(Coming),
}

impl PackedNars {
    /// Packed NARs, and those that are there of before. A folder that cannot be used is as none; the log says so.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let keeping = settings.keep.as_ref().and_then(|(path, limit)| {
            let opened = Folder::open(path).inspect_err(|error| {
                let path = path.display();
                tracing::error!(%error, "no packed NARs: let the server's user write to {path}");
            });
            Some(Arc::new(Keeping::new(opened.ok()?, *limit, settings.at_once)))
        });
        let alone = if settings.level > HIGH { PLACES_HIGH } else { PLACES };
        Self {
            recipe: Recipe::of(settings.level),
            settings: Arc::new(settings),
            keeping,
            alone: Arc::new(Semaphore::new(alone)),
        }
    }

    /// How they were made.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How NARs are packed now.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// Whether packed NARs are kept.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeping.is_some()
    }

    /// Another number whenever more is known of any packed NAR.
    pub(crate) fn generation(&self) -> u64 {
        self.keeping.as_ref().map_or(0, |keeping| keeping.books().generation)
    }

    /// What a narinfo says of the packed NAR.
    pub(crate) fn describe(&self, info: &mut NarInfo) {
        let (nar, recipe) = (info.nar_hash, self.recipe);
        let (hash, path) = (nar.to_nix32(), info.store_path.hash());
        info.url = format!("nar/{hash}.nar.zst?hash={path}&packing={recipe}");
        info.compression = larder_formats::narinfo::Compression::Zstd;
        let kept = self.look(nar, recipe);
        info.file_hash = kept.map(|(_, hash)| hash);
        info.file_size = kept.map(|(size, _)| size);
    }

    /// The size of a packed NAR that is kept, and the hash of it.
    fn look(&self, nar: Sha256, recipe: Recipe) -> Option<(u64, Sha256)> {
        let kept = self.keeping.as_ref()?.books().shelf.look(Key { nar, recipe })?;
        Some((kept.size, kept.hash))
    }

    /// The size of a packed NAR, where it is kept.
    #[must_use]
    pub fn size(&self, nar: Sha256, recipe: Recipe) -> Option<u64> {
        self.look(nar, recipe).map(|(size, _)| size)
    }

    /// A packed NAR. Nothing, if it was packed by another recipe, and is kept no more.
    pub async fn nar(&self, unpacked: Unpacked, recipe: Recipe) -> Option<PackedNar> {
        let key = Key { nar: unpacked.nar.nar_hash, recipe };
        if let Some(stored) = self.kept(key).await {
            count(KEPT);
            return Some(PackedNar::Whole(stored));
        }
        if recipe != self.recipe {
            return None;
        }
        let progress = self.keeping.as_ref().and_then(|keeping| keeping.progress(key, &unpacked));
        if let Some(progress) = &progress
            && let Progress::Whole(file, size) = &*progress.borrow()
        {
            // It only has to get its name.
            count(KEPT);
            return Some(PackedNar::Whole(stored(Arc::clone(file), *size)));
        }
        count(if progress.is_some() { PACKING } else { ALONE });
        let alone = Alone { unpacked, level: recipe.level(), places: Arc::clone(&self.alone) };
        Some(PackedNar::Coming(Coming { progress, alone }))
    }

    async fn kept(&self, key: Key) -> Option<StoredNar> {
        let keeping = self.keeping.as_ref()?;
        let kept = keeping.books().shelf.take(key)?;
        match keeping.blocking(move |keeping| keeping.folder.file(&kept)).await {
            Ok(Some(file)) => {
                let StoredNar { size, contents } = stored(Arc::new(file), kept.size);
                let keeping = Arc::clone(keeping);
                let watched = move |range| -> ByteStream {
                    Box::pin(contents(range).inspect_err(move |_| keeping.lose(&kept)))
                };
                Some(StoredNar { size, contents: Box::new(watched) })
            }
            gone => {
                // Removed by another process, or by hand.
                keeping.books().shelf.forget(key);
                if let Err(error) = gone {
                    tracing::warn!(%error, "a packed NAR cannot be read in {}", keeping.folder.display());
                }
                None
            }
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(PACKED_REQUESTS, "outcome" => outcome).increment(1);
}
