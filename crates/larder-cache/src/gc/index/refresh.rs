//! Bringing the index up to date: everything is listed, what is new or changed is read.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use larder_formats::{nar_file::NarFile, store_path::StorePath};

use super::{
    Index, IndexError, Refreshed,
    contents::{self, Said},
    table::Listed,
};
use crate::{
    gc::snapshot::ObjectKind,
    source::object_storage::layout,
    storage::{Entry, Key, Storage},
    time::{SKEW, before},
};

/// Entries of a listing that are noted at once.
const PORTION: usize = 2048;

/// Bytes of a narinfo or another small object.
const LIMIT: usize = 4 * 1024 * 1024;

/// How long a time stays the same, in the coarsest storage, while something is changed.
const TICK: SignedDuration = SignedDuration::from_secs(2);

const STAGED: &str = ".larder/staged";
const DRAFTS: &str = ".larder/drafts";

/// A refresh under way.
pub(super) struct Refresh<'a> {
    index: &'a Index,
    storage: &'a dyn Storage,
    parallel: usize,
    round: i64,
    /// What was changed after this may change again and bear the same time.
    settled_before: Timestamp,
    done: Refreshed,
}

/// What an object turned out to be.
enum Read {
    Path(larder_formats::store_path::StorePathHash, Said),
    Object(ObjectKind),
}

impl<'a> Refresh<'a> {
    pub(super) async fn begin(
        index: &'a Index,
        storage: &'a dyn Storage,
        now: Timestamp,
        parallel: usize,
    ) -> Result<Self, IndexError> {
        let round = index.with(|table| table.begin()).await?;
        let settled_before = before(before(now, SKEW), TICK);
        let done = Refreshed::default();
        Ok(Self { index, storage, parallel: parallel.max(1), round, settled_before, done })
    }

    pub(super) async fn run(mut self) -> Result<Refreshed, IndexError> {
        let (staged, drafts) = (Key::new(STAGED)?, Key::new(DRAFTS)?);
        // NARs after what needs them would be as good: only narinfos are relied upon to be complete.
        for folder in [None, Some(&staged), Some(&drafts)] {
            let mut portions = self.storage.list(folder).chunks(PORTION);
            while let Some(portion) = portions.next().await {
                let entries: Result<Vec<Entry>, _> = portion.into_iter().collect();
                self.note(entries?).await?;
            }
        }
        let round = self.round;
        self.done.gone = self.index.with(move |table| table.end(round)).await?;
        Ok(self.done)
    }

    async fn note(&mut self, entries: Vec<Entry>) -> Result<(), IndexError> {
        self.done.listed += entries.len() as u64;
        let listed: Vec<_> = entries
            .into_iter()
            .filter_map(|entry| Some((recognised(&entry.key)?, entry)))
            .collect();
        let round = self.round;
        let unread = self.index.with(move |table| table.listed(round, listed)).await?;
        if unread.is_empty() {
            return Ok(());
        }
        let reads = unread.into_iter().map(|(listed, entry)| self.read(listed, entry));
        let found: Vec<Option<(Read, Entry)>> =
            stream::iter(reads).buffer_unordered(self.parallel).boxed().try_collect().await?;
        let (mut paths, mut objects) = (Vec::new(), Vec::new());
        for (read, entry) in found.into_iter().flatten() {
            match read {
                Read::Path(hash, said) => paths.push((hash, entry, said)),
                Read::Object(kind) => objects.push((kind, entry)),
            }
        }
        self.done.read += (paths.len() + objects.len()) as u64;
        let stamp = (self.round, self.settled_before);
        self.index
            .with(move |table| {
                table.paths(stamp, &paths)?;
                table.objects(stamp, &objects)
            })
            .await
    }

    /// Reads an object; nothing if it has gone since it was listed.
    async fn read(
        &self,
        listed: Listed,
        entry: Entry,
    ) -> Result<Option<(Read, Entry)>, IndexError> {
        let Some(text) = self.storage.get(&entry.key, LIMIT).await? else { return Ok(None) };
        let read = match listed {
            Listed::Path(hash) => {
                Read::Path(hash, contents::narinfo(hash, &text, &self.index.store_dir))
            }
            Listed::Realisation => {
                Read::Object(ObjectKind::Realisation(contents::realisation(&text)))
            }
            Listed::Debuginfo => Read::Object(ObjectKind::Debuginfo(contents::debuginfo(&text))),
            // These are known by their names.
            Listed::Nar(_) | Listed::Object(_) => return Ok(None),
        };
        Ok(Some((read, entry)))
    }
}

/// What lies at a key. Nothing for what is no concern of a collection's.
fn recognised(key: &Key) -> Option<Listed> {
    if let Some(hash) = layout::narinfo_of(key) {
        return Some(Listed::Path(hash));
    }
    if let Some(file) = layout::nar_file_of(key) {
        return Some(Listed::Nar(file));
    }
    let text = key.as_str();
    if text == "nix-cache-info" {
        return None;
    }
    let object = if key.is_below(DRAFTS) {
        Some(ObjectKind::Draft)
    } else if key.is_below(STAGED) {
        let name = key.name().strip_suffix(".json").or(key.name().strip_suffix(".ls"));
        name.and_then(NarFile::parse).map(ObjectKind::Staged)
    } else if key.is_below("realisations") || key.is_below("build-trace-v2") {
        return text.ends_with(".doi").then_some(Listed::Realisation);
    } else if key.is_below("debuginfo") {
        return Some(Listed::Debuginfo);
    } else if let Some(derivation) = text.strip_prefix("log/") {
        derivation.parse::<StorePath>().ok().map(|path| ObjectKind::Log(path.hash()))
    } else {
        text.strip_suffix(".ls").and_then(|hash| hash.parse().ok()).map(ObjectKind::Listing)
    };
    Some(Listed::Object(object.unwrap_or(ObjectKind::Foreign)))
}
