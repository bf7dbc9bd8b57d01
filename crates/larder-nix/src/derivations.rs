//! Derivations that lie in the store.

use larder_formats::{
    derivation::{Derivation, DerivationError},
    store_path::StorePath,
};

use crate::layout::StoreLayout;

/// A derivation's file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DerivationFileError {
    /// The system's reason.
    #[error("cannot read the derivation {derivation}: {source}")]
    Io {
        /// The derivation.
        derivation: StorePath,
        /// The reason.
        source: std::io::Error,
    },
    /// It is none.
    #[error("{derivation} is {source}")]
    Damaged {
        /// The derivation.
        derivation: StorePath,
        /// From where on.
        source: DerivationError,
    },
}

/// Reads a derivation. Blocks for as long as the disk takes.
pub fn read(layout: &StoreLayout, path: &StorePath) -> Result<Derivation, DerivationFileError> {
    let bytes = std::fs::read(layout.real_path(path))
        .map_err(|source| DerivationFileError::Io { derivation: path.clone(), source })?;
    Derivation::parse(&bytes, &layout.store_dir)
        .map_err(|source| DerivationFileError::Damaged { derivation: path.clone(), source })
}
