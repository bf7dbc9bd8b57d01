//! A static cache that is served below its name: read by everybody, or by those who have a token, and
//! written to by those whose token says so.

mod access;
mod body;
mod gate;
mod read;
mod write;

use std::sync::Arc;

use axum::extract::State;
use larder_cache::{
    cache::Cache,
    last_use::LastUse,
    layer::Metered,
    record::{Name, RecordError},
    source::{ObjectStorage, object_storage::Terms},
    time::Clock,
    token::Tokens,
};
use larder_formats::signature::PublicKey;

use tokio::sync::OnceCell;

use crate::{cache_site::CacheSite, error::WebError};

pub use self::gate::{Gate, UploadLimits};
pub(crate) use self::{
    access::guard,
    read::{debuginfo, nar, narinfo_or_listing},
    write::{
        discard, put_cache_info, put_file, put_log, put_nar, put_realisation_by_hash,
        put_realisation_by_path,
    },
};

/// How a static cache is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The folder it is served below.
    pub name: String,
    /// Whether reading needs a token as well.
    pub private: bool,
    /// Whether NARs are fetched from the place itself, by a signed address, where it has such.
    pub redirect: bool,
    /// What is taken in, and whose signatures are kept and added.
    pub terms: Terms,
}

/// A static cache and all that is needed to answer for it.
pub struct StaticCache {
    served: Served,
    cache: ObjectStorage,
    /// The same as one that is only read.
    site: Arc<CacheSite>,
    tokens: Tokens,
    used: Arc<LastUse>,
    gate: Arc<Gate>,
    clock: Clock,
    /// Done once it is known that the place may be written to.
    prepared: OnceCell<()>,
}

/// The cache as the handlers get it.
pub(crate) type Shared = State<Arc<StaticCache>>;

impl StaticCache {
    /// A cache that whoever uploads to relies on the leases of. `replica` is a name that no other process has.
    #[must_use]
    pub fn new(
        served: Served,
        cache: ObjectStorage,
        replica: &Name,
        (gate, clock): (Arc<Gate>, Clock),
    ) -> Self {
        let storage = || Arc::clone(cache.storage());
        let tokens = Tokens::new(storage());
        let used = Arc::new(LastUse::new(storage(), replica.clone()));
        let (noted, now) = (Arc::clone(&used), Arc::clone(&clock));
        let read = Metered::telling(cache.clone(), move |path| noted.record(path, now()));
        let read: Arc<dyn Cache> = Arc::new(read);
        let site = Arc::new(CacheSite { cache: read, compress_nars: false, packed: None });
        Self { served, cache, site, tokens, used, gate, clock, prepared: OnceCell::new() }
    }

    /// What it has, for whoever may read all of it. What is asked for is noted as used.
    #[must_use]
    pub fn for_everybody(&self) -> Option<Arc<dyn Cache>> {
        (!self.served.private).then(|| Arc::clone(&self.site.cache))
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.served.name
    }

    /// Writes down what was asked for since it was last written down.
    ///
    /// # Errors
    /// When the place cannot be written to; it is still to be written then.
    pub async fn note_uses(&self) -> Result<(), RecordError> {
        self.used.flush(self.now()).await
    }

    /// Makes sure, once, that the place is a cache of this store, or empty.
    async fn prepare(&self) -> Result<(), WebError> {
        let prepared = self.prepared.get_or_try_init(|| self.cache.prepare()).await;
        prepared.map(|_| ()).map_err(WebError::from)
    }

    pub(crate) fn is_private(&self) -> bool {
        self.served.private
    }

    /// The keys that sign what is uploaded.
    pub(crate) fn public_keys(&self) -> Vec<PublicKey> {
        self.served.terms.own.iter().map(larder_formats::signature::SecretKey::public).collect()
    }

    /// The cache as one that is only read.
    pub(crate) fn site(&self) -> Arc<CacheSite> {
        Arc::clone(&self.site)
    }

    fn now(&self) -> jiff::Timestamp {
        (self.clock)()
    }
}
