//! A binary cache as the routes that only read it see it.

use std::sync::Arc;

use axum::extract::State;
use larder_cache::{cache::Cache, packed::PackedNars};

/// A binary cache.
pub struct CacheSite {
    /// Answers for store paths.
    pub cache: Arc<dyn Cache>,
    /// Whether NARs go out with `Content-Encoding: zstd` to clients that accept it.
    pub compress_nars: bool,
    /// Its NARs packed, for a store that has them as they are.
    pub packed: Option<PackedNars>,
}

/// The cache as the handlers get it.
pub(crate) type SharedCache = State<Arc<CacheSite>>;
