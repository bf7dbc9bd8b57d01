//! From what is asked about down to what explains it: of all that has to be built, the packages that need no other
//! package to be built.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::{StreamExt, stream};
use larder_formats::{derivation::Derivation, package_name::PackageName, store_path::StorePath};
use larder_nix::{database::Database, derivations, layout::StoreLayout};
use serde::Serialize;

use super::{
    asking::Asking,
    verdict::{Asked, Circumstances, Verdict, judge},
};
use crate::upgrade::{class_of, plan::Class};

/// Derivations that are looked at; a whole system has some thousands.
const LIMIT: usize = 20_000;

/// Derivations that are asked about at once; the caches' own bound is below that.
const AT_ONCE: usize = 64;

/// Something that is built or downloaded, or here, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The path, or the derivation that makes it.
    pub path: StorePath,
    /// Its package's name.
    pub name: String,
    /// Its version; empty where it has none.
    pub version: String,
    /// What building it means; none for what is not built.
    pub class: Option<Class>,
    /// Why. The first is the nearest.
    pub verdicts: Vec<Verdict>,
    /// The path that was asked for, where any was.
    pub output: Option<StorePath>,
    /// What was said.
    pub asked: Vec<Asked>,
}

impl Subject {
    fn new(path: StorePath, class: Option<Class>, judged: Judged) -> Self {
        let PackageName { name, version } = PackageName::of(&path);
        let (name, version) = (name.to_owned(), version.to_owned());
        let Judged { verdicts, output, asked } = judged;
        Self { path, name, version, class, verdicts, output, asked }
    }

    /// One of which no cache was asked.
    #[must_use]
    pub fn unasked(path: StorePath, verdict: Verdict) -> Self {
        Self::new(path, None, Judged { verdicts: vec![verdict], output: None, asked: Vec::new() })
    }

    /// Whether it is to be had without building it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.verdicts.first().is_some_and(Verdict::is_well)
    }
}

struct Judged {
    verdicts: Vec<Verdict>,
    output: Option<StorePath>,
    asked: Vec<Asked>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Walked {
    /// What was asked about.
    pub subject: Subject,
    /// What explains it, the nearest first; nothing where it explains itself.
    pub causes: Vec<Subject>,
    /// Derivations that have to be built for it, itself among them.
    pub builds: usize,
    /// Not everything was looked at.
    pub cut_short: bool,
}

/// Looks into one store.
pub struct Walk<'a> {
    /// Its folders.
    pub layout: &'a StoreLayout,
    /// What is valid there; without it, whatever lies there is taken for valid.
    pub database: Option<&'a Database>,
    /// Those who may have it.
    pub asking: &'a Asking<'a>,
    /// How Nix is set.
    pub circumstances: &'a Circumstances,
}

/// A derivation that has to be built.
struct Build {
    class: Class,
    judged: Judged,
    inputs: Vec<StorePath>,
}

impl Walk<'_> {
    /// Explains a path that no derivation is known for.
    pub async fn path(&self, path: &StorePath) -> Subject {
        let judged = self.judge(None, std::slice::from_ref(path), true).await;
        Subject::new(path.clone(), None, judged)
    }

    /// Explains what a derivation makes.
    pub async fn derivation(
        &self,
        root: &StorePath,
    ) -> Result<Walked, derivations::DerivationFileError> {
        let derivation = derivations::read(self.layout, root)?;
        let all = derivation.outputs.keys().cloned().collect();
        let judged = self.outputs(&derivation, &all, true).await;
        if judged.verdicts.first().is_some_and(Verdict::is_well) {
            let subject =
                Subject::new(root.clone(), Some(class_of(self.layout, &derivation)), judged);
            return Ok(Walked { subject, causes: Vec::new(), builds: 0, cut_short: false });
        }
        let (mut builds, order, cut_short) = self.below(root, derivation, judged).await;
        let count = builds.len();
        let causes = causes(&builds, &order, root);
        let mut subject = |path: &StorePath| {
            let Build { class, judged, .. } = builds.remove(path)?;
            Some(Subject::new(path.clone(), Some(class), judged))
        };
        let causes: Vec<Subject> = causes.iter().filter_map(&mut subject).collect();
        let judged = Judged { verdicts: Vec::new(), output: None, asked: Vec::new() };
        let subject = subject(root).unwrap_or_else(|| Subject::new(root.clone(), None, judged));
        Ok(Walked { subject, causes, builds: count, cut_short })
    }

    /// All that has to be built, by its distance.
    async fn below(
        &self,
        root: &StorePath,
        derivation: Derivation,
        judged: Judged,
    ) -> (BTreeMap<StorePath, Build>, Vec<StorePath>, bool) {
        let mut builds = BTreeMap::new();
        let mut seen = BTreeSet::from([root.clone()]);
        let mut level = vec![(root.clone(), derivation, judged)];
        let mut order = Vec::new();
        while !level.is_empty() && seen.len() < LIMIT {
            let mut wanted = BTreeMap::<StorePath, BTreeSet<String>>::new();
            for (path, derivation, judged) in level {
                for (input, names) in &derivation.input_derivations {
                    wanted.entry(input.clone()).or_default().extend(names.iter().cloned());
                }
                let inputs = derivation.input_derivations.keys().cloned().collect();
                order.push(path.clone());
                let class = class_of(self.layout, &derivation);
                builds.insert(path, Build { class, judged, inputs });
            }
            wanted.retain(|path, _| seen.insert(path.clone()));
            let asked = wanted.into_iter().map(|(path, names)| async move {
                let derivation = derivations::read(self.layout, &path);
                let derivation =
                    derivation.inspect_err(|error| tracing::warn!(%error, "left out")).ok()?;
                let judged = self.outputs(&derivation, &names, false).await;
                let is_well = judged.verdicts.first().is_some_and(Verdict::is_well);
                (!is_well).then_some((path, derivation, judged))
            });
            level = stream::iter(asked)
                .buffered(AT_ONCE)
                .filter_map(std::future::ready)
                .collect()
                .await;
        }
        let cut_short = !level.is_empty();
        (builds, order, cut_short)
    }

    /// Judges these outputs of a derivation together, as Nix takes them.
    async fn outputs(
        &self,
        derivation: &Derivation,
        names: &BTreeSet<String>,
        thoroughly: bool,
    ) -> Judged {
        let wanted = derivation.outputs.iter().filter(|(name, _)| names.contains(*name));
        let paths: Option<Vec<StorePath>> = wanted.map(|(_, output)| output.path.clone()).collect();
        match paths {
            None => {
                Judged { verdicts: vec![Verdict::OutputsUnknown], output: None, asked: Vec::new() }
            }
            Some(paths) => self.judge(Some(derivation), &paths, thoroughly).await,
        }
    }

    /// The verdict on the first of these that is not to be had, or else on all.
    async fn judge(
        &self,
        derivation: Option<&Derivation>,
        paths: &[StorePath],
        thoroughly: bool,
    ) -> Judged {
        let mut well: Option<Judged> = None;
        for path in paths {
            if self.is_here(path) {
                continue;
            }
            let asked = self.asking.ask(path, thoroughly).await;
            let verdicts = judge(derivation, &asked, self.circumstances);
            let judged = Judged { verdicts, output: Some(path.clone()), asked };
            if !judged.verdicts.first().is_some_and(Verdict::is_well) {
                return judged;
            }
            well = Some(match well {
                None => judged,
                Some(before) => together(before, &judged),
            });
        }
        let here = || Judged {
            verdicts: vec![Verdict::Here],
            output: paths.first().cloned(),
            asked: Vec::new(),
        };
        well.unwrap_or_else(here)
    }

    fn is_here(&self, path: &StorePath) -> bool {
        let Some(database) = self.database else {
            return self.layout.real_path(path).symlink_metadata().is_ok();
        };
        let valid = database.is_valid(path);
        valid.inspect_err(|error| tracing::warn!(%error, "taken for missing")).unwrap_or(false)
    }
}

/// Two outputs that are downloaded: from the cache of the first, as much as both.
fn together(mut first: Judged, second: &Judged) -> Judged {
    if let (
        Some(Verdict::Downloaded { bytes, unpacked_bytes, .. }),
        Some(Verdict::Downloaded { bytes: more, unpacked_bytes: more_unpacked, .. }),
    ) = (first.verdicts.first_mut(), second.verdicts.first())
    {
        *bytes = bytes.zip(*more).map(|(one, other)| one.saturating_add(other));
        *unpacked_bytes = unpacked_bytes.saturating_add(*more_unpacked);
    }
    first
}

/// The packages among these that need no other package to be built; not the root itself.
fn causes(
    builds: &BTreeMap<StorePath, Build>,
    order: &[StorePath],
    root: &StorePath,
) -> Vec<StorePath> {
    let is_package =
        |path: &StorePath| builds.get(path).is_some_and(|it| it.class == Class::Package);
    // What leads to a package, itself or through others: from the packages upwards.
    let mut users = BTreeMap::<&StorePath, Vec<&StorePath>>::new();
    for (path, build) in builds {
        for input in build.inputs.iter().filter(|input| builds.contains_key(*input)) {
            users.entry(input).or_default().push(path);
        }
    }
    let mut above = BTreeSet::new();
    let mut pending: VecDeque<&StorePath> = builds.keys().filter(|path| is_package(path)).collect();
    while let Some(path) = pending.pop_front() {
        for user in users.get(path).into_iter().flatten() {
            if above.insert(*user) {
                pending.push_back(user);
            }
        }
    }
    let explains = |path: &&StorePath| is_package(path) && !above.contains(path) && *path != root;
    order.iter().filter(explains).cloned().collect()
}
