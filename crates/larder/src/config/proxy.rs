//! `[proxy]` and `[[upstream]]`: the one substituter of a machine, and those it asks.

use std::{path::PathBuf, time::Duration};

use larder_cache::storage::Location;
use larder_formats::signature::PublicKey;

use super::address::Listen;
use super::caches::{CACHE_NIXOS_ORG, CACHE_NIXOS_ORG_KEY};
use super::keys::Section;
use super::problem::{ValueError, quoted};
use super::reader::{Document, SectionReader};
use super::size::ByteSize;
use super::value::{self, absolute_path};

/// Next to the port of `larder serve`.
const PORT: u16 = 5001;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_millis(500);

/// `[proxy]`: how the proxy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it answers; at least one address, none twice.
    pub listen: Vec<Listen>,
    /// How long an answer takes at most.
    pub answer_within: Duration,
    /// Where it keeps what it fetched, and how many bytes of it.
    pub keep: Option<(Location, ByteSize)>,
    /// Files with the secret keys that sign what it hands out. Absolute.
    pub signing_keys: Vec<PathBuf>,
    /// Every `[[upstream]]`, the most wanted first; at least one.
    pub upstreams: Vec<Upstream>,
}

/// `[[upstream]]`: one that it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// What it is called; no other one is called so.
    pub name: String,
    /// Where it is; at least one address.
    pub urls: Vec<Location>,
    /// The keys that make its paths count.
    pub public_keys: Vec<PublicKey>,
    /// How long those below wait for it.
    pub grace: Duration,
    /// The file with the certificate that is shown to it. Absolute.
    pub client_certificate: Option<PathBuf>,
}

/// The proxy and its upstreams.
pub(super) fn read(document: &mut Document<'_, '_>, state_dir: &std::path::Path) -> Proxy {
    let mut names = Vec::new();
    let upstreams = document.each(Section::Upstream, |section| {
        let name = section.required("name", |text| name(text, &names));
        names.extend(name.clone());
        upstream(section, name)
    });
    let mut upstreams: Vec<_> = upstreams.into_iter().flatten().collect();
    if upstreams.is_empty() {
        upstreams.extend(cache_nixos_org());
    }
    let section = &mut document.section(Section::Proxy);
    let listen = section.filled_list("listen", str::parse, "port 5001 of this machine alone");
    let place = section.text("keep", own_place);
    let size = section.text("keep-size", str::parse);
    section.together("keep", &["keep-size"]);
    Proxy {
        listen: listen.unwrap_or_else(|| vec![Listen::on_this_machine(PORT)]),
        answer_within: section.text("answer-within", value::duration).unwrap_or(ANSWER_WITHIN),
        keep: size.map(|size| {
            (place.unwrap_or_else(|| Location::Directory(state_dir.join("proxy/kept"))), size)
        }),
        signing_keys: section.list("signing-keys", absolute_path).unwrap_or_default(),
        upstreams,
    }
}

fn upstream(section: &mut SectionReader<'_, '_, '_>, name: Option<String>) -> Option<Upstream> {
    // All keys are read before the two that are needed are missed, for their problems.
    let urls = section.required_list("urls", value::cache_location);
    let public_keys = section.list("public-keys", value::public_key).unwrap_or_default();
    let grace = section.text("grace", value::duration).unwrap_or(GRACE);
    let client_certificate = section.text("client-certificate", absolute_path);
    Some(Upstream { name: name?, urls: urls?, public_keys, grace, client_certificate })
}

/// A place that is written to, and cleaned up.
fn own_place(text: &str) -> Result<Location, ValueError> {
    let place = value::cache_location(text)?;
    if place.is_a_server() {
        let what = format!("{} is another server's", quoted(text));
        return Err(ValueError::new(what, "name a directory or a bucket of its own"));
    }
    Ok(place)
}

fn name(text: &str, before: &[String]) -> Result<String, ValueError> {
    let name = value::plain_text(text)?;
    if before.contains(&name) {
        return Err(ValueError::new(
            format!("{} is the name of an upstream above already", quoted(text)),
            "give each upstream a name of its own; two addresses of one cache stand in one `urls`",
        ));
    }
    Ok(name)
}

/// What everybody asks.
fn cache_nixos_org() -> Option<Upstream> {
    Some(Upstream {
        name: "cache.nixos.org".to_owned(),
        urls: vec![CACHE_NIXOS_ORG.parse().ok()?],
        public_keys: vec![CACHE_NIXOS_ORG_KEY.parse().ok()?],
        grace: GRACE,
        client_certificate: None,
    })
}
