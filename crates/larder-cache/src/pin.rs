//! Pins: closures of a static cache that no collection removes, by name.
//!
//! `.larder/pins/<name>.json`. Says nothing of whether the paths are in the cache.

pub mod built;
pub mod local;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use larder_formats::store_path::StorePath;
use serde::{Deserialize, Serialize};

use crate::{
    collection,
    names::Names,
    record::{self, Name, RecordError},
    storage::{Key, Storage, StorageError, StorageErrorKind},
    time::{Clock, SKEW, after},
};

const FOLDER: &str = ".larder/pins";

/// How often a collection is looked at that has to end first.
const POLL: Duration = Duration::from_secs(2);

/// How often a pin is set that is removed again at once.
const TRIES: usize = 3;

/// Paths that stay, with their closures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Its name.
    pub name: Name,
    /// The paths.
    pub paths: Vec<StorePath>,
    /// When it was set.
    pub added: Timestamp,
    /// When it ends; never, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Pin {
    /// Whether it has ended, by every machine's clock.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| after(until, SKEW) <= now)
    }
}

/// The pins of a cache.
pub struct Pins {
    storage: Arc<dyn Storage>,
    clock: Clock,
}

impl Pins {
    /// Of the cache that lies there.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, clock: Clock) -> Self {
        Self { storage, clock }
    }

    /// Sets a pin, in place of one of the same name. When this returns, those of the paths that are found in the
    /// cache when looked at after that stay.
    ///
    /// # Errors
    /// When the cache cannot be written to or read.
    pub async fn add(
        &self,
        name: Name,
        paths: Vec<StorePath>,
        until: Option<Timestamp>,
    ) -> Result<Pin, RecordError> {
        let (storage, key) = (&*self.storage, key(&name)?);
        let mut names = Names::of_paths(paths.iter().map(StorePath::hash));
        match record::read::<Pin>(storage, &key).await {
            // A collection that drops this one, having ended, has announced its paths.
            Ok(Some(former)) => names.paths.extend(former.paths.iter().map(StorePath::hash)),
            Ok(None) | Err(RecordError::Format { .. }) => {}
            Err(error) => return Err(error),
        }
        let pin = Pin { name, paths, added: (self.clock)(), until };
        for _ in 0..TRIES {
            record::write(storage, &key, &pin).await?;
            collection::none_condemns(storage, &names, &self.clock, POLL).await?;
            // What was dropped in place of the former one has to be set again.
            if record::read::<Pin>(storage, &key).await?.is_some() {
                return Ok(pin);
            }
        }
        let what = format!("setting the pin {} in {}", pin.name, storage.url());
        let why = "somebody else removes it each time: see who does, and set it again";
        Err(StorageError::new(StorageErrorKind::Transient, what, why).into())
    }

    /// Every pin, by name; those that have ended too, until a collection removes them.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub async fn list(&self) -> Result<Vec<Pin>, RecordError> {
        all(&*self.storage).await
    }

    /// Removes a pin. Says what it was; nothing if there was none.
    ///
    /// # Errors
    /// When the cache cannot be read or written to.
    pub async fn remove(&self, name: &Name) -> Result<Option<Pin>, RecordError> {
        let key = key(name)?;
        let pin = record::read(&*self.storage, &key).await?;
        self.storage.delete(&key).await?;
        Ok(pin)
    }
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pins({})", self.storage.url())
    }
}

/// Every pin of a cache, by name.
pub(crate) async fn all(storage: &dyn Storage) -> Result<Vec<Pin>, RecordError> {
    let pins = record::all(storage, FOLDER).await?;
    Ok(pins.into_iter().map(|(_, pin)| pin).collect())
}

/// Removes a pin that has ended, unless it was set anew. Its paths have been announced as those of a collection.
pub(crate) async fn drop_ended(
    storage: &dyn Storage,
    name: &Name,
    now: Timestamp,
) -> Result<(), RecordError> {
    let key = key(name)?;
    if record::read::<Pin>(storage, &key).await?.is_some_and(|pin| pin.has_ended(now)) {
        storage.delete(&key).await?;
    }
    Ok(())
}

fn key(name: &Name) -> Result<Key, RecordError> {
    Ok(Key::new(format!("{FOLDER}/{name}.json"))?)
}
