//! What is built here: configuration, packages, or sources that are fetched.
//!
//! Derivations are judged by what nixpkgs writes into them. Configuration (the files of `/etc`, units, the
//! system itself) is built where it is used: nixpkgs says so by `preferLocalBuild` or by forbidding to
//! substitute it, and it has no source of its own. A file of nixpkgs that variables are put into
//! (`replaceVars`, of which every system has some) is called a source, too; but it is a file as it is, and where
//! substitutes are forbidden there would be nothing to wait for: it counts as configuration.

use std::collections::BTreeSet;

use larder_formats::{derivation::Derivation, package_name::PackageName, store_path::StorePath};
use serde::Serialize;

/// What building a derivation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Files are written or linked: a matter of a moment, and every machine does so.
    Configuration,
    /// Something is compiled, or may be.
    Package,
    /// Something is fetched from where it was published, and its hash is known.
    Source,
}

impl Class {
    /// Judges a derivation. One that could not be read is a package: it is not known to be cheap.
    pub fn of(derivation: Option<&Derivation>) -> Self {
        let Some(derivation) = derivation else { return Self::Package };
        if derivation.is_fixed_output() {
            return Self::Source;
        }
        let attributes = derivation.attributes();
        let only_here = attributes.flag("allowSubstitutes") == Some(false);
        let rather_here = attributes.flag("preferLocalBuild") == Some(true);
        let mut sources = attributes.words("src");
        sources.extend(attributes.words("srcs"));
        let plain = |source: &String| {
            derivation.input_sources.iter().any(|path| source.contains(&path.to_string()))
        };
        let has_own_source =
            if only_here { !sources.iter().all(plain) } else { !sources.is_empty() };
        match (only_here || rather_here) && !has_own_source {
            true => Self::Configuration,
            false => Self::Package,
        }
    }
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
    /// Judges all of these.
    pub fn judge<'a>(
        derivations: impl IntoIterator<Item = (&'a StorePath, Option<&'a Derivation>)>,
    ) -> Self {
        let mut builds = Self::default();
        for (path, derivation) in derivations {
            let class = match Class::of(derivation) {
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
