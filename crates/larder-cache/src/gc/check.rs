//! What is wrong with a cache: found out, and nothing changed.
//!
//! Promises that what it tells of a path was so when that path was looked at for itself: a listing takes its
//! time, and others write and collect meanwhile. What could not be told is said to be unsure, and never taken for
//! wrong. What somebody else put there is named and otherwise left alone.

mod contents;
mod text;

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, stream};
use larder_formats::{
    hash::Sha256,
    nar_file::NarFile,
    narinfo::NarInfo,
    store_path::{StorePath, StorePathHash},
};

use super::{
    index::{Index, IndexError, KnownPath},
    snapshot::{NarEntry, ObjectKind, Snapshot},
};
use crate::{
    source::object_storage::{CommitError, NARINFO_LIMIT, ObjectStorage, layout},
    storage::{Key, KeyError, StorageError},
    time::Clock,
    upstream::Upstream,
};

/// Small objects that are asked for at once.
const PARALLEL: usize = 32;

/// Looks at one cache.
pub struct Checker {
    /// The cache.
    pub cache: ObjectStorage,
    /// Its index.
    pub index: Index,
    /// Where references may be as well.
    pub upstreams: Vec<Upstream>,
    /// The time.
    pub clock: Clock,
    /// NARs that are read at once.
    pub at_once: usize,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Found {
    /// Paths that were looked at.
    pub paths: usize,
    /// NAR files that are there.
    pub nars: usize,
    /// NAR files that were read.
    pub read: usize,
    /// What is wrong, by path.
    pub broken: BTreeMap<StorePathHash, Broken>,
    /// NAR files whose bytes are wrong, whoever needs them, and what is wrong.
    pub damaged: BTreeMap<NarFile, String>,
    /// NAR files that nothing needs: a collection removes them after the grace time.
    pub orphans: Vec<NarEntry>,
    /// Files that are no cache's.
    pub foreign: Vec<Key>,
    /// What could not be told, and why.
    pub unsure: Vec<String>,
}

/// A path that is not as it should be.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Its hash part.
    pub hash: StorePathHash,
    /// What its narinfo says, where that can be read.
    pub info: Option<NarInfo>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Something that is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Its narinfo cannot be understood, or is another path's.
    Narinfo(String),
    /// Its NAR is not where its narinfo says.
    NoNar(String),
    /// The file of its NAR has another size.
    FileSize {
        /// What the narinfo says.
        said: u64,
        /// What is there.
        found: u64,
    },
    /// Its NAR is another one, or damaged.
    Contents(String),
    /// What it refers to is neither here nor in a trusted upstream.
    Reference(StorePath),
}

/// A check could not go on.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The cache cannot be listed, or the index not be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The cache does not tell what it has.
    #[error(transparent)]
    Present(#[from] CommitError),
}

/// What a path's narinfo is, looked at for itself.
enum Said {
    Nothing,
    Nonsense(String),
    Info(Box<NarInfo>),
}

impl Found {
    /// Whether all is as it should be, and known to be.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.broken.is_empty() && self.damaged.is_empty() && self.unsure.is_empty()
    }

    fn note(&mut self, info: NarInfo, problem: Problem) {
        let hash = info.store_path.hash();
        let new = || Broken { hash, info: Some(info), problems: Vec::new() };
        self.broken.entry(hash).or_insert_with(new).problems.push(problem);
    }
}

impl Broken {
    /// The hash of the NAR that it should have, where that is known.
    #[must_use]
    pub fn nar_hash(&self) -> Option<Sha256> {
        self.info.as_ref().map(|info| info.nar_hash)
    }

    /// What it needs that is nowhere.
    pub fn missing(&self) -> impl Iterator<Item = &StorePath> {
        self.problems.iter().filter_map(|problem| match problem {
            Problem::Reference(path) => Some(path),
            _ => None,
        })
    }

    /// Whether nothing but its references is missing.
    #[must_use]
    pub fn only_lacks_references(&self) -> bool {
        self.missing().count() == self.problems.len()
    }
}

impl Checker {
    /// What is there, from which the rest starts.
    ///
    /// # Errors
    /// When the cache cannot be listed.
    pub async fn look(&self) -> Result<Snapshot, CheckError> {
        let storage = &**self.cache.storage();
        Ok(self.index.refresh(storage, (self.clock)(), PARALLEL).await?.1)
    }

    /// What is wrong as far as names, sizes and narinfos tell.
    ///
    /// # Errors
    /// When the index fails, or the cache does not tell what it has.
    pub async fn check(&self, snapshot: &Snapshot) -> Result<Found, CheckError> {
        let mut found = Found {
            paths: snapshot.paths().len(),
            nars: snapshot.nars().len(),
            orphans: snapshot.orphans().copied().collect(),
            ..Found::default()
        };
        let foreign = snapshot.objects().iter().filter(|it| it.kind == ObjectKind::Foreign);
        found.foreign = foreign.map(|object| object.key.clone()).collect();
        found.foreign.sort();
        let mut suspects = Vec::new();
        let mut last = None;
        loop {
            let portion = self.index.known_paths(last).await?;
            let Some(end) = portion.last() else { break };
            last = Some(end.place);
            let odd = portion.iter().filter(|known| is_suspicious(snapshot, known));
            suspects.extend(odd.map(|known| known.hash));
        }
        let mut missing: HashMap<StorePathHash, (StorePath, Vec<StorePathHash>)> = HashMap::new();
        let looked = stream::iter(suspects).map(|hash| self.look_at(hash));
        let mut looked = looked.buffer_unordered(PARALLEL).boxed();
        while let Some((said, problem)) = looked.next().await {
            match said {
                Err(unsure) => found.unsure.push(unsure),
                Ok((_, Said::Nothing)) => {}
                Ok((hash, Said::Nonsense(text))) => {
                    let problems = vec![Problem::Narinfo(text)];
                    found.broken.insert(hash, Broken { hash, info: None, problems });
                }
                Ok((hash, Said::Info(info))) => {
                    let elsewhere = info.references.iter().filter(|path| {
                        path.hash() != hash && snapshot.position(&path.hash()).is_none()
                    });
                    for path in elsewhere {
                        let entry = missing.entry(path.hash());
                        entry.or_insert_with(|| (path.clone(), Vec::new())).1.push(hash);
                    }
                    match problem {
                        Some(Ok(problem)) => found.note(*info, problem),
                        Some(Err(unsure)) => found.unsure.push(unsure),
                        None => {}
                    }
                }
            }
        }
        drop(looked);
        for (path, referrers) in self.nowhere(&missing, &mut found.unsure).await? {
            for hash in referrers {
                self.lacks(*hash, path, &mut found).await;
            }
        }
        Ok(found)
    }

    /// Notes that a path refers to another one that is nowhere. Its narinfo is read again: kept in memory, all that
    /// refer to an upstream's paths would be very many.
    async fn lacks(&self, hash: StorePathHash, path: &StorePath, found: &mut Found) {
        match self.said(hash).await {
            Ok(Said::Info(info)) if info.references.contains(path) => {
                found.note(*info, Problem::Reference(path.clone()));
            }
            // Somebody has written or removed it meanwhile.
            Ok(_) => {}
            Err(error) => found.unsure.push(format!("whether {hash} lacks {path}: {error}")),
        }
    }

    /// A path's narinfo, and what is wrong with its NAR as far as it is seen from outside.
    async fn look_at(
        &self,
        hash: StorePathHash,
    ) -> (Result<(StorePathHash, Said), String>, Option<Result<Problem, String>>) {
        let said = match self.said(hash).await {
            Ok(said) => said,
            Err(error) => return (Err(error.to_string()), None),
        };
        let problem = match &said {
            Said::Info(info) => self.nar_problem(info).await.transpose(),
            Said::Nothing | Said::Nonsense(_) => None,
        };
        (Ok((hash, said)), problem)
    }

    async fn said(&self, hash: StorePathHash) -> Result<Said, LookError> {
        let text = self.cache.storage().get(&layout::narinfo(hash)?, NARINFO_LIMIT).await?;
        let Some(text) = text else { return Ok(Said::Nothing) };
        let text = String::from_utf8_lossy(&text);
        Ok(match NarInfo::parse(&text, self.cache.store_dir()) {
            Ok(info) if info.store_path.hash() == hash => Said::Info(Box::new(info)),
            Ok(info) => Said::Nonsense(format!("it says that it is {}'s", info.store_path)),
            Err(error) => Said::Nonsense(error.to_string()),
        })
    }

    async fn nar_problem(&self, info: &NarInfo) -> Result<Option<Problem>, String> {
        let path = &info.store_path;
        let Ok(key) = Key::new(&info.url) else {
            return Err(format!(
                "{path}: its NAR is said to lie at {:?}, which is not looked at",
                info.url
            ));
        };
        let object = self.cache.storage().stat(&key).await;
        Ok(match object.map_err(|error| format!("{path}: {error}"))? {
            None => Some(Problem::NoNar(info.url.clone())),
            Some(object) => {
                let other = info.file_size.filter(|said| *said != object.size);
                other.map(|said| Problem::FileSize { said, found: object.size })
            }
        })
    }

    /// Those of these paths that are really nowhere, each with what refers to it. Where an upstream does not tell,
    /// nobody knows.
    async fn nowhere<'a>(
        &self,
        missing: &'a HashMap<StorePathHash, (StorePath, Vec<StorePathHash>)>,
        unsure: &mut Vec<String>,
    ) -> Result<Vec<&'a (StorePath, Vec<StorePathHash>)>, CheckError> {
        let here = self.cache.present(missing.keys().copied().collect()).await?;
        let mut left: Vec<_> = missing.values().filter(|it| !here.contains(&it.0.hash())).collect();
        left.sort();
        for upstream in &self.upstreams {
            let paths: Vec<_> = left.iter().map(|(path, _)| path.clone()).collect();
            let answers = upstream.has_each(&paths).await;
            let silent = answers.iter().filter(|has| has.is_none()).count();
            if silent > 0 {
                unsure.push(format!(
                    "{} does not tell whether it has {silent} paths that others refer to",
                    upstream.name
                ));
            }
            let absent = left.into_iter().zip(answers).filter(|(_, has)| *has == Some(false));
            left = absent.map(|(it, _)| it).collect();
        }
        Ok(left)
    }
}

/// A path could not be looked at.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Whether a path has to be looked at for itself.
fn is_suspicious(snapshot: &Snapshot, known: &KnownPath) -> bool {
    let nar = known.nar.and_then(|nar| snapshot.nar(&nar));
    let fits = |nar: &NarEntry| known.file_size.is_none_or(|said| said == nar.size);
    let is_there = |path: &StorePathHash| *path == known.hash || snapshot.position(path).is_some();
    known.problem.is_some() || !nar.is_some_and(fits) || !known.references.iter().all(is_there)
}
