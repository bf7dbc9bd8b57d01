//! Key files: reading and making them, with their permissions.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use larder_cache::storage::Secret;
use larder_formats::signature::{SecretKey, SignatureError};
use zeroize::Zeroizing;

/// Access that a secret key's file must not give: any to others, writing to the group. (The group may
/// read: systemd's credentials show up so.)
const TOO_OPEN: u32 = 0o027;

/// A key file cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// There is none.
    #[error("there is no key at {0}: `larder key generate NAME --output {0}` makes one")]
    Missing(PathBuf),
    /// There is none, of those that people write.
    #[error(
        "there is no file {0}, which is to hold a secret: write it there, for nobody else to read (`chmod 600`)"
    )]
    NoSecret(PathBuf),
    /// It may not be read, or not be written.
    #[error("cannot use the key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others could read it.
    #[error(
        "the key file {path} can be read or changed by others (mode {mode:04o}): `chmod 600 {path}`, and think about who may have read it"
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds no key.
    #[error("the key file {path}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SignatureError,
    },
    /// It would be overwritten.
    #[error(
        "{0} is there already, and keys are not overwritten: choose another name, or move it away"
    )]
    Exists(PathBuf),
    /// The name cannot be a key's.
    #[error("{0}")]
    Name(SignatureError),
    /// The system has no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// Reads a secret key, and insists on its permissions.
pub(crate) fn read(path: &Path) -> Result<SecretKey, KeyError> {
    let text = text(path, KeyError::Missing)?;
    SecretKey::parse(text.trim())
        .map_err(|source| KeyError::Malformed { path: path.to_owned(), source })
}

/// Reads another secret: a token, or an address that is one. It insists on the same permissions.
pub(crate) fn read_secret(path: &Path) -> Result<Secret, KeyError> {
    Ok(Secret::new(text(path, KeyError::NoSecret)?.trim()))
}

fn text(path: &Path, missing: fn(PathBuf) -> KeyError) -> Result<Zeroizing<String>, KeyError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => missing(path.to_owned()),
        _ => KeyError::Io { path: path.to_owned(), source },
    };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        return Err(KeyError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(Zeroizing::new(fs::read_to_string(path).map_err(io)?))
}

/// Makes a secret key and writes it where nothing is yet, for nobody else to read. Its folder is made:
/// on a new server the state folder is not there yet.
pub(crate) fn generate(name: &str, path: &Path) -> Result<SecretKey, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| KeyError::Random(error.to_string()))?;
    let key = SecretKey::from_seed(name, *seed).map_err(KeyError::Name)?;
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::Io { path: path.to_owned(), source },
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let written = file.write_all(key.expose().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|source| {
        // Half a key would stand in the way of the next try.
        let _ = fs::remove_file(path);
        io(source)
    })?;
    Ok(key)
}
