//! The proxy, as it is configured.

use std::sync::Arc;

use larder_cache::{
    cache::Cache,
    layer::Signing,
    proxy::{self, Kept, Proxy},
    source::ObjectStorage,
    storage::{Location, OpenOptions, Patience, Secret},
};
use larder_formats::cache_info::CacheInfo;
use larder_web::{
    cache_site::CacheSite,
    metrics::Metrics,
    proxy::ProxySite,
    router::proxy_router,
    server::{Place, Serving},
};

use super::caches::credentials;
use crate::{
    clock,
    config::{Config, Upstream},
    keys,
    report::Error,
};

/// How long upstreams are waited for: somebody waits for us.
const PATIENCE: Patience = Patience {
    connect: std::time::Duration::from_secs(5),
    answer: std::time::Duration::from_secs(15),
    stalled: std::time::Duration::from_secs(20),
    retries: 0,
};

/// Who is asked, and what is kept of it.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) proxy: Proxy,
    pub(crate) kept: Option<Arc<Kept>>,
    /// The same as a cache, signed where it is to be.
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) info: CacheInfo,
}

/// Those that are configured to be asked.
pub(crate) fn asking(config: &Config) -> Result<Asking, Error> {
    let settings = &config.proxy;
    let paths = &settings.signing_keys;
    let keys = paths.iter().map(|path| keys::read(path)).collect::<Result<Vec<_>, _>>()?;
    let (info, kept) = (info(config)?, kept(config)?.map(Arc::new));
    let proxy = Proxy::new(proxy::Settings {
        info: info.clone(),
        upstreams: upstreams(config)?,
        within: settings.answer_within,
        spool: config.state_dir.join("proxy/spool"),
        kept: kept.clone(),
    });
    let cache = Arc::new(Signing::new(proxy.clone(), keys));
    Ok(Asking { proxy, kept, cache, info })
}

/// What `larder proxy` answers with.
pub(crate) fn serving(asking: &Asking, metrics: &Metrics) -> Serving {
    let cache = Arc::clone(&asking.cache);
    let site = ProxySite {
        cache: Arc::new(CacheSite { cache, compress_nars: false, packed: None }),
        proxy: asking.proxy.clone(),
        metrics: Some(metrics.clone()),
    };
    Serving {
        base_path: larder_web::base_path::BasePath::default(),
        proxies: Arc::default(),
        router: proxy_router(site),
        tls: None,
    }
}

/// Where it listens.
pub(crate) fn places(config: &Config) -> Vec<Place> {
    config.proxy.listen.iter().map(|listen| super::place(listen, false)).collect()
}

fn info(config: &Config) -> Result<CacheInfo, Error> {
    Ok(CacheInfo {
        store_dir: super::layout(config)?.store_dir,
        want_mass_query: true,
        priority: config.serve.priority,
    })
}

/// Those that it asks.
fn upstreams(config: &Config) -> Result<Vec<proxy::Upstream>, Error> {
    let info = info(config)?;
    let upstream = |upstream: &Upstream| {
        let options = |location: &Location| -> Result<OpenOptions, Error> {
            Ok(OpenOptions {
                credentials: credentials(&config.push.netrc, location)?,
                client_certificate: certificate(upstream)?,
                patience: PATIENCE,
                ..OpenOptions::default()
            })
        };
        let address = |location: &Location| {
            let storage = location.open(&options(location)?)?;
            Ok::<_, Error>(ObjectStorage::new(storage, info.clone()))
        };
        Ok(proxy::Upstream {
            name: upstream.name.clone(),
            addresses: upstream.urls.iter().map(address).collect::<Result<_, _>>()?,
            keys: upstream.public_keys.clone(),
            grace: upstream.grace,
        })
    };
    config.proxy.upstreams.iter().map(upstream).collect()
}

fn certificate(upstream: &Upstream) -> Result<Option<Secret>, Error> {
    let Some(path) = &upstream.client_certificate else { return Ok(None) };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| Error::Io { path: path.clone(), source })?;
    Ok(Some(Secret::new(text)))
}

fn kept(config: &Config) -> Result<Option<Kept>, Error> {
    let Some((location, limit)) = &config.proxy.keep else { return Ok(None) };
    let storage = location.open(&OpenOptions { fleeting: true, ..OpenOptions::default() })?;
    let cache = ObjectStorage::new(storage, info(config)?);
    let keys = config.proxy.upstreams.iter().flat_map(|it| it.public_keys.clone()).collect();
    Ok(Some(Kept::new(cache, keys, limit.bytes(), clock::now())))
}
