//! What a site is made of.

use std::{path::PathBuf, sync::Arc};

use axum::extract::State;
use larder_cache::cache::Cache;
use larder_formats::signature::PublicKey;

use crate::{base_path::BasePath, forwarded::TrustedProxies, metrics::Metrics};

/// What the routes share.
pub struct Site {
    /// Answers for store paths.
    pub cache: Arc<dyn Cache>,
    /// The keys that its narinfos are signed with.
    pub public_keys: Vec<PublicKey>,
    /// The keys that its revisions are signed with.
    pub fleet_keys: Vec<PublicKey>,
    /// The fleet's ledger, which need not be there yet.
    pub ledger: PathBuf,
    /// Whether NARs go out with `Content-Encoding: zstd` to clients that accept it.
    pub compress_nars: bool,
    /// What `/metrics` tells; without it that is absent.
    pub metrics: Option<Metrics>,
    /// What every route lies below.
    pub base_path: BasePath,
    /// Who is believed when it says by which address a client came.
    pub trusted_proxies: Arc<TrustedProxies>,
}

/// The site as the handlers get it.
pub(crate) type Shared = State<Arc<Site>>;
