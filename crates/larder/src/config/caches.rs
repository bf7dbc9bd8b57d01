//! `[[cache]]` and `[push]`: what static caches there are, and what goes into which.
//!
//! Promises that each cache has a name and a place of its own, and that everything is pushed to a cache
//! that is there.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use larder_cache::{compression::Packing, storage::Location};
use larder_formats::signature::PublicKey;
use url::Url;

use super::keys::Section;
use super::problem::{ValueError, quoted};
use super::reader::{Document, SectionReader, nearest};
use super::size::ByteSize;
use super::value::{self, absolute_path};

const PRIORITY: u32 = 30;
/// The level of zstd where none is named.
pub(super) const ZSTD_LEVEL: u8 = 3;
const XZ_LEVEL: u8 = 6;
pub(super) const CACHE_NIXOS_ORG: &str = "https://cache.nixos.org/";
pub(super) const CACHE_NIXOS_ORG_KEY: &str =
    "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
const NETRC: &str = "/etc/nix/netrc";

/// What the server answers for by itself; a cache of that name would hide it or be hidden.
const TAKEN: [&str; 13] = [
    "build-trace-v2",
    "builds",
    "debuginfo",
    "fleet",
    "health",
    "log",
    "metrics",
    "nar",
    "nix-cache-info",
    "realisations",
    "serve",
    "status",
    "version",
];

/// A cache's name: a word of lower-case letters, digits and `-` that begins with a letter, at most 63
/// characters. It stands in addresses and in messages as it is, and is no folder that the server has
/// besides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheName(String);

/// `[[cache]]`: one static cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// What it is called; no other cache is called so.
    pub name: CacheName,
    /// Where it lies; no other cache lies there.
    pub url: Location,
    /// How new NARs are compressed.
    pub compression: Packing,
    /// Whether somebody may read it who may not read the store that is pushed.
    pub readable_by_others: bool,
    /// What the look for secrets lets pass, as it was written.
    pub allow_secrets: Vec<String>,
    /// Whether reading it through the server needs a token.
    pub private: bool,
    /// Whether the server sends readers to the place itself for NARs.
    pub redirect: bool,
    /// How large a NAR may be that is uploaded.
    pub max_nar_size: ByteSize,
    /// Files with the secret keys that sign what is put into it. Absolute.
    pub signing_keys: Vec<PathBuf>,
    /// The keys whose signatures on uploads are believed.
    pub trusted_public_keys: Vec<PublicKey>,
    /// The `Priority` of its nix-cache-info.
    pub priority: u32,
    /// How large collection lets it be.
    pub max_size: Option<ByteSize>,
    /// How long after its last use collection lets a path be.
    pub max_age: Option<Duration>,
}

/// `[push]`: what is pushed where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The caches that builds go to; each is the name of a [`CacheConfig`].
    pub to: Vec<CacheName>,
    /// Caches whose paths are not pushed.
    pub trusted_upstreams: Vec<Url>,
    /// The keys that sign what those have.
    pub trusted_upstream_keys: Vec<PublicKey>,
    /// Whether every new path of the store is pushed.
    pub watch_store: bool,
    /// The file with the tokens for caches by HTTP, which need not be there. Absolute.
    pub netrc: PathBuf,
}

impl CacheName {
    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CacheName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const LONGEST: usize = 63;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let plain = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(is_plain)
            && text.len() <= LONGEST;
        if !plain {
            return Err(ValueError::new(
                format!("{} cannot be a cache's name", quoted(text)),
                "write a word of lower-case letters, digits and `-` that begins with a letter, since it \
                 stands in addresses",
            ));
        }
        if TAKEN.contains(&text) {
            return Err(ValueError::new(
                format!(
                    "{} cannot be a cache's name: the server answers there itself",
                    quoted(text)
                ),
                "choose another, for example `main`",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The caches, and what is pushed to them.
pub(super) fn read(document: &mut Document<'_, '_>) -> (Vec<CacheConfig>, Push) {
    // The names and places of broken caches count as well, so that one slip is one problem.
    let mut names: Vec<CacheName> = Vec::new();
    let mut urls: Vec<Location> = Vec::new();
    let caches = document.each(Section::Cache, |section| {
        let name = section.required("name", |text| unlike(text, text.parse()?, &names, "name"));
        let url = section
            .required("url", |text| unlike(text, value::cache_location(text)?, &urls, "place"));
        names.extend(name.clone());
        urls.extend(url.clone());
        cache(section, name, url)
    });
    let push = push(&mut document.section(Section::Push), &names);
    (caches.into_iter().flatten().collect(), push)
}

/// The value, if no cache before had it.
fn unlike<T: PartialEq>(text: &str, value: T, before: &[T], what: &str) -> Result<T, ValueError> {
    if before.contains(&value) {
        return Err(ValueError::new(
            format!("{} is the {what} of a cache above already", quoted(text)),
            format!("give each cache a {what} of its own"),
        ));
    }
    Ok(value)
}

fn cache(
    section: &mut SectionReader<'_, '_, '_>,
    name: Option<CacheName>,
    url: Option<Location>,
) -> Option<CacheConfig> {
    // All keys are read before the two that are needed are missed, for their problems.
    let compression = compression(section);
    let readable_by_others = section.truth("readable-by-others").unwrap_or(true);
    let allow_secrets = section.list("allow-secrets", value::plain_text).unwrap_or_default();
    // Who may not read the place itself is not to read it through the server.
    let private = section.truth("private").unwrap_or(!readable_by_others);
    let redirect = section.truth("redirect").unwrap_or(false);
    let max_nar_size = section.text("max-nar-size", str::parse).unwrap_or(ByteSize::MAX_NAR);
    let signing_keys = section.list("signing-keys", absolute_path).unwrap_or_default();
    let trusted_public_keys =
        section.list("trusted-public-keys", value::public_key).unwrap_or_default();
    let priority = section.number("priority", 0..=u32::MAX).unwrap_or(PRIORITY);
    let max_size = section.text("max-size", str::parse);
    let max_age = section.text("max-age", value::duration);
    Some(CacheConfig {
        name: name?,
        url: url?,
        compression,
        readable_by_others,
        allow_secrets,
        private,
        redirect,
        max_nar_size,
        signing_keys,
        trusted_public_keys,
        priority,
        max_size,
        max_age,
    })
}

fn compression(section: &mut SectionReader<'_, '_, '_>) -> Packing {
    let named = section.text("compression", |text| match text {
        "zstd" => Ok(Packing::Zstd(ZSTD_LEVEL)),
        "xz" => Ok(Packing::Xz(XZ_LEVEL)),
        "none" => Ok(Packing::None),
        other => Err(ValueError::new(
            format!("{} is no compression that NARs are written with", quoted(other)),
            "write `zstd`, `xz` or `none`",
        )),
    });
    let named = named.unwrap_or(Packing::Zstd(ZSTD_LEVEL));
    let level = |number: u32| u8::try_from(number).ok();
    match named {
        Packing::Zstd(usual) => {
            Packing::Zstd(section.number("level", 1..=19).and_then(level).unwrap_or(usual))
        }
        Packing::Xz(usual) => {
            Packing::Xz(section.number("level", 0..=9).and_then(level).unwrap_or(usual))
        }
        Packing::None => {
            section.useless("level", "what is not compressed has no level");
            Packing::None
        }
    }
}

fn push(section: &mut SectionReader<'_, '_, '_>, names: &[CacheName]) -> Push {
    let known = |text: &str| {
        if let Some(name) = names.iter().find(|name| name.as_str() == text) {
            return Ok(name.clone());
        }
        let what = format!("there is no [[cache]] with the name {}", quoted(text));
        let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        Err(ValueError::new(
            what,
            match nearest(names.iter(), text, |name| name.as_str()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if all.is_empty() => {
                    "write a [[cache]] with a `name` and a `url` for it".to_owned()
                }
                None => format!("the caches: {}", all.join(", ")),
            },
        ))
    };
    let upstreams = section.list("trusted-upstreams", value::http_url);
    let keys = section.list("trusted-upstream-keys", value::public_key);
    Push {
        to: section.list("to", known).unwrap_or_default(),
        trusted_upstreams: upstreams
            .unwrap_or_else(|| CACHE_NIXOS_ORG.parse().into_iter().collect()),
        trusted_upstream_keys: keys
            .unwrap_or_else(|| CACHE_NIXOS_ORG_KEY.parse().into_iter().collect()),
        watch_store: section.truth("watch-store").unwrap_or(false),
        netrc: section.text("netrc", absolute_path).unwrap_or_else(|| PathBuf::from(NETRC)),
    }
}
