//! From the configuration to the parts that work: the only file that knows concrete types.

pub(crate) mod builders;
pub(crate) mod caches;
pub(crate) mod notify;
pub(crate) mod proxy;
pub(crate) mod why;

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::SignedDuration;
use larder_cache::{
    cache::Cache,
    layer::{Metered, Packed, Signing, Tiered},
    packed::{self, PackedNars},
    pin::{built::BuiltPins, local::LocalPins},
    queue::Queue,
    source::LocalStore,
};
use larder_fleet::{
    host::HostName,
    ledger::Ledger,
    night::{
        Bounds, BuildTimeLeases, FlakeSource, Home, Limits, Night, Publisher, Wanted, ledger_file,
    },
    upgrade,
};
use larder_formats::signature::{PublicKey, SecretKey};
use larder_nix::{command::CancellationToken, database::Database, layout::StoreLayout, nix::Nix};
use larder_web::{
    cache_site::CacheSite,
    forwarded::TrustedProxies,
    metrics::Metrics,
    router::router,
    server::{Address, Place, Serving, tls::Tls},
    site::Site,
    static_cache::{Gate, StaticCache},
};

use crate::{
    clock,
    config::{self, ByteSize, Certificate, Config, Listen, REV_DIR, Server},
    environment, keys,
    report::Error,
};

/// Where is written what was built when the disk is full: memory.
const SPARE_BUILT: &str = "/run/larder/built";

/// Where is written what is to be pushed when the disk is full: memory.
const SPARE_QUEUE: &str = "/run/larder/queue";

/// The store that everything works on.
pub(crate) fn layout(config: &Config) -> Result<StoreLayout, Error> {
    Ok(StoreLayout::resolve(config.serve.store.as_str(), &environment::nix())?)
}

/// What waits to be pushed from it.
pub(crate) fn queue(config: &Config) -> Result<Queue, Error> {
    let folder = layout(config)?.state_dir.join("gcroots/larder/queue");
    Ok(Queue::new(folder, PathBuf::from(SPARE_QUEUE)))
}

/// Nix, for that store.
pub(crate) async fn nix(config: &Config, cancel: &CancellationToken) -> Result<Nix, Error> {
    Ok(Nix::detect(layout(config)?, cancel).await?)
}

/// The pins of that store.
pub(crate) fn local_pins(config: &Config) -> Result<LocalPins, Error> {
    Ok(LocalPins::new(layout(config)?, &config.state_dir, caches::clock()))
}

/// The leases of what was built in that store. Without `pin-built` they end as they are recorded, and no new ones begin.
pub(crate) fn built_pins(config: &Config) -> Result<BuiltPins, Error> {
    let length = config.build.pin_built.unwrap_or_default();
    // Saturates at the end of time.
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    let spare = PathBuf::from(SPARE_BUILT);
    Ok(BuiltPins::new(layout(config)?, spare, &config.state_dir, length))
}

/// What goes on through reloads.
#[derive(Clone)]
pub(crate) struct Lasting {
    pub(crate) metrics: Metrics,
    pub(crate) gate: Arc<Gate>,
    pub(crate) packed: PackedNars,
}

/// The packed NARs of this machine's store: those of before, unless they are configured in another way.
pub(crate) fn packed_nars(config: &Config, before: Option<&PackedNars>) -> PackedNars {
    let serve = &config.serve;
    let folder = config.state_dir.join("packed-nars");
    let keep = serve.packed_nars.filter(|_| serve.serve_store);
    let settings = packed::Settings {
        keep: keep.map(|limit| (folder, limit.bytes())),
        level: serve.packed_nars_level,
        at_once: std::thread::available_parallelism().map_or(2, usize::from),
    };
    match before.filter(|before| *before.settings() == settings) {
        Some(before) => before.clone(),
        None => PackedNars::new(settings),
    }
}

/// What `larder serve` answers with, and what has to be looked after meanwhile.
pub(crate) struct Served {
    pub(crate) serving: Serving,
    pub(crate) caches: Vec<Arc<StaticCache>>,
    pub(crate) proxy: Option<proxy::Asking>,
}

/// What `larder serve` answers with.
pub(crate) fn serving(config: &Config, lasting: &Lasting) -> Result<Served, Error> {
    let proxy = match config.serve.pass_through {
        true => Some(proxy::asking(config)?),
        false => None,
    };
    let site = site(config, lasting, proxy.as_ref())?;
    if config.serve.serve_store && site.public_keys.is_empty() {
        tracing::warn!("no `signing-keys`: clients accept only what is signed already");
    }
    let caches = site.caches.clone();
    let serving = Serving {
        base_path: site.base_path.clone(),
        proxies: Arc::clone(&site.trusted_proxies),
        router: router(site),
        tls: tls(config)?,
    };
    Ok(Served { serving, caches, proxy })
}

/// The certificate of the configuration, where there is one.
pub(crate) fn tls(config: &Config) -> Result<Option<Arc<Tls>>, Error> {
    let Some(Certificate { certificate, key }) = &config.serve.certificate else { return Ok(None) };
    Ok(Some(Arc::new(Tls::load(certificate, key)?)))
}

fn site(config: &Config, lasting: &Lasting, proxy: Option<&proxy::Asking>) -> Result<Site, Error> {
    let Lasting { metrics, gate, packed } = lasting;
    let paths = &config.serve.signing_keys;
    let keys = paths.iter().map(|path| keys::read(path)).collect::<Result<Vec<_>, _>>()?;
    let public_keys = keys.iter().map(SecretKey::public).collect();
    let mut caches = Vec::new();
    for settings in &config.caches {
        let served = caches::configured(config, settings)?.served(config, gate)?;
        caches.extend(served.map(Arc::new));
    }
    let store = match config.serve.serve_store {
        false => None,
        true => Some(store(config, keys, packed)?),
    };
    let passing = proxy.map(|proxy| {
        let public = caches.iter().filter_map(|cache| cache.for_everybody());
        let tiers = store.clone().into_iter().chain(public).chain([Arc::clone(&proxy.cache)]);
        Arc::new(Tiered::new(proxy.info.clone(), tiers.collect())) as Arc<dyn Cache>
    });
    let compress_nars = config.serve.compress_nars;
    let site = |cache| Arc::new(CacheSite { cache, compress_nars, packed: Some(packed.clone()) });
    Ok(Site {
        store: passing.or(store).map(site),
        caches,
        proxy: proxy.map(|asking| asking.proxy.clone()),
        public_keys,
        fleet_keys: fleet_public_keys(config),
        ledger: ledger_file(&config.state_dir),
        metrics: Some(metrics.clone()),
        base_path: config.serve.base_path.clone(),
        trusted_proxies: Arc::new(TrustedProxies::new(config.serve.trusted_proxies.clone())),
    })
}

/// This machine's store, as it is served.
fn store(
    config: &Config,
    keys: Vec<SecretKey>,
    packed: &PackedNars,
) -> Result<Arc<dyn Cache>, Error> {
    let store = LocalStore::open(layout(config)?, config.serve.priority)?;
    let signing = Signing::new(Metered::new(store), keys);
    Ok(match packed.keeps() {
        true => Arc::new(Packed::new(signing, packed.clone())),
        false => Arc::new(signing),
    })
}

/// Shown to people who set up a client. A server that only serves has none.
fn fleet_public_keys(config: &Config) -> Vec<PublicKey> {
    keys::read(&config.build.fleet_key).map(|key| key.public()).into_iter().collect()
}

/// Where `larder serve` listens.
pub(crate) fn places(config: &Config) -> Vec<Place> {
    let place = |secure| move |listen| place(listen, secure);
    let plain = config.serve.listen.iter().map(place(false));
    plain.chain(config.serve.tls_listen.iter().map(place(true))).collect()
}

fn place(listen: &Listen, secure: bool) -> Place {
    let address = match listen {
        Listen::Tcp { host, port } => Address::Tcp(host.clone(), *port),
        Listen::Unix(path) => Address::Unix(path.clone()),
    };
    Place { address, secure }
}

/// A run of the night build. Without `publish` it needs no fleet key.
pub(crate) async fn night(
    config: &Config,
    publish: bool,
    cancel: &CancellationToken,
) -> Result<Night, Error> {
    let flake = config.build.flake.as_ref().ok_or(Error::NoFlake)?;
    let source = FlakeSource::parse(flake.as_str())?;
    let leases = if publish { build_time_leases(config)? } else { None };
    let publisher = if publish { Some(publisher(config)?) } else { None };
    let (nix, builders) = builders::with_nix(config, cancel).await?;
    let database = Database::open(nix.layout())?;
    Ok(Night {
        nix,
        database,
        state_dir: config.state_dir.clone(),
        flake: flake.to_string(),
        source,
        hosts: config.build.hosts.clone().map_or(Wanted::All, Wanted::Configured),
        limits: Limits { max_jobs: config.build.max_jobs, cores: config.build.cores },
        required: config.build.required_hosts.clone(),
        search_limit: config.build.search_limit,
        home: home(config),
        builders,
        bounds: bounds(&config.build.bounds),
        publisher,
        leases,
        clock: clock::now,
    })
}

/// How long a forge may take with a lock.
const FORGE_PATIENCE: Duration = Duration::from_secs(300);

/// Where an updated lock goes.
fn home(config: &Config) -> Option<Home> {
    let (name, email) = config.build.lock_author.clone();
    let branch = config.build.push_lock_to.clone()?;
    Some(Home { branch, name, email, patience: FORGE_PATIENCE })
}

fn build_time_leases(config: &Config) -> Result<Option<BuildTimeLeases>, Error> {
    if config.build.pin_built.is_none() {
        return Ok(None);
    }
    let trusted_upstream_keys = config.push.trusted_upstream_keys.clone();
    Ok(Some(BuildTimeLeases { pins: built_pins(config)?, trusted_upstream_keys }))
}

fn bounds(configured: &config::Bounds) -> Bounds {
    Bounds {
        memory: configured.memory.map(ByteSize::bytes),
        min_free_disk: configured.min_free_disk.bytes(),
        time_limit: configured.time_limit,
        host_time_limit: configured.host_time_limit,
        first: configured.first.clone(),
    }
}

fn publisher(config: &Config) -> Result<Publisher, Error> {
    Ok(Publisher {
        state_dir: config.state_dir.clone(),
        ledger: Ledger::open(&ledger_file(&config.state_dir))?,
        rev_dir: config.build.rev_dir.clone(),
        key: keys::read(&config.build.fleet_key)?,
        keep: config.build.keep_revisions.get(),
        // Saturates at the end of time.
        expiry: SignedDuration::try_from(config.build.expiry).unwrap_or(SignedDuration::MAX),
    })
}

/// What this machine is called in the fleet.
pub(crate) fn host(config: &Config) -> Result<HostName, Error> {
    match &config.client.host {
        Some(host) => Ok(host.clone()),
        None => Ok(environment::host_name().parse()?),
    }
}

/// The addresses of the server, for a client.
pub(crate) fn servers(config: &Config) -> Vec<upgrade::Server> {
    let server = |server: &Server| match server {
        Server::Http(url) => upgrade::Server::Http(url.to_string()),
        Server::Ssh(ssh) => upgrade::Server::Ssh(upgrade::SshServer {
            user: ssh.user.clone(),
            host: ssh.host.clone(),
            port: ssh.port,
            rev_dir: ssh.rev_dir.clone().unwrap_or_else(|| PathBuf::from(REV_DIR)),
        }),
    };
    config.client.servers.iter().map(server).collect()
}
