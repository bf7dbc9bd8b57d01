//! Comparing with what the server built: from its system's derivation, or the derivation of what it has by the same
//! name, down to the nearest place where both differ by themselves.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, stream};
use larder_cache::source::ObjectStorage;
use larder_formats::{
    derivation::Derivation,
    hash::Sha256,
    nar::{Decoder, Event},
    narinfo::NarInfo,
    package_name::PackageName,
    store_path::StorePath,
};
use larder_nix::{derivations, layout::StoreLayout};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    asking::Asking,
    difference::{self, Difference},
};

/// Paths of the server's system that are looked through for a name; large systems have some thousands.
const CLOSURE_LIMIT: usize = 20_000;

/// Pairs of derivations that are compared.
const PAIRS_LIMIT: usize = 5_000;

/// Bytes of a derivation.
const DERIVATION_LIMIT: u64 = 16 * 1024 * 1024;

/// How long one derivation may take to come.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// How long looking for something to compare with may take, and comparing.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(60);

/// Derivations that are fetched at once.
const AT_ONCE: usize = 16;

/// Places that are told.
const TOLD: usize = 5;

/// What came of the comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Comparison {
    /// The server built exactly this: it was built there, and is not handed out any more.
    Same {
        /// The derivation, or the path.
        path: StorePath,
    },
    /// They differ.
    #[serde(rename_all = "camelCase")]
    Differs {
        /// The server's derivation.
        there: StorePath,
        /// Where they differ by themselves, the nearest first; empty where that was not found.
        sites: Vec<Site>,
        /// Derivations of the server's that could not be had.
        unknown: Vec<StorePath>,
        /// Whether there is more that was not looked at: it would have taken too long.
        cut_short: bool,
    },
    /// What the server built is not known.
    Unknown {
        /// Why.
        why: String,
    },
}

/// A place where two derivations differ by themselves, and not by what they are made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Site {
    /// The derivation here.
    pub here: StorePath,
    /// The server's.
    pub there: StorePath,
    /// In what they differ.
    pub differences: Vec<Difference>,
}

/// Compares a derivation here with the server's: `with` is that derivation, or a path that the server built, in
/// whose closure something of the same name is looked for.
pub async fn compare(
    layout: &StoreLayout,
    asking: &Asking<'_>,
    here: &StorePath,
    with: &StorePath,
) -> Comparison {
    let server = Server { layout, asking };
    let Some(ours) = server.local(here) else {
        return Comparison::Unknown { why: format!("{here} cannot be read here") };
    };
    let there = match with.is_derivation() {
        true => Ok(with.clone()),
        false => {
            let found = timeout(LONGEST, server.counterpart(here, &ours, with)).await;
            found.unwrap_or_else(|_| {
                let why = format!("looking through what the server built took over {LONGEST:?}");
                Err(Comparison::Unknown { why })
            })
        }
    };
    match there {
        Err(comparison) => comparison,
        Ok(there) if there == *here => Comparison::Same { path: there },
        Ok(there) => server.descend(here, there).await,
    }
}

/// What was found on the way down.
#[derive(Default)]
struct Found {
    sites: Vec<Site>,
    unknown: Vec<StorePath>,
    cut_short: bool,
}

struct Server<'a> {
    layout: &'a StoreLayout,
    asking: &'a Asking<'a>,
}

impl Server<'_> {
    /// The derivation of what is called the same in the closure of what the server built.
    async fn counterpart(
        &self,
        here: &StorePath,
        ours: &Derivation,
        built: &StorePath,
    ) -> Result<StorePath, Comparison> {
        let unknown = |why: String| Comparison::Unknown { why };
        let outputs: BTreeSet<&StorePath> =
            ours.outputs.values().filter_map(|output| output.path.as_ref()).collect();
        let wanted = PackageName::of(here).name;
        let mut alike: Option<Arc<NarInfo>> = None;
        let mut seen = BTreeSet::from([built.hash()]);
        let mut level = vec![built.hash()];
        let mut first = true;
        while !level.is_empty() && seen.len() < CLOSURE_LIMIT {
            let infos = stream::iter(level).map(|hash| self.asking.find(hash)).buffered(32);
            let infos: Vec<_> = infos.filter_map(std::future::ready).collect().await;
            if first && infos.is_empty() {
                return Err(unknown(format!("no cache has what the server built ({built})")));
            }
            first = false;
            let mut next = Vec::new();
            for (_, info) in infos {
                if outputs.contains(&info.store_path) {
                    return Err(Comparison::Same { path: info.store_path.clone() });
                }
                if PackageName::of(&info.store_path).name == wanted && alike.is_none() {
                    alike = Some(Arc::clone(&info));
                }
                next.extend(
                    info.references.iter().map(StorePath::hash).filter(|it| seen.insert(*it)),
                );
            }
            level = next;
        }
        let Some(alike) = alike else {
            return Err(unknown(format!(
                "nothing called {wanted} is in the closure of what the server built ({built}); what is only needed to \
                 build is not in there"
            )));
        };
        let deriver = alike.deriver.clone();
        deriver.ok_or_else(|| {
            unknown(format!("the cache does not say how {} was made", alike.store_path))
        })
    }

    /// Goes down through what both are made from, one level after the other.
    async fn descend(&self, here: &StorePath, there: StorePath) -> Comparison {
        let mut found = Found::default();
        let mut seen = BTreeSet::new();
        let mut level = vec![(here.clone(), there.clone())];
        let end = Instant::now() + LONGEST;
        while !level.is_empty() && found.sites.len() < TOLD {
            if seen.len() > PAIRS_LIMIT {
                found.cut_short = true;
                break;
            }
            level.retain(|pair| seen.insert(pair.clone()));
            let Ok(next) = timeout_at(end, self.compare_all(level, &mut found)).await else {
                found.cut_short = true;
                break;
            };
            level = next;
        }
        found.sites.truncate(TOLD);
        match found.sites.is_empty() && found.unknown.contains(&there) {
            true => Comparison::Unknown {
                why: format!("the server's derivation {there} is neither here nor in a cache"),
            },
            false => {
                let Found { sites, unknown, cut_short } = found;
                Comparison::Differs { there, sites, unknown, cut_short }
            }
        }
    }

    /// Compares these, and says what both of each are made from.
    async fn compare_all(
        &self,
        pairs: Vec<(StorePath, StorePath)>,
        found: &mut Found,
    ) -> Vec<(StorePath, StorePath)> {
        let pairs = pairs.into_iter().filter_map(|(ours, theirs)| {
            let local = self.local(&ours)?;
            Some(async move {
                let remote = self.get(&theirs).await;
                (ours, theirs, local, remote)
            })
        });
        let mut pairs = stream::iter(pairs).buffered(AT_ONCE);
        let mut next = Vec::new();
        while let Some((ours, theirs, local, remote)) = pairs.next().await {
            let Some(remote) = remote else {
                found.unknown.push(theirs);
                continue;
            };
            if difference::make_the_same(&local, &remote) {
                continue;
            }
            let between = difference::between(&local, &remote);
            next.extend(between.inputs);
            if !between.own.is_empty() {
                let differences = between.own;
                found.sites.push(Site { here: ours, there: theirs, differences });
            }
        }
        next
    }

    fn local(&self, path: &StorePath) -> Option<Derivation> {
        derivations::read(self.layout, path).ok()
    }

    async fn get(&self, path: &StorePath) -> Option<Derivation> {
        if let Some(derivation) = self.local(path) {
            return Some(derivation);
        }
        let (cache, info) = self.asking.find(path.hash()).await?;
        let bytes = file(&cache, &info).await?;
        Derivation::parse(&bytes, &self.layout.store_dir).ok()
    }
}

/// A path that is one file, if it is what was promised.
async fn file(cache: &ObjectStorage, info: &NarInfo) -> Option<Vec<u8>> {
    if info.nar_size > DERIVATION_LIMIT {
        return None;
    }
    let whole = async {
        let mut stream = cache.nar_of(info, 0..info.nar_size).await.ok()??;
        let mut nar = Vec::new();
        while let Some(chunk) = stream.next().await {
            nar.extend_from_slice(&chunk.ok()?);
        }
        Some(nar)
    };
    let nar = timeout(PATIENCE, whole).await.ok()??;
    if Sha256::of(&nar) != info.nar_hash {
        return None;
    }
    let (mut decoder, mut input, mut contents) = (Decoder::new(), nar.as_slice(), Vec::new());
    while let Some(event) = decoder.next_event(&mut input).ok()? {
        if let Event::Content(bytes) = event {
            contents.extend_from_slice(bytes);
        }
    }
    decoder.finish().ok()?;
    Some(contents)
}
