//! Why a package would have to be built here.

use std::{collections::BTreeMap, fmt};

use larder_formats::{derivation::Derivation, package_name::PackageName, store_path::StorePath};
use larder_nix::{caches::Known, settings::Settings};
use serde::Serialize;

/// What a cache said when it was asked for some paths.
#[derive(Clone, Debug)]
pub struct CacheAnswer {
    /// The cache's URL, without a password in it.
    pub cache: String,
    /// What it knows of them; or why it could not be asked.
    pub told: Result<BTreeMap<StorePath, Known>, String>,
}

/// A package that would have to be built here and may not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Its derivation; or what was to be downloaded of it.
    pub path: StorePath,
    /// Its name, by which it can be allowed.
    pub name: String,
    /// Its version; empty where it has none.
    pub version: String,
    /// Why no cache is of use.
    pub reason: Reason,
}

impl Refused {
    /// A derivation or a path that is refused.
    pub fn new(path: StorePath, reason: Reason) -> Self {
        let PackageName { name, version } = PackageName::of(&path);
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { path, name, version, reason }
    }
}

/// A cache that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreachableCache {
    /// Its URL, without a password in it.
    pub cache: String,
    /// What Nix says of it.
    pub message: String,
}

/// The nearest reason why a package is not downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Reason {
    /// Its derivation forbids it.
    NotSubstitutable,
    /// What it makes is only known once it is built, or its derivation cannot be read.
    OutputsUnknown,
    /// No cache is asked here.
    NoCaches,
    /// A cache has it, signed by nobody who is trusted here.
    Untrusted {
        /// The cache.
        cache: String,
        /// The names of the keys it is signed with.
        signers: Vec<String>,
    },
    /// A cache has it by now, but Nix does not take it: it may remember for an hour that it was absent.
    NotTaken {
        /// The cache.
        cache: String,
    },
    /// A cache says that it has it, and does not deliver it.
    Broken {
        /// The cache.
        cache: String,
    },
    /// Some caches could not be asked, and the others do not have it.
    Unreachable {
        /// Those that could not be asked.
        caches: Vec<UnreachableCache>,
        /// Those that do not have it.
        absent: Vec<String>,
    },
    /// No cache has it.
    Absent {
        /// Those that were asked.
        caches: Vec<String>,
    },
}

impl Reason {
    /// Why a package has to be built: judges by what its derivation says and what the caches said.
    pub fn of(
        derivation: Option<&Derivation>,
        settings: &Settings,
        answers: &[CacheAnswer],
    ) -> Self {
        let Some(derivation) = derivation else { return Self::OutputsUnknown };
        let outputs = derivation.outputs.values().map(|output| output.path.as_ref());
        let Some(outputs) = outputs.collect::<Option<Vec<_>>>() else {
            return Self::OutputsUnknown;
        };
        if derivation.attributes().flag("allowSubstitutes") == Some(false) {
            return Self::NotSubstitutable;
        }
        let not_taken = |cache| Self::NotTaken { cache };
        Self::by_answers(&outputs, settings, answers).unwrap_or_else(not_taken)
    }

    /// Why a path could not be downloaded that was to be.
    pub fn of_missing(path: &StorePath, settings: &Settings, answers: &[CacheAnswer]) -> Self {
        let broken = |cache| Self::Broken { cache };
        Self::by_answers(&[path], settings, answers).unwrap_or_else(broken)
    }

    /// Why these are not to be had; or the cache that should have delivered them.
    fn by_answers(
        paths: &[&StorePath],
        settings: &Settings,
        answers: &[CacheAnswer],
    ) -> Result<Self, String> {
        if answers.is_empty() {
            return Ok(Self::NoCaches);
        }
        let (mut absent, mut unreachable, mut untrusted) = (Vec::new(), Vec::new(), None);
        for CacheAnswer { cache, told } in answers {
            let cache = cache.clone();
            match told {
                Err(message) => {
                    unreachable.push(UnreachableCache { cache, message: message.clone() });
                }
                // Nix takes a package's outputs only together.
                Ok(known) => match paths.iter().map(|path| known.get(*path)).collect() {
                    None => absent.push(cache),
                    // One that is trusted counts more than a stranger before it.
                    Some(infos) => match Self::of_present(cache, infos, settings) {
                        Err(cache) => return Err(cache),
                        Ok(stranger) => untrusted = untrusted.or(Some(stranger)),
                    },
                },
            }
        }
        Ok(match (untrusted, unreachable.is_empty()) {
            (Some(untrusted), _) => untrusted,
            (None, true) => Self::Absent { caches: absent },
            (None, false) => Self::Unreachable { caches: unreachable, absent },
        })
    }

    fn of_present(cache: String, infos: Vec<&Known>, settings: &Settings) -> Result<Self, String> {
        let untrusted = |info: &&Known| {
            !info.content_addressed && !settings.trusted_names().any(|it| info.signers.contains(it))
        };
        match infos.into_iter().find(untrusted) {
            Some(info) if settings.require_signatures => {
                Ok(Self::Untrusted { cache, signers: info.signers.iter().cloned().collect() })
            }
            _ => Err(cache),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSubstitutable => {
                formatter.write_str("its derivation says that it is always built where it is used")
            }
            Self::OutputsUnknown => {
                formatter.write_str("what it makes is not known before it is built")
            }
            Self::NoCaches => formatter
                .write_str("no cache is asked on this machine: see `substituters` in nix.conf"),
            Self::Untrusted { cache, signers } if signers.is_empty() => {
                write!(formatter, "{cache} has it, but not signed")
            }
            Self::Untrusted { cache, signers } => write!(
                formatter,
                "{cache} has it, signed by {}, which is not among trusted-public-keys here",
                signers.join(", ")
            ),
            Self::NotTaken { cache } => write!(
                formatter,
                "{cache} has it by now, but Nix remembers for up to an hour that it had not"
            ),
            Self::Broken { cache } => {
                write!(formatter, "{cache} says that it has it, and does not deliver it")
            }
            Self::Unreachable { caches, absent } => {
                for (n, UnreachableCache { cache, message }) in caches.iter().enumerate() {
                    let comma = if n == 0 { "" } else { ", " };
                    write!(formatter, "{comma}{cache} could not be asked ({message})")?;
                }
                match absent.is_empty() {
                    true => Ok(()),
                    false => write!(formatter, ", and not in {}", absent.join(", ")),
                }
            }
            Self::Absent { caches } => write!(formatter, "not in {}", caches.join(", ")),
        }
    }
}
