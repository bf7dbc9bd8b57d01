//! Building the local flake with the server's inputs.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use larder_formats::{lock_file::LockFile, store_path::StorePath};
use larder_nix::{
    command::{CancellationToken, CommandError, Invocation},
    database::{Database, DatabaseError},
    nix::{Nix, Version},
};

use super::{
    plan::Allowed,
    tree::{self, TreeError},
};
use crate::{
    host::HostName,
    night::{
        BuildPlan, FlakeSource, FlakeSourceError, Observer,
        build::{Tracker, failures_as_text},
        source::{encode, nix_url},
    },
};

/// Where nixpkgs comes from when the local flake does not say.
const NIXPKGS: &str = "github:NixOS/nixpkgs";

/// What the server said of its inputs.
#[derive(Clone, Copy, Debug)]
pub enum Lock<'a> {
    /// The text of its whole lock file.
    File(&'a str),
    /// The commit of its nixpkgs, and nothing else.
    Nixpkgs(&'a str),
}

/// A flake that is ready to be built.
#[derive(Debug)]
pub struct FlakeBuild {
    installable: String,
    overrides: Vec<String>,
    extra: Vec<String>,
}

/// The flake could not be built.
#[derive(Debug, thiserror::Error)]
pub enum FlakeBuildError {
    /// It could not be copied.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FlakeSourceError),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Nix failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Nix's database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nix did not name a derivation.
    #[error("`nix build --dry-run --json` gave an answer that cannot be understood: {0:?}")]
    Answer(String),
    /// It did not build.
    #[error("the system could not be built:\n{0}")]
    Build(String),
}

impl FlakeBuild {
    /// Copies or fetches the flake below `scratch`, which must be empty, and puts the server's inputs
    /// in place. `extra` are arguments for `nix build`.
    pub async fn prepare(
        (flake, host): (&str, &HostName),
        lock: Lock<'_>,
        scratch: &Path,
        extra: &[String],
        cancel: &CancellationToken,
    ) -> Result<Self, FlakeBuildError> {
        let (folder, reference) = match FlakeSource::parse(flake)? {
            FlakeSource::Folder { path } => {
                let (top, folder) = tree::copy(&path, scratch, cancel).await?;
                let url = nix_url("path", &top);
                match folder {
                    Some(folder) => (top.join(&folder), format!("{url}?dir={}", encode(&folder))),
                    None => (top, url),
                }
            }
            source @ FlakeSource::Git { .. } => {
                let tree = source.fetch(scratch, cancel).await?;
                (tree.flake_folder, tree.reference)
            }
        };
        let file = folder.join("flake.lock");
        let overrides = match lock {
            Lock::File(text) => {
                replace(scratch, &folder, text)
                    .map_err(|source| FlakeBuildError::Io { path: file, source })?;
                Vec::new()
            }
            Lock::Nixpkgs(commit) => {
                vec!["--override-input".to_owned(), "nixpkgs".to_owned(), at(&file, commit)]
            }
        };
        // The name's characters are such that quotes keep it one attribute.
        let installable =
            format!("{reference}#nixosConfigurations.\"{host}\".config.system.build.toplevel");
        Ok(Self { installable, overrides, extra: extra.to_vec() })
    }

    /// Evaluates the flake: the system's derivation, and what Nix would do to build it.
    pub async fn evaluate(
        &self,
        nix: &Nix,
        cancel: &CancellationToken,
    ) -> Result<(StorePath, BuildPlan), FlakeBuildError> {
        match self.evaluate_with(nix, &[], cancel).await {
            // Older versions end so when a cache that they remember is gone. Without caches they can tell what
            // would be built, and why is told then.
            Err(FlakeBuildError::Command(CommandError::Failed { message, .. }))
                if message.contains(".narinfo'") =>
            {
                self.evaluate_with(nix, &["--option", "substitute", "false"], cancel).await
            }
            evaluated => evaluated,
        }
    }

    async fn evaluate_with(
        &self,
        nix: &Nix,
        options: &[&str],
        cancel: &CancellationToken,
    ) -> Result<(StorePath, BuildPlan), FlakeBuildError> {
        let command = self.command(nix, &self.installable).args(["--dry-run", "--json"]);
        let command = command.args(&self.overrides).args(options);
        let store_dir = &nix.layout().store_dir;
        let (output, plan) = BuildPlan::ask(&command, store_dir, cancel).await?;
        let answer = output.text();
        let derivation = derivation_in(answer.as_bytes());
        let derivation = derivation.and_then(|path| store_dir.parse(&path).ok());
        let derivation = derivation.ok_or(FlakeBuildError::Answer(answer))?;
        Ok((derivation, plan))
    }

    /// Builds the system that was evaluated; `link` becomes its root. What a cache promises and does not
    /// deliver is built, too, if all builds are allowed.
    pub async fn build(
        &self,
        (nix, database): (&Nix, &Database),
        (derivation, link, allowed): (&StorePath, &Path, &Allowed),
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<StorePath, FlakeBuildError> {
        let store_dir = &nix.layout().store_dir;
        // Up to 2.14 a derivation's path stands for its outputs; since then for itself.
        let outputs = if nix.version() < (Version { major: 2, minor: 15 }) { "" } else { "^*" };
        // Otherwise what it needs is there; should it have gone meanwhile, that is no reason to compile it.
        let fallback = if *allowed == Allowed::All { "true" } else { "false" };
        let installable = format!("{}{outputs}", store_dir.display(derivation));
        let command = self
            .command(nix, &installable)
            .args(["--option", "fallback", fallback])
            .args(["--log-format", "internal-json", "--out-link"])
            .arg(link);
        let mut tracker = Tracker::new(store_dir.clone(), observer);
        let output = command.run(cancel, |line| tracker.line(line)).await?;
        let realised = tracker.finish(database)?;
        if !output.finished.status.success() {
            return Err(FlakeBuildError::Build(failures_as_text(&realised)));
        }
        let io = |source| FlakeBuildError::Io { path: link.to_owned(), source };
        let target = std::fs::read_link(link).map_err(io)?;
        store_dir
            .parse(&target.to_string_lossy())
            .map_err(|error| FlakeBuildError::Build(error.to_string()))
    }

    fn command(&self, nix: &Nix, installable: &str) -> Invocation {
        nix.command("nix").args(["build", installable, "--no-write-lock-file"]).args(&self.extra)
    }
}

/// The one derivation in the answer to `nix build --dry-run --json`.
fn derivation_in(answer: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    match answer.as_array()?.as_slice() {
        [built] => Some(built.get("drvPath")?.as_str()?.to_owned()),
        _ => None,
    }
}

/// Puts the lock file in place, in the copy and nowhere else: a link in it may lead out.
fn replace(scratch: &Path, folder: &Path, text: &str) -> io::Result<()> {
    if !folder.canonicalize()?.starts_with(scratch.canonicalize()?) {
        return Err(io::Error::other("the flake's folder is a link that leads out of the flake"));
    }
    let file = folder.join("flake.lock");
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(file)?.write_all(text.as_bytes())
}

/// The flake's own nixpkgs, at another commit.
fn at(lock_file: &Path, commit: &str) -> String {
    let locked = std::fs::read_to_string(lock_file)
        .ok()
        .and_then(|text| LockFile::parse(&text).ok()?.nixpkgs().ok());
    match locked.map(|input| (input.rev, input.description)) {
        Some((Some(rev), description)) if description.contains(&rev) => {
            description.replace(&rev, commit)
        }
        _ => format!("{NIXPKGS}/{commit}"),
    }
}
