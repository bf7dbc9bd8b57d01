//! When paths were last asked for, without a write for each request.
//!
//! A replica remembers what it is asked and writes it down every few minutes, by the hour:
//! `.larder/used/<replica>-<milliseconds>.json`. Collections put these together. A crash forgets the last few
//! minutes, which costs nothing but a path's place in the order of what is useful.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use larder_formats::store_path::StorePathHash;
use serde::{Deserialize, Serialize};

use crate::{
    record::{self, Name, RecordError},
    storage::{Key, Storage},
};

const FOLDER: &str = ".larder/used";

const HOUR: i64 = 60 * 60;

/// Paths in an object.
const FULL: usize = 100_000;

/// Objects that are read at once.
const PARALLEL: usize = 16;

/// When paths were used last, to the hour.
pub type Uses = HashMap<StorePathHash, Timestamp>;

/// What lies in an object: paths by the hour they were last used in, in seconds since 1970.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    used: BTreeMap<i64, Vec<String>>,
}

/// What one replica is asked for.
pub struct LastUse {
    storage: Arc<dyn Storage>,
    replica: Name,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The hour each path was last used in, where that is not written down.
    fresh: HashMap<StorePathHash, i64>,
    /// The paths of this hour that are written down.
    written: HashMap<StorePathHash, i64>,
}

impl LastUse {
    /// Knows nothing yet. `replica` is a name that no other process has at this time.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, replica: Name) -> Self {
        Self { storage, replica, state: Mutex::default() }
    }

    /// Remembers that a path was asked for.
    pub fn record(&self, path: StorePathHash, now: Timestamp) {
        let hour = hour(now);
        let mut state = self.state();
        if state.written.get(&path) != Some(&hour) {
            state.fresh.insert(path, hour);
        }
    }

    /// Writes down what is new. After an error it is still to be written.
    ///
    /// # Errors
    /// When the cache cannot be written to.
    pub async fn flush(&self, now: Timestamp) -> Result<(), RecordError> {
        let fresh = {
            let mut state = self.state();
            let this = hour(now);
            state.written.retain(|_, hour| *hour == this);
            std::mem::take(&mut state.fresh)
        };
        if fresh.is_empty() {
            return Ok(());
        }
        let id = format!("{}-{}", self.replica, now.as_millisecond());
        let written = write(&*self.storage, &id, &fresh).await;
        let mut state = self.state();
        match written {
            Ok(()) => state.written.extend(fresh),
            Err(_) => {
                for (path, hour) in fresh {
                    state.fresh.entry(path).or_insert(hour);
                }
            }
        }
        written
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LastUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LastUse({})", self.storage.url())
    }
}

/// Writes uses down, in as many objects as it takes.
async fn write(
    storage: &dyn Storage,
    id: &str,
    uses: &HashMap<StorePathHash, i64>,
) -> Result<(), RecordError> {
    let mut sorted: Vec<_> = uses.iter().collect();
    sorted.sort();
    for (number, part) in sorted.chunks(FULL).enumerate() {
        let mut record = Record::default();
        for (path, hour) in part {
            record.used.entry(**hour).or_default().push(path.to_string());
        }
        let key = Key::new(format!("{FOLDER}/{id}-{number}.json"))?;
        record::write(storage, &key, &record).await?;
    }
    Ok(())
}

/// What all replicas have written down, and where.
#[derive(Debug, Default)]
pub struct Written {
    uses: HashMap<StorePathHash, i64>,
    keys: Vec<Key>,
}

impl Written {
    /// Reads it.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub async fn read(storage: &dyn Storage) -> Result<Self, RecordError> {
        let keys = record::keys(storage, FOLDER).await?;
        let reads = keys.iter().map(|key| record::read::<Record>(storage, key));
        let mut records = stream::iter(reads).buffer_unordered(PARALLEL).boxed();
        let mut uses = HashMap::new();
        while let Some(record) = records.try_next().await? {
            let used = record.unwrap_or_default().used;
            let paths =
                used.iter().flat_map(|(hour, paths)| paths.iter().map(move |path| (hour, path)));
            for (hour, path) in paths {
                // What is no path was never used.
                let Ok(path) = path.parse() else { continue };
                let known = uses.entry(path).or_insert(*hour);
                *known = (*known).max(*hour);
            }
        }
        drop(records);
        Ok(Self { uses, keys })
    }

    /// Notes a use.
    pub fn add(&mut self, path: StorePathHash, at: Timestamp) {
        let hour = hour(at);
        let known = self.uses.entry(path).or_insert(hour);
        *known = (*known).max(hour);
    }

    /// When each path was used last.
    #[must_use]
    pub fn uses(&self) -> Uses {
        let time = |hour: i64| Timestamp::from_second(hour).ok();
        self.uses.iter().filter_map(|(path, hour)| Some((*path, time(*hour)?))).collect()
    }

    /// Writes it in few objects in place of the many, without those that are not worth keeping. A crash in
    /// between leaves both, which say the same.
    ///
    /// # Errors
    /// When the cache cannot be written to.
    pub async fn compact(
        mut self,
        storage: &dyn Storage,
        id: &str,
        is_worth: impl Fn(&StorePathHash) -> bool,
    ) -> Result<(), RecordError> {
        self.uses.retain(|path, _| is_worth(path));
        write(storage, id, &self.uses).await?;
        for key in &self.keys {
            storage.delete(key).await?;
        }
        Ok(())
    }
}

fn hour(time: Timestamp) -> i64 {
    time.as_second().div_euclid(HOUR) * HOUR
}
