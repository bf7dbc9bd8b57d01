//! Static caches, as configured or as named on the command line.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::SignedDuration;
use larder_cache::{
    cache::Cache,
    compression::Packing,
    gc::{
        apply::{Collector, Pace},
        check::Checker,
        index::Index,
        plan::Policy,
    },
    lease::{LeaseOptions, Leases},
    push::Push,
    record::Name,
    secrets::{AllowList, NIXPKGS},
    source::{
        LocalStore, ObjectStorage,
        object_storage::{Limits, Terms},
    },
    storage::{Credentials, Location, OpenOptions, Storage},
    time::Clock,
    upstream::Upstream,
};
use larder_formats::{cache_info::CacheInfo, signature::SecretKey};
use larder_nix::command::CancellationToken;
use larder_web::static_cache::{Gate, Served, StaticCache};

use crate::{
    clock,
    config::{ByteSize, CacheConfig, Config},
    environment, keys, netrc,
    report::{Error, KeepingError},
};

/// Paths under way at once, to each core: some read and pack while others wait for the target.
const AT_ONCE_A_CORE: usize = 2;

/// How NARs are packed for a cache that is not configured.
const PACKING: Packing = Packing::Zstd(3);

/// The priority of such a one.
const PRIORITY: u32 = 30;

/// How long an uploaded narinfo waits for its references: clients that send many at once send those soon.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a cache is, and what is known of it.
pub(crate) struct Target {
    /// What people call it: its name in the configuration, or its URL.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) storage: Arc<dyn Storage>,
    location: Location,
    /// What the configuration says of it, if it is there.
    pub(crate) settings: Option<CacheConfig>,
}

/// The cache of that name in the configuration, or at that URL.
pub(crate) fn target(config: &Config, name: &str) -> Result<Target, Error> {
    if let Some(settings) = config.caches.iter().find(|cache| cache.name.as_str() == name) {
        return configured(config, settings);
    }
    let location: Location = name.parse().map_err(|source| Error::NoSuchCache {
        name: name.to_owned(),
        known: config.caches.iter().map(|cache| cache.name.to_string()).collect(),
        source,
    })?;
    // One that is configured is meant by its URL, too.
    match config.caches.iter().find(|cache| cache.url == location) {
        Some(settings) => configured(config, settings),
        None => {
            let storage = opened(config, &location)?;
            Ok(Target { name: name.to_owned(), storage, location, settings: None })
        }
    }
}

/// A cache of the configuration.
pub(crate) fn configured(config: &Config, settings: &CacheConfig) -> Result<Target, Error> {
    Ok(Target {
        name: settings.name.to_string(),
        storage: opened(config, &settings.url)?,
        location: settings.url.clone(),
        settings: Some(settings.clone()),
    })
}

fn opened(config: &Config, location: &Location) -> Result<Arc<dyn Storage>, Error> {
    let options = OpenOptions {
        credentials: credentials(&config.push.netrc, location)?,
        ..OpenOptions::default()
    };
    Ok(location.open(&options)?)
}

/// What a server asks for, from the netrc file, where there is one.
pub(super) fn credentials(file: &Path, location: &Location) -> Result<Option<Credentials>, Error> {
    let Location::Http(server) = location else { return Ok(None) };
    let host = server.url().host_str().unwrap_or_default();
    Ok(netrc::login(file, host)?)
}

impl Target {
    /// What the server answers with below its name.
    pub(crate) fn served(
        &self,
        config: &Config,
        gate: &Arc<Gate>,
    ) -> Result<Option<StaticCache>, Error> {
        let Some(settings) = self.settings.as_ref().filter(|_| self.is_ours()) else {
            return Ok(None);
        };
        let largest = settings.max_nar_size.bytes();
        let terms = Terms {
            limits: Limits { file_size: largest, nar_size: largest },
            patience: PATIENCE,
            trusted: settings.trusted_public_keys.clone(),
            own: self.keys()?,
            upstreams: upstreams(config)?,
        };
        let replica = holder()?;
        Ok(Some(StaticCache::new(
            Served {
                name: self.name.clone(),
                private: settings.private,
                redirect: settings.redirect,
                terms,
            },
            self.cache(config)?.holding(Arc::new(self.leases(&replica))),
            &replica,
            (Arc::clone(gate), clock()),
        )))
    }

    fn leases(&self, holder: &Name) -> Leases {
        Leases::new(Arc::clone(&self.storage), holder, clock(), LeaseOptions::default())
    }

    /// The cache as one that is read.
    pub(crate) fn cache(&self, config: &Config) -> Result<ObjectStorage, Error> {
        let info = CacheInfo {
            store_dir: super::layout(config)?.store_dir,
            want_mass_query: true,
            priority: self.settings.as_ref().map_or(PRIORITY, |settings| settings.priority),
        };
        Ok(ObjectStorage::new(Arc::clone(&self.storage), info))
    }

    /// The cache as one that is written to, once it is known to be ours to write to.
    pub(crate) async fn for_writing(&self, config: &Config) -> Result<ObjectStorage, Error> {
        let cache = self.cache(config)?;
        cache.prepare().await?;
        if !self.is_ours() {
            return Ok(cache);
        }
        Ok(cache.holding(Arc::new(self.leases(&holder()?))))
    }

    /// The cache as one that is planned for: it is known to be one, and nothing is written to it.
    pub(crate) async fn for_planning(&self, config: &Config) -> Result<ObjectStorage, Error> {
        let cache = self.cache(config)?;
        cache.recognise().await?;
        Ok(cache)
    }

    /// Whether it is a mere place, where no server looks after leases and checks what comes.
    pub(crate) fn is_ours(&self) -> bool {
        !self.location.is_a_server()
    }

    /// The same, once it is known that there is a cache of ours to look after.
    pub(crate) async fn looked_after(self, config: &Config) -> Result<Self, Error> {
        if !self.is_ours() {
            return Err(KeepingError::Elsewhere(self.name).into());
        }
        if !self.cache(config)?.recognise().await? {
            return Err(KeepingError::NoCacheThere(self.storage.url().to_owned()).into());
        }
        Ok(self)
    }

    /// What is remembered of it between collections; of one that is not configured nothing is.
    pub(crate) fn index(&self, config: &Config) -> Result<Index, Error> {
        let store_dir = super::layout(config)?.store_dir;
        let index = match &self.settings {
            None => Index::in_memory(&store_dir),
            Some(settings) => {
                let file = config.state_dir.join("index").join(format!("{}.sqlite", settings.name));
                Index::open(&file, self.storage.url(), &store_dir)
            }
        };
        Ok(index?)
    }

    /// What may go from it.
    pub(crate) fn policy(&self) -> Policy {
        let settings = self.settings.as_ref();
        let max_age = settings.and_then(|settings| settings.max_age);
        Policy {
            max_age: max_age
                .map(|age| SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX)),
            max_size: settings.and_then(|settings| settings.max_size).map(ByteSize::bytes),
            ..Policy::default()
        }
    }

    /// What removes things from it, until it is told to stop.
    pub(crate) fn collector(
        &self,
        index: Index,
        stop: &CancellationToken,
    ) -> Result<Collector, Error> {
        let storage = Arc::clone(&self.storage);
        let collector = Collector::new(storage, index, holder()?, clock(), Pace::default());
        Ok(collector.until(stop.clone()))
    }

    /// What finds out what is wrong with it.
    pub(crate) fn checker(&self, config: &Config, index: Index) -> Result<Checker, Error> {
        Ok(Checker {
            cache: self.cache(config)?,
            index,
            upstreams: upstreams(config)?,
            clock: clock(),
            at_once: cores(),
        })
    }

    /// How NARs are packed there.
    pub(crate) fn packing(&self) -> Packing {
        self.settings.as_ref().map_or(PACKING, |settings| settings.compression)
    }

    /// The keys that sign what is put there.
    pub(crate) fn keys(&self) -> Result<Vec<SecretKey>, Error> {
        let paths = self.settings.iter().flat_map(|settings| &settings.signing_keys);
        Ok(paths.map(|path| keys::read(path)).collect::<Result<_, _>>()?)
    }

    /// Whether others may read it; of one that is not configured nobody knows.
    pub(crate) fn is_readable_by_others(&self) -> bool {
        self.settings.as_ref().is_none_or(|settings| settings.readable_by_others)
    }

    /// What may lie there although it looks like a secret: what the configuration allows, and `more`.
    pub(crate) fn allow_list(&self, more: &[String]) -> Result<AllowList, Error> {
        let configured = self.settings.iter().flat_map(|settings| &settings.allow_secrets);
        allow_list(configured.chain(more))
    }

    /// What brings paths of this machine's store there; `to` is this cache for writing or for planning.
    pub(crate) fn push(&self, config: &Config, to: ObjectStorage) -> Result<Push, Error> {
        Ok(Push {
            from: store(config)?,
            to,
            upstreams: upstreams(config)?,
            packing: self.packing(),
            keys: self.keys()?,
            at_once: AT_ONCE_A_CORE * cores(),
        })
    }
}

/// What may be pushed although it looks like a secret: this, and what nixpkgs publishes itself.
pub(crate) fn allow_list<'a>(
    entries: impl Iterator<Item = &'a String>,
) -> Result<AllowList, Error> {
    Ok(AllowList::from_entries(entries.map(String::as_str).chain(NIXPKGS))?)
}

/// This machine's store, as what is pushed from.
pub(crate) fn store(config: &Config) -> Result<Arc<dyn Cache>, Error> {
    Ok(Arc::new(LocalStore::open(super::layout(config)?, config.serve.priority)?))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// What clients get from elsewhere.
pub(crate) fn upstreams(config: &Config) -> Result<Vec<Upstream>, Error> {
    let store_dir = super::layout(config)?.store_dir;
    let upstream = |url: &url::Url| {
        let location: Location = url.as_str().parse().map_err(Error::Location)?;
        let info =
            CacheInfo { store_dir: store_dir.clone(), want_mass_query: true, priority: PRIORITY };
        let cache: Arc<dyn Cache> = Arc::new(ObjectStorage::new(opened(config, &location)?, info));
        let name = url.as_str().trim_end_matches('/').to_owned();
        Ok(Upstream { name, cache, keys: config.push.trusted_upstream_keys.clone() })
    };
    config.push.trusted_upstreams.iter().map(upstream).collect()
}

/// What says the time to those who may not look at a clock.
pub(crate) fn clock() -> Clock {
    Arc::new(clock::now)
}

/// A name that no other process has or had.
pub(crate) fn holder() -> Result<Name, Error> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| Error::Random(error.to_string()))?;
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // A host may be called as no file can be.
    let host = environment::host_name();
    Ok(format!("{host}-{random}").parse().or_else(|_| random.parse())?)
}
