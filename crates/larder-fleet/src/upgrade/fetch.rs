//! Downloading, with building switched off, all that the configuration is built from.
//!
//! Promise: nothing is built here but packages that are allowed to be, by name. When this has ended well, what is
//! needed is there and stays there for as long as the roots do, so that building the configuration builds
//! nothing else, whatever becomes of the caches meanwhile. (Where all builds are allowed, it may end well with
//! something missing.)

use std::{collections::BTreeSet, path::Path};

use larder_formats::store_path::StorePath;
use larder_nix::{
    command::{CancellationToken, CommandError, Invocation},
    database::{Database, DatabaseError},
    nix::{Nix, Version},
};

use super::{inputs, look::settings_among, plan::Allowed};
use crate::night::{
    Observer,
    build::{Realised, Tracker, failures_as_text},
};

/// How many paths one command is told: the system limits a command line's length.
const AT_ONCE: usize = 5000;

/// Not everything could be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// These could not be downloaded: what was tried and is not there, and not what needs it.
    #[error("{} store paths could not be downloaded", paths.len())]
    Missing {
        /// The paths.
        paths: BTreeSet<StorePath>,
        /// What Nix said of it.
        said: Vec<String>,
    },
    /// Everything is there, and yet Nix failed.
    #[error("Nix could not fetch what is needed:\n{0}")]
    Failed(String),
    /// A package that may be built did not build.
    #[error("a package could not be built:\n{0}")]
    Build(String),
    /// Nix could not be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Nix's database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What is fetched, and how.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// Nix, and its database.
    pub nix: (&'a Nix, &'a Database),
    /// The derivation whose output is wanted.
    pub derivation: &'a StorePath,
    /// What of it will be built here.
    pub build: &'a BTreeSet<StorePath>,
    /// What may be built where a cache promises it and does not deliver.
    pub allowed: &'a Allowed,
    /// An empty folder for roots, which hold what was fetched for as long as they are there.
    pub roots: &'a Path,
    /// The user's arguments for `nix build`; of the settings among them, those of [`settings_among`] hold here, too.
    pub extra: &'a [String],
}

/// What could not be downloaded.
#[derive(Default)]
struct Lacking {
    paths: BTreeSet<StorePath>,
    said: Vec<String>,
}

impl Fetch<'_> {
    /// Downloads what building needs.
    pub async fn run(
        &self,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<(), FetchError> {
        let layout = self.nix.0.layout();
        // What is to be there; and, above the first, what makes the last one's missing paths.
        let mut levels = vec![inputs::to_have(layout, self.derivation, self.build)];
        let mut makers = Vec::new();
        let mut tried = BTreeSet::new();
        while let Some(wanted) = levels.last() {
            let root = self.roots.join(format!("inputs-{}", levels.len()));
            let Lacking { paths: missing, said } =
                self.download((wanted, &root), observer, cancel).await?;
            if missing.is_empty() {
                levels.pop();
                if let Some(makers) = makers.pop() {
                    self.make(&makers, observer, cancel).await?;
                }
                continue;
            }
            if *self.allowed == Allowed::All {
                // Then Nix finds out by itself what there is to build.
                return Ok(());
            }
            let may_be_built = missing.iter().all(|path| self.allowed.admits(path));
            if !may_be_built || !missing.is_disjoint(&tried) {
                return Err(FetchError::Missing { paths: missing, said });
            }
            let made_by = inputs::makers(layout, self.derivation, &missing);
            levels.push(inputs::of(layout, &made_by));
            makers.push(made_by);
            tried.extend(missing);
        }
        Ok(())
    }

    /// Downloads these, with roots whose names begin so, and says which are missing.
    async fn download(
        &self,
        (wanted, root): (&BTreeSet<StorePath>, &Path),
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Lacking, FetchError> {
        let mut lacking = Lacking::default();
        let wanted: Vec<&StorePath> = wanted.iter().collect();
        for (n, some) in wanted.chunks(AT_ONCE).enumerate() {
            let command = self.realise(some).args(["--option", "fallback", "false"]);
            let root = format!("{}-{n}", root.display());
            let command = self.without_building(command).arg("--add-root").arg(root);
            let (succeeded, realised) =
                self.follow(&command.arg("--indirect"), observer, cancel).await?;
            lacking.paths.extend(realised.unfetched);
            lacking.said.extend(realised.errors);
            if !succeeded && lacking.paths.is_empty() {
                for path in some {
                    if !self.nix.1.is_valid(path)? {
                        lacking.paths.insert((*path).clone());
                    }
                }
                if lacking.paths.is_empty() {
                    return Err(FetchError::Failed(lacking.said.join("\n")));
                }
            }
        }
        Ok(lacking)
    }

    /// Builds what was promised by a cache and cannot be had from it. Its inputs are there.
    async fn make(
        &self,
        derivations: &BTreeSet<StorePath>,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<(), FetchError> {
        let derivations: Vec<&StorePath> = derivations.iter().collect();
        let command = self.realise(&derivations).args(["--option", "fallback", "true"]);
        let (succeeded, realised) = self.follow(&command, observer, cancel).await?;
        if succeeded { Ok(()) } else { Err(FetchError::Build(failures_as_text(&realised))) }
    }

    fn realise(&self, paths: &[&StorePath]) -> Invocation {
        let nix = self.nix.0;
        let store_dir = &nix.layout().store_dir;
        nix.command("nix-store")
            .args(["--realise", "--keep-going", "--log-format", "internal-json"])
            .args(settings_among(self.extra))
            .args(paths.iter().map(|path| store_dir.display(path)))
    }

    /// Store paths are named, and no derivation: those no Nix builds. It is told so all the same, but for the
    /// older ones, to which no jobs at all also means one download at a time.
    fn without_building(&self, command: Invocation) -> Invocation {
        let command = command.args(["--option", "builders", ""]);
        match self.nix.0.version() < DOWNLOADS_ARE_NO_JOBS {
            true => command,
            false => command.args(["--max-jobs", "0"]),
        }
    }

    async fn follow(
        &self,
        command: &Invocation,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<(bool, Realised), FetchError> {
        let (nix, database) = self.nix;
        let mut tracker = Tracker::new(nix.layout().store_dir.clone(), observer);
        let output = command.run(cancel, |line| tracker.line(line)).await?;
        Ok((output.finished.status.success(), tracker.finish(database)?))
    }
}

/// Since this version downloads have a limit of their own (`max-substitution-jobs`).
const DOWNLOADS_ARE_NO_JOBS: Version = Version { major: 2, minor: 17 };
