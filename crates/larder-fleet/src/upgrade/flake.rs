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
    nix::Nix,
};

use super::tree::{self, TreeError};
use crate::{
    host::HostName,
    night::{
        BuildPlan, FlakeSource, FlakeSourceError, Observer,
        build::Tracker,
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

    /// What Nix would build and download. Evaluates the flake.
    pub async fn plan(
        &self,
        nix: &Nix,
        cancel: &CancellationToken,
    ) -> Result<BuildPlan, FlakeBuildError> {
        let command = self.command(nix).arg("--dry-run");
        let mut text = String::new();
        let output = command
            .run(cancel, |line| {
                text.push_str(line);
                text.push('\n');
            })
            .await?;
        output.finished.check(&command)?;
        Ok(BuildPlan::parse(&text, &nix.layout().store_dir))
    }

    /// Builds the system; `link` becomes its root.
    pub async fn build(
        &self,
        (nix, database): (&Nix, &Database),
        link: &Path,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<StorePath, FlakeBuildError> {
        let command =
            self.command(nix).args(["--log-format", "internal-json", "--out-link"]).arg(link);
        let mut tracker = Tracker::new(nix.layout().store_dir.clone(), observer);
        let output = command.run(cancel, |line| tracker.line(line)).await?;
        let realised = tracker.finish(database)?;
        if !output.finished.status.success() {
            let mut text = realised.errors.join("\n");
            for (derivation, lines) in &realised.failed {
                text.push_str(&format!("\n\n{derivation} failed; the end of its log:"));
                text.extend(lines.iter().map(|line| format!("\n  {line}")));
            }
            return Err(FlakeBuildError::Build(text));
        }
        let io = |source| FlakeBuildError::Io { path: link.to_owned(), source };
        let target = std::fs::read_link(link).map_err(io)?;
        let store_dir = &nix.layout().store_dir;
        store_dir
            .parse(&target.to_string_lossy())
            .map_err(|error| FlakeBuildError::Build(error.to_string()))
    }

    fn command(&self, nix: &Nix) -> Invocation {
        nix.command("nix")
            .args(["build", &self.installable, "--no-write-lock-file"])
            .args(&self.overrides)
            .args(&self.extra)
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
