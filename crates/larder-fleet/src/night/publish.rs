//! Making a built system the one that hosts are told of.
//!
//! In this order, so that a crash in between leaves nothing wrong: a root, so that it cannot be
//! collected; the ledger, which is what counts; the `.rev` file, which [`Publisher::repair`] makes again from
//! the ledger; and last the removal of roots that are no longer needed.

use std::{collections::BTreeSet, io, path::PathBuf};

use jiff::{SignedDuration, Timestamp};
use larder_formats::{lock_file::LockFile, signature::SecretKey, store_path::StorePath};
use larder_nix::{
    command::CancellationToken,
    database::{Database, DatabaseError},
    nix::{Nix, NixError},
};

use super::{evaluate::Evaluated, roots, source::WorkTree};
use crate::{
    durable,
    host::HostName,
    ledger::{self, Ledger, LedgerError},
    revision::Revision,
};

/// Publishes revisions.
#[derive(Debug)]
pub struct Publisher {
    /// Where everything of Larder's own lies.
    pub state_dir: PathBuf,
    /// The fleet's history.
    pub ledger: Ledger,
    /// Where `<host>.rev` goes.
    pub rev_dir: PathBuf,
    /// The fleet's key.
    pub key: SecretKey,
    /// How many different systems of each host stay safe from the garbage collector.
    pub keep: u32,
    /// How long clients may act on a revision.
    pub expiry: SignedDuration,
}

/// A system could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It could not be rooted.
    #[error("cannot protect the system from the garbage collector: {0}")]
    Root(#[from] NixError),
    /// It could not be looked up.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It went away.
    #[error("{0} was collected before it could be published: run the build again")]
    Collected(StorePath),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It could not be written down.
    #[error("cannot seal the revision: {0}")]
    Seal(serde_json::Error),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What all hosts of a run share.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub run: i64,
    pub flake: &'a str,
    pub tree: &'a WorkTree,
    pub lock: &'a LockFile,
    pub sources: &'a [StorePath],
    pub now: Timestamp,
}

impl Publisher {
    pub(super) async fn publish(
        &self,
        (nix, database): (&Nix, &Database),
        common: &Common<'_>,
        host: &Evaluated,
        cancel: &CancellationToken,
    ) -> Result<Revision, PublishError> {
        let links = roots::folder(&self.state_dir, &host.host);
        self.root(nix, &links, &host.output, cancel).await?;
        let revision = self.describe(nix, database, common, host)?;
        let revision = self
            .ledger
            .publish(common.run, revision, |revision| revision.seal(&self.key))
            .map_err(|error| match error {
                ledger::PublishError::Ledger(error) => PublishError::Ledger(error),
                ledger::PublishError::Seal(error) => PublishError::Seal(error),
            })?;
        self.write_rev(&revision)?;
        self.prune(&host.host)?;
        Ok(revision)
    }

    /// Keeps the inputs' sources. Without them a system can be published all the same.
    pub(super) async fn keep_sources(
        &self,
        nix: &Nix,
        sources: &[StorePath],
        cancel: &CancellationToken,
    ) -> Result<(), PublishError> {
        let links = roots::sources_folder(&self.state_dir);
        for source in sources {
            self.root(nix, &links, source, cancel).await?;
        }
        Ok(())
    }

    async fn root(
        &self,
        nix: &Nix,
        folder: &std::path::Path,
        path: &StorePath,
        cancel: &CancellationToken,
    ) -> Result<(), PublishError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| PublishError::Io { path: folder.to_owned(), source })?;
        Ok(nix.add_root(path, &folder.join(path.to_string()), cancel).await?)
    }

    fn describe(
        &self,
        nix: &Nix,
        database: &Database,
        common: &Common<'_>,
        host: &Evaluated,
    ) -> Result<Revision, PublishError> {
        let info = database
            .path_info(host.output.hash())?
            .ok_or_else(|| PublishError::Collected(host.output.clone()))?;
        Ok(Revision {
            format: Revision::current_format(),
            number: 0,
            host: host.host.clone(),
            system: host.system.clone(),
            time: common.now,
            // Saturates at the end of time.
            expires: common.now.saturating_add(self.expiry).unwrap_or(Timestamp::MAX),
            flake: common.flake.to_owned(),
            commit: common.tree.commit.clone(),
            nixpkgs: common.lock.nixpkgs().ok().and_then(|input| input.rev),
            inputs: common.lock.root_inputs().clone(),
            lock: common.lock.text().to_owned(),
            sources: common.sources.to_vec(),
            store_dir: nix.layout().store_dir.to_string(),
            store_path: host.output.clone(),
            nar_hash: info.nar_hash,
            closure_size: database.closure_size(&host.output)?,
        })
    }

    fn write_rev(&self, revision: &Revision) -> Result<(), PublishError> {
        let path = self.rev_dir.join(format!("{}.rev", revision.host));
        let Some(nixpkgs) = &revision.nixpkgs else {
            // An older one would be a lie.
            return match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(PublishError::Io { path, source })
                }
                _ => Ok(()),
            };
        };
        let contents = format!("{nixpkgs}\n");
        if std::fs::read_to_string(&path).is_ok_and(|there| there == contents) {
            return Ok(());
        }
        durable::replace(&path, contents.as_bytes(), 0o644)
            .map_err(|source| PublishError::Io { path, source })
    }

    fn prune(&self, host: &HostName) -> Result<(), PublishError> {
        let kept = |host: &HostName| self.ledger.systems(host, self.keep);
        let systems = kept(host)?.into_iter().map(|revision| revision.store_path).collect();
        self.prune_folder(roots::folder(&self.state_dir, host), &systems)?;
        let mut sources = BTreeSet::new();
        for state in self.ledger.hosts()? {
            sources.extend(kept(&state.host)?.into_iter().flat_map(|revision| revision.sources));
        }
        self.prune_folder(roots::sources_folder(&self.state_dir), &sources)
    }

    fn prune_folder(
        &self,
        folder: PathBuf,
        kept: &BTreeSet<StorePath>,
    ) -> Result<(), PublishError> {
        roots::prune(&folder, kept).map_err(|source| PublishError::Io { path: folder, source })
    }

    /// Makes every `.rev` file say what the ledger says, after a crash between the two. Tries all of
    /// them, and returns the first failure.
    pub fn repair(&self) -> Result<(), PublishError> {
        let states = self.ledger.hosts()?;
        let revisions = states.iter().filter_map(|state| state.revision.as_ref());
        let written: Vec<_> = revisions.map(|revision| self.write_rev(revision)).collect();
        written.into_iter().collect()
    }
}
