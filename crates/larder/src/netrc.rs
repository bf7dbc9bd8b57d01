//! Logins for servers, from a file in netrc's form: the same that Nix reads (`netrc-file`).

use std::{
    io,
    path::{Path, PathBuf},
};

use larder_cache::storage::{Credentials, Secret};
use netrc::Netrc;

/// A netrc file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetrcError {
    /// It may not be read.
    #[error("cannot read the netrc file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is malformed. What is in it is not shown.
    #[error(
        "the netrc file {0} cannot be understood: write `machine HOST login NAME password TOKEN`, a line for each server"
    )]
    Malformed(PathBuf),
}

/// The login for a host: its own, or the file's `default`. Nothing without a file.
pub(crate) fn login(file: &Path, host: &str) -> Result<Option<Credentials>, NetrcError> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NetrcError::Io { path: file.to_owned(), source }),
        Ok(text) => text,
    };
    let netrc: Netrc = text.parse().map_err(|_| NetrcError::Malformed(file.to_owned()))?;
    let found = netrc.hosts.get(host).or_else(|| netrc.hosts.get("default"));
    Ok(found.map(|login| Credentials::Basic {
        user: login.login.clone(),
        password: Secret::new(login.password.clone()),
    }))
}
