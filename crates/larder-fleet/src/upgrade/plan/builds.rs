//! What is built here: configuration, packages, or sources that are fetched.
//!
//! Derivations are judged by what nixpkgs writes into them. Configuration (the files of `/etc`, units, the
//! system itself) is built where it is used: nixpkgs says so by `preferLocalBuild` or by forbidding to
//! substitute it, and it has no source of its own. Files that variables are put into (`replaceVars`,
//! `substitute`: every system has some) name a source, too. Where substitutes are forbidden there would be nothing
//! to wait for, so there a source only counts as one if it can be code: a folder, or something fetched.

use std::collections::BTreeSet;

use larder_formats::{derivation::Derivation, package_name::PackageName, store_path::StorePath};
use serde::Serialize;

/// What building a derivation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// Files are written or linked: a matter of a moment, and every machine does so.
    Configuration,
    /// Something is compiled, or may be.
    Package,
    /// Something is fetched from where it was published, and its hash is known.
    Source,
}

impl Class {
    /// Judges a derivation. One that could not be read is a package: it is not known to be cheap. `code` are
    /// the store paths that may be somebody's code; see [`may_name_code`].
    pub fn of(derivation: Option<&Derivation>, code: &BTreeSet<StorePath>) -> Self {
        let Some(derivation) = derivation else { return Self::Package };
        if derivation.is_fixed_output() {
            return Self::Source;
        }
        let attributes = derivation.attributes();
        let rather_here = attributes.flag("preferLocalBuild") == Some(true);
        let mut sources = sources(derivation).into_iter();
        let is_code = |source: String| code.iter().any(|path| source.contains(&path.to_string()));
        let is_cheap = match only_here(derivation) {
            true => !sources.any(is_code),
            false => rather_here && sources.next().is_none(),
        };
        if is_cheap { Self::Configuration } else { Self::Package }
    }
}

/// Whether it takes a look at a derivation's inputs to judge it: whether its source is a folder, or is fetched.
pub fn may_name_code(derivation: &Derivation) -> bool {
    only_here(derivation) && !sources(derivation).is_empty()
}

fn only_here(derivation: &Derivation) -> bool {
    derivation.attributes().flag("allowSubstitutes") == Some(false)
}

/// What a derivation calls its sources: store paths, or places in them.
pub(in crate::upgrade) fn sources(derivation: &Derivation) -> Vec<String> {
    let attributes = derivation.attributes();
    ["src", "srcs"].into_iter().flat_map(|name| attributes.words(name)).collect()
}

/// What is built here, by what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Builds {
    /// Derivations of configuration.
    pub configuration: BTreeSet<StorePath>,
    /// Derivations of packages.
    pub packages: BTreeSet<StorePath>,
    /// Derivations that fetch.
    pub sources: BTreeSet<StorePath>,
}

impl Builds {
    /// Judges all of these, as [`Class::of`] does.
    pub fn judge<'a>(
        derivations: impl IntoIterator<Item = (&'a StorePath, Option<&'a Derivation>)>,
        code: &BTreeSet<StorePath>,
    ) -> Self {
        let mut builds = Self::default();
        for (path, derivation) in derivations {
            let class = match Class::of(derivation, code) {
                Class::Configuration => &mut builds.configuration,
                Class::Package => &mut builds.packages,
                Class::Source => &mut builds.sources,
            };
            class.insert(path.clone());
        }
        builds
    }
}

/// Which packages may be built here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// All.
    All,
    /// Those of these names; none, if there are none.
    Named(BTreeSet<String>),
}

impl Allowed {
    /// Whether this derivation may be built, or this path by building it: by its package's name, with its
    /// version or without.
    pub fn admits(&self, path: &StorePath) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => {
                let PackageName { name, version } = PackageName::of(path);
                names.contains(name) || names.contains(&format!("{name}-{version}"))
            }
        }
    }
}
