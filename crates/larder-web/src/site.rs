//! What a site is made of.

use std::{path::PathBuf, sync::Arc};

use axum::extract::State;
use larder_cache::proxy::Proxy;
use larder_formats::signature::PublicKey;

use crate::{
    base_path::BasePath, cache_site::CacheSite, forwarded::TrustedProxies, metrics::Metrics,
    static_cache::StaticCache,
};

/// What the routes share.
pub struct Site {
    /// This machine's store, where it is served.
    pub store: Option<Arc<CacheSite>>,
    /// The static caches, each below its name.
    pub caches: Vec<Arc<StaticCache>>,
    /// Who is asked for what none of these has.
    pub proxy: Option<Proxy>,
    /// The keys that its narinfos are signed with.
    pub public_keys: Vec<PublicKey>,
    /// The keys that its revisions are signed with.
    pub fleet_keys: Vec<PublicKey>,
    /// The fleet's ledger, which need not be there yet.
    pub ledger: PathBuf,
    /// What `/metrics` tells; without it that is absent.
    pub metrics: Option<Metrics>,
    /// What every route lies below.
    pub base_path: BasePath,
    /// Who is believed when it says by which address a client came.
    pub trusted_proxies: Arc<TrustedProxies>,
}

/// The site as the handlers get it.
pub(crate) type Shared = State<Arc<Site>>;
