//! Small JSON objects below `.larder/`, which every replica can read.
//!
//! Each says its version. Fields that are unknown are passed over, as an older program may meet what a newer
//! one wrote; a version that is unknown is an error, as then nothing can be concluded from it.

use std::{fmt, str::FromStr, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::storage::{Key, KeyError, Storage, StorageError};

const VERSION: u32 = 1;

/// Bytes of a record.
const LIMIT: usize = 64 * 1024 * 1024;

/// Records that are read at once.
const PARALLEL: usize = 16;

/// Bytes of a name.
const MAX_NAME: usize = 100;

/// A name for a pin, a replica or a holder of leases. It is part of a file's name everywhere: 1 to 100 of
/// A-Z a-z 0-9 `.` `_` `-`, and does not begin with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a name here: use 1 to 100 of A-Z a-z 0-9 . _ - and do not begin with a dot"
)]
pub struct NameError(String);

/// A record could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// The place failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no such key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is not what it should be.
    #[error("{key} of {url} cannot be understood: {source}; remove it if it is of no use")]
    Format {
        /// The cache.
        url: String,
        /// The object.
        key: Key,
        /// What is wrong.
        source: Arc<serde_json::Error>,
    },
    /// A newer program wrote it.
    #[error(
        "{key} of {url} was written by a newer Larder (version {found}; this one knows {VERSION}): upgrade Larder here"
    )]
    Newer {
        /// The cache.
        url: String,
        /// The object.
        key: Key,
        /// Its version.
        found: u32,
    },
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    record: &'a T,
}

/// One record, if it is there.
pub(crate) async fn read<T: DeserializeOwned>(
    storage: &dyn Storage,
    key: &Key,
) -> Result<Option<T>, RecordError> {
    let Some(text) = storage.get(key, LIMIT).await? else { return Ok(None) };
    let format = |source| RecordError::Format {
        url: storage.url().to_owned(),
        key: key.clone(),
        source: Arc::new(source),
    };
    let VersionOnly { version: found } = serde_json::from_slice(&text).map_err(format)?;
    if found != VERSION {
        return Err(RecordError::Newer { url: storage.url().to_owned(), key: key.clone(), found });
    }
    serde_json::from_slice(&text).map(Some).map_err(format)
}

/// Every record of a folder, with its key.
pub(crate) async fn all<T: DeserializeOwned>(
    storage: &dyn Storage,
    folder: &str,
) -> Result<Vec<(Key, T)>, RecordError> {
    let keys = keys(storage, folder).await?;
    let records = keys.into_iter().map(|key| async move {
        let record = read(storage, &key).await?;
        Ok::<_, RecordError>(record.map(|record| (key, record)))
    });
    let mut found: Vec<(Key, T)> = stream::iter(records)
        .buffer_unordered(PARALLEL)
        .boxed()
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// The keys of a folder's records.
pub(crate) async fn keys(storage: &dyn Storage, folder: &str) -> Result<Vec<Key>, RecordError> {
    let folder = Key::new(folder)?;
    let entries: Vec<_> = storage.list_shallow(Some(&folder)).try_collect().await?;
    let json = |key: &Key| key.as_str().ends_with(".json");
    Ok(entries.into_iter().map(|entry| entry.key).filter(json).collect())
}

/// Writes a record. When this returns, everybody sees it.
pub(crate) async fn write<T: Serialize>(
    storage: &dyn Storage,
    key: &Key,
    record: &T,
) -> Result<(), RecordError> {
    let versioned = Versioned { version: VERSION, record };
    let text = serde_json::to_vec(&versioned).map_err(|source| RecordError::Format {
        url: storage.url().to_owned(),
        key: key.clone(),
        source: Arc::new(source),
    })?;
    Ok(storage.put(key, text.into()).await?)
}

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let sound = (1..=MAX_NAME).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with('.');
        if sound {
            Ok(Self(text.into()))
        } else {
            Err(NameError(text.chars().take(MAX_NAME + 1).collect()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
