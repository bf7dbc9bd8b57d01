//! Since when NAR files have been without a narinfo: `.larder/orphans/<id>.json`.
//!
//! A reader that has just been told of a NAR may come for it a little later. So a NAR is removed only when it
//! has been noted as an orphan for the whole grace time, and nothing needed it at the collections
//! between. The notes lie in the cache, as the next collection may run anywhere.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use larder_formats::nar_file::NarFile;
use serde::{Deserialize, Serialize};

use crate::{
    names::Names,
    record::{self, RecordError},
    storage::{Key, Storage},
};

const FOLDER: &str = ".larder/orphans";

/// NAR files in an object.
const FULL: usize = 100_000;

#[derive(Serialize, Deserialize)]
struct Record {
    since: Timestamp,
    nars: Names,
}

/// What is noted.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub since: HashMap<NarFile, Timestamp>,
    keys: Vec<Key>,
}

/// Reads what is noted. Of several notes the newest counts.
pub(super) async fn read(storage: &dyn Storage) -> Result<Noted, RecordError> {
    let mut noted = Noted::default();
    for (key, record) in record::all::<Record>(storage, FOLDER).await? {
        for nar in record.nars.nars {
            let since = noted.since.entry(nar).or_insert(record.since);
            *since = (*since).max(record.since);
        }
        noted.keys.push(key);
    }
    Ok(noted)
}

/// Notes orphans. `id` is one that no note has had.
pub(super) async fn note(
    storage: &dyn Storage,
    id: &str,
    since: Timestamp,
    nars: &[NarFile],
) -> Result<(), RecordError> {
    for (number, part) in nars.chunks(FULL).enumerate() {
        let names = Names { nars: part.iter().copied().collect(), ..Names::default() };
        let key = Key::new(format!("{FOLDER}/{id}-{number}.json"))?;
        record::write(storage, &key, &Record { since, nars: names }).await?;
    }
    Ok(())
}

impl Noted {
    /// Writes the notes that are still true in place of all. A crash in between leaves both; then those
    /// that are not true any more are left out the next time.
    pub(super) async fn compact(
        self,
        storage: &dyn Storage,
        id: &str,
        is_true: impl Fn(&NarFile) -> bool,
    ) -> Result<(), RecordError> {
        let mut by_time: BTreeMap<Timestamp, Vec<NarFile>> = BTreeMap::new();
        for (nar, since) in &self.since {
            if is_true(nar) {
                by_time.entry(*since).or_default().push(*nar);
            }
        }
        for (number, (since, nars)) in by_time.iter().enumerate() {
            note(storage, &format!("{id}-{number}"), *since, nars).await?;
        }
        for key in &self.keys {
            storage.delete(key).await?;
        }
        Ok(())
    }
}
