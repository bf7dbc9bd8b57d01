//! Taking the server's system as it is: nothing is evaluated here.

use std::path::Path;

use larder_formats::{hash::Sha256, store_path::StorePath};
use larder_nix::{
    command::{CancellationToken, CommandError},
    database::{Database, DatabaseError},
    nix::{Nix, NixError},
};

use crate::{night::BuildPlan, revision::Revision};

/// The system could not be had as published.
#[derive(Debug, thiserror::Error)]
pub enum PrebuiltError {
    /// Nix failed.
    #[error(
        "cannot download {path}: {source}\nIs the server among this machine's substituters, and its \
         key among trusted-public-keys? The server's page at `/` shows what to write there"
    )]
    Nix {
        /// The system.
        path: StorePath,
        /// Why.
        source: NixError,
    },
    /// Nix's database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It is another one than was signed.
    #[error(
        "{path} has the NAR hash {found} here, but revision {number} was signed for {signed}: it was \
         changed on the way, or built differently. It is not used"
    )]
    Altered {
        /// The system.
        path: StorePath,
        /// The revision.
        number: u64,
        /// Its hash here.
        found: String,
        /// The hash that was signed.
        signed: Sha256,
    },
}

/// What Nix would download for a revision.
pub async fn dry_run(
    nix: &Nix,
    revision: &Revision,
    cancel: &CancellationToken,
) -> Result<BuildPlan, CommandError> {
    BuildPlan::of(nix, &revision.store_path, cancel).await
}

/// Downloads a revision's system, roots it at `link`, and makes sure it is the one that was signed.
pub async fn fetch(
    nix: &Nix,
    database: &Database,
    revision: &Revision,
    link: &Path,
    cancel: &CancellationToken,
) -> Result<(), PrebuiltError> {
    let path = &revision.store_path;
    nix.add_root(path, link, cancel)
        .await
        .map_err(|source| PrebuiltError::Nix { path: path.clone(), source })?;
    match database.path_info(path.hash())? {
        Some(info) if info.path == *path && info.nar_hash == revision.nar_hash => Ok(()),
        found => Err(PrebuiltError::Altered {
            path: path.clone(),
            number: revision.number,
            found: found.map_or("none".to_owned(), |info| info.nar_hash.to_string()),
            signed: revision.nar_hash,
        }),
    }
}
