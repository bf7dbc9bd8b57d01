//! The sections as values, and which key makes which of them.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use larder_fleet::{builders::Builder, host::HostName};
use larder_formats::signature::PublicKey;
use larder_web::base_path::BasePath;

use super::address::Listen;
use super::bounds::{self, Bounds};
use super::builders;
use super::caches::{self, CacheConfig, Push, ZSTD_LEVEL};
use super::keys::Section;
use super::notify::{self, Notify};
use super::problem::{ValueError, quoted};
use super::proxies::{self, network};
use super::proxy::{self, Proxy};
use super::reader::{Document, SectionReader};
use super::schedule::{self, ScheduleConfig};
use super::server::Server;
use super::size::ByteSize;
use super::value::{self, FlakeRef, StoreUri, absolute_path};

const STATE_DIR: &str = "/var/lib/larder";
const PRIORITY: u32 = 30;
const MAX_JOBS: u32 = 1;
const CORES: u32 = 0;
const KEEP_REVISIONS: u32 = 5;
/// Where the `.rev` files are unless somebody says otherwise: where scripts have looked before.
pub(crate) const REV_DIR: &str = "/var/lib/nix-auto-build";
const EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const SEARCH_LIMIT: u32 = 32;
const PROFILE: &str = "/nix/var/nix/profiles/system";

/// Everything a configuration says, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where Larder keeps what it must remember. Absolute.
    pub state_dir: PathBuf,
    /// The section `[serve]`.
    pub serve: Serve,
    /// The section `[build]`.
    pub build: Build,
    /// Every `[[schedule]]`, in the order of the file.
    pub schedules: Vec<ScheduleConfig>,
    /// Every `[[builder]]`, in the order of the file.
    pub builders: Vec<Builder>,
    /// The section `[client]`.
    pub client: Client,
    /// Every `[[cache]]`, in the order of the file.
    pub caches: Vec<CacheConfig>,
    /// The section `[push]`.
    pub push: Push,
    /// The section `[proxy]`, and every `[[upstream]]`.
    pub proxy: Proxy,
    /// Every `[[notify]]`, in the order of the file.
    pub notify: Vec<Notify>,
}

/// `[serve]`: the binary cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// Where it answers; at least one address, none twice.
    pub listen: Vec<Listen>,
    /// Where it answers by TLS. None without a certificate.
    pub tls_listen: Vec<Listen>,
    /// What it shows there.
    pub certificate: Option<Certificate>,
    /// The store of this machine.
    pub store: StoreUri,
    /// Whether it is served.
    pub serve_store: bool,
    /// Whether what it has not is taken from elsewhere.
    pub pass_through: bool,
    /// Files with the secret keys that sign narinfos. Absolute.
    pub signing_keys: Vec<PathBuf>,
    /// The `Priority` of nix-cache-info; clients ask lower ones first.
    pub priority: u32,
    /// Whether NARs are sent with `Content-Encoding: zstd` to clients that accept it.
    pub compress_nars: bool,
    /// How many bytes of packed NARs are kept; without it, none are made.
    pub packed_nars: Option<ByteSize>,
    /// The level of zstd they are packed with, from 1 to 19.
    pub packed_nars_level: u8,
    /// What its addresses begin with, behind a proxy that passes the whole path on.
    pub base_path: BasePath,
    /// Who is believed when it says who asked, and by which address.
    pub trusted_proxies: Vec<IpNet>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The PEM file with the certificate and its chain. Absolute.
    pub certificate: PathBuf,
    /// The PEM file with its private key. Absolute.
    pub key: PathBuf,
}

/// `[build]`: what is built and published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The flake with the fleet's `nixosConfigurations`.
    pub flake: Option<FlakeRef>,
    /// The hosts to build; none means every host of the flake. Never empty.
    pub hosts: Option<Vec<HostName>>,
    /// How many derivations are built at a time; 0 builds none on this machine.
    pub max_jobs: u32,
    /// How many cores a derivation may use; 0 is all.
    pub cores: u32,
    /// How much of the rest a run may take.
    pub bounds: Bounds,
    /// How many revisions of each host stay rooted.
    pub keep_revisions: NonZeroU32,
    /// Where `<host>.rev` is published. Absolute.
    pub rev_dir: PathBuf,
    /// The file with the secret key that signs revisions. Absolute.
    pub fleet_key: PathBuf,
    /// How long a published revision stays acceptable. More than nothing.
    pub expiry: Duration,
    /// The hosts that an update may not break; none means every host that is built. Never empty.
    pub required_hosts: Option<Vec<HostName>>,
    /// How many locks are evaluated at most to find out which input broke a host.
    pub search_limit: u32,
    /// The branch that an updated lock is pushed to.
    pub push_lock_to: Option<String>,
    /// Who its commits are by: name and address.
    pub lock_author: (String, String),
    /// How long what was built is kept; nothing for not at all.
    pub pin_built: Option<Duration>,
}

/// `[client]`: where this machine's system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whom to ask, in this order.
    pub servers: Vec<Server>,
    /// The keys of which one must have signed a revision.
    pub fleet_public_keys: Vec<PublicKey>,
    /// This machine's name in the fleet; none means its host name.
    pub host: Option<HostName>,
    /// The flake the system is built from here.
    pub flake: Option<FlakeRef>,
    /// The system profile. Absolute.
    pub profile: PathBuf,
}

/// The whole file. What is wrong goes to the document; a default then stands in.
pub(super) fn read(document: &mut Document<'_, '_>) -> Config {
    let state_dir = path(&mut document.section(Section::Top), "state-dir", STATE_DIR);
    let serve = serve(&mut document.section(Section::Serve));
    let build = build(&mut document.section(Section::Build), &state_dir);
    let schedules = schedule::read(document);
    let builders = builders::read(document);
    let client = client(&mut document.section(Section::Client));
    let (caches, push) = caches::read(document);
    let proxy = proxy::read(document, &state_dir);
    let notify = notify::read(document);
    Config { state_dir, serve, build, schedules, builders, client, caches, push, proxy, notify }
}

fn serve(section: &mut SectionReader<'_, '_, '_>) -> Serve {
    let listen = section
        .filled_list("listen", str::parse, "port 5000 on every address")
        .unwrap_or_else(|| vec![Listen::everywhere()]);
    let by_tls = |text: &str| by_tls(text, &listen);
    Serve {
        tls_listen: section.filled_list("tls-listen", by_tls, "no TLS").unwrap_or_default(),
        listen,
        certificate: certificate(section),
        store: section.text("store", str::parse).unwrap_or_default(),
        serve_store: section.truth("serve-store").unwrap_or(true),
        pass_through: section.truth("pass-through").unwrap_or(false),
        signing_keys: section.list("signing-keys", absolute_path).unwrap_or_default(),
        priority: section.number("priority", 0..=u32::MAX).unwrap_or(PRIORITY),
        compress_nars: section.truth("compress-nars").unwrap_or(false),
        packed_nars: section.text("packed-nars", str::parse),
        packed_nars_level: packed_nars_level(section),
        base_path: section.text("base-path", proxies::base_path).unwrap_or_default(),
        trusted_proxies: section.list("trusted-proxies", network).unwrap_or_else(proxies::loopback),
    }
}

fn packed_nars_level(section: &mut SectionReader<'_, '_, '_>) -> u8 {
    let level = section.number("packed-nars-level", 1..=19);
    level.and_then(|level| u8::try_from(level).ok()).unwrap_or(ZSTD_LEVEL)
}

/// An address is listened on with TLS or without.
fn by_tls(text: &str, plain: &[Listen]) -> Result<Listen, ValueError> {
    let address = text.parse()?;
    if plain.contains(&address) {
        let what = format!("{} is listened on without TLS already", quoted(text));
        return Err(ValueError::new(
            what,
            "take it out of `listen`, which is `[\"[::]:5000\"]` where it is not set",
        ));
    }
    Ok(address)
}

fn certificate(section: &mut SectionReader<'_, '_, '_>) -> Option<Certificate> {
    const KEYS: [&str; 2] = ["tls-certificate", "tls-key"];
    section.together("tls-listen", &KEYS);
    let [certificate, key] = KEYS.map(|name| {
        section.together(name, &["tls-listen", "tls-certificate", "tls-key"]);
        section.text(name, absolute_path)
    });
    Some(Certificate { certificate: certificate?, key: key? })
}

fn build(section: &mut SectionReader<'_, '_, '_>, state_dir: &std::path::Path) -> Build {
    Build {
        flake: section.text("flake", str::parse),
        hosts: section.filled_list("hosts", value::host_name, "every host of the flake"),
        max_jobs: section.number("max-jobs", 0..=u32::MAX).unwrap_or(MAX_JOBS),
        cores: section.number("cores", 0..=u32::MAX).unwrap_or(CORES),
        bounds: bounds::read(section),
        keep_revisions: section
            .number("keep-revisions", 1..=u32::MAX)
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN.saturating_add(KEEP_REVISIONS - 1)),
        rev_dir: path(section, "rev-dir", REV_DIR),
        fleet_key: section
            .text("fleet-key", absolute_path)
            .unwrap_or_else(|| state_dir.join("fleet.key")),
        expiry: section.text("expiry", value::duration).unwrap_or(EXPIRY),
        required_hosts: section.filled_list("required-hosts", value::host_name, "all of them"),
        search_limit: section.number("search-limit", 0..=u32::MAX).unwrap_or(SEARCH_LIMIT),
        push_lock_to: section.text("push-lock-to", value::branch),
        lock_author: section
            .text("lock-author", value::person)
            .unwrap_or_else(|| ("Larder".to_owned(), "larder@localhost".to_owned())),
        pin_built: schedule::pin_built(section),
    }
}

fn client(section: &mut SectionReader<'_, '_, '_>) -> Client {
    Client {
        servers: section.list("servers", str::parse).unwrap_or_default(),
        fleet_public_keys: section.list("fleet-public-keys", value::public_key).unwrap_or_default(),
        host: section.text("host", value::host_name),
        flake: section.text("flake", str::parse),
        profile: path(section, "profile", PROFILE),
    }
}

fn path(section: &mut SectionReader<'_, '_, '_>, name: &str, default: &str) -> PathBuf {
    section.text(name, absolute_path).unwrap_or_else(|| PathBuf::from(default))
}
