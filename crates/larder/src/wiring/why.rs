//! The caches that are asked why something is built here.

use std::path::Path;

use larder_cache::{
    source::ObjectStorage,
    storage::{Credentials, Location, OpenOptions, Patience, Secret},
};
use larder_fleet::{
    upgrade,
    why::{self, Answer, Role, Source, Way},
};
use larder_formats::{cache_info::CacheInfo, signature::PublicKey, store_path::StoreDir};
use larder_nix::settings::Settings;
use url::Url;

use super::caches::credentials;
use crate::report::Error;

/// How long caches are waited for: what is asked is small, and somebody waits.
const PATIENCE: Patience = Patience {
    connect: std::time::Duration::from_secs(4),
    answer: std::time::Duration::from_secs(6),
    stalled: std::time::Duration::from_secs(6),
    retries: 0,
};

/// What all of them are opened with.
pub(crate) struct Opening<'a> {
    /// The file with logins that Nix uses; without one, nobody is shown a login.
    pub(crate) netrc: Option<&'a Path>,
    /// The folder that paths are called by.
    pub(crate) store_dir: &'a StoreDir,
}

/// The caches that Nix asks, in the order in which it does.
pub(crate) async fn order(settings: &Settings, store_dir: &StoreDir) -> Vec<String> {
    let caches = settings.caches();
    if caches.len() < 2 {
        // Nobody needs to be asked, or waited for.
        return caches.to_vec();
    }
    let opening = Opening { netrc: Some(&settings.netrc_file), store_dir };
    let source = |url: &String| opening.source(url, Role::Substituter, None);
    let sources = caches.iter().map(source).collect();
    why::in_order(sources).await
}

impl Opening<'_> {
    /// A cache by its URL in nix.conf; without `keys`, what it has needs no signature.
    pub(crate) fn source(&self, url: &str, role: Role, keys: Option<Vec<PublicKey>>) -> Source {
        let keys = keys.filter(|_| !says_trusted(url));
        let way = self.way(url).unwrap_or(Way::ThroughNix);
        Source { url: url.to_owned(), shown: upgrade::shown(url), role, keys, way }
    }

    /// A cache that another one names, who may be anybody: it is asked by HTTP alone, and without a login.
    pub(crate) fn named_by_another(&self, url: &str, role: Role) -> Source {
        let opening = Self { netrc: None, store_dir: self.store_dir };
        let by_http = url.starts_with("http://") || url.starts_with("https://");
        let way = by_http.then(|| opening.way(url).ok()).flatten().unwrap_or_else(|| {
            let said = "the proxy names it, and it is asked from here only where [[upstream]] names it, too";
            Way::Not(Answer::Unreachable { said: said.to_owned() })
        });
        Source { url: url.to_owned(), shown: upgrade::shown(url), role, keys: None, way }
    }

    fn way(&self, url: &str) -> Result<Way, Error> {
        let Some((scheme, _)) = url.split_once("://") else {
            let word = url.split('?').next().unwrap_or_default();
            return Ok(match url.starts_with('/') || ["auto", "daemon", "local"].contains(&word) {
                true => Way::ThroughNix,
                false => Way::Not(Answer::NoScheme),
            });
        };
        let options = OpenOptions { patience: PATIENCE, ..OpenOptions::default() };
        let (location, options) = match scheme {
            "http" | "https" => self.server(url, options)?,
            // The store's own parameters say nothing of where it is.
            "file" => (url.split('?').next().unwrap_or_default().parse()?, options),
            _ => (url.parse()?, options),
        };
        if let Location::Directory(folder) = &location
            && !folder.is_dir()
        {
            let said = format!("there is no folder {}", folder.display());
            return Ok(Way::Not(Answer::Unreachable { said }));
        }
        let info =
            CacheInfo { store_dir: self.store_dir.clone(), want_mass_query: true, priority: 0 };
        Ok(Way::Direct(ObjectStorage::new(location.open(&options)?, info)))
    }

    /// A server, as Nix asks it: with the password in its URL, or that of the netrc file.
    fn server(&self, url: &str, options: OpenOptions) -> Result<(Location, OpenOptions), Error> {
        let mut plain = Url::parse(url).map_err(|error| Error::Path(error.to_string()))?;
        let named = (!plain.username().is_empty()).then(|| Credentials::Basic {
            user: plain.username().to_owned(),
            password: Secret::new(plain.password().unwrap_or_default()),
        });
        // Both are there to be cleared wherever there is a host.
        let _ = plain.set_username("").and_then(|()| plain.set_password(None));
        plain.set_query(None);
        let location: Location = plain.as_str().parse()?;
        let credentials = match named {
            Some(named) => Some(named),
            // One that may not be read here is read by the daemon all the same; a refusal shows that.
            None => self.netrc.and_then(|netrc| credentials(netrc, &location).unwrap_or_default()),
        };
        Ok((location, OpenOptions { credentials, ..options }))
    }
}

/// Whether nix.conf says that this cache needs no signatures: `?trusted=true`.
fn says_trusted(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair == "trusted=true" || pair == "trusted=1")
}
