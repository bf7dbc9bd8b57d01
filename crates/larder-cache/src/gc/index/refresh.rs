//! Bringing the index up to date: everything is listed, what is new or changed is read.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use larder_formats::{
    nar_file::NarFile,
    store_path::{StorePath, StorePathHash},
};

use super::{
    Index, IndexError, Refreshed,
    contents::{self, Said, Target},
    table::Small,
};
use crate::{
    gc::snapshot::{NarEntry, ObjectEntry, ObjectKind, Snapshot, SnapshotBuilder},
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
    number: u32,
    /// What was changed after this may change again and bear the same time.
    settled_before: Timestamp,
    /// What is known by its name alone.
    listed: SnapshotBuilder,
    done: Refreshed,
}

/// What lies at a key.
enum Listed {
    Nar(NarFile),
    /// Known altogether.
    Object(ObjectKind),
    /// To be read.
    Small(Small),
}

/// What a small object turned out to say.
enum Read {
    Narinfo(StorePathHash, Said),
    Other(Target),
    /// It cannot be read, now at least, and nothing depends on it.
    Nothing(ObjectKind),
}

impl<'a> Refresh<'a> {
    pub(super) async fn begin(
        index: &'a Index,
        storage: &'a dyn Storage,
        now: Timestamp,
        parallel: usize,
    ) -> Result<Self, IndexError> {
        let number = index.with(|table| Ok(table.begin())).await?;
        let settled_before = before(before(now, SKEW), TICK);
        let (listed, done) = (SnapshotBuilder::default(), Refreshed::default());
        let parallel = parallel.max(1);
        Ok(Self { index, storage, parallel, number, settled_before, listed, done })
    }

    pub(super) async fn run(mut self) -> Result<(Refreshed, Snapshot), IndexError> {
        let (staged, drafts) = (Key::new(STAGED)?, Key::new(DRAFTS)?);
        // NARs after what needs them would be as good: only narinfos are relied upon to be complete.
        for folder in [None, Some(&staged), Some(&drafts)] {
            let mut portions = self.storage.list(folder).ready_chunks(PORTION);
            while let Some(portion) = portions.next().await {
                let entries: Result<Vec<Entry>, _> = portion.into_iter().collect();
                self.note(entries?).await?;
            }
        }
        let (number, listed) = (self.number, self.listed);
        let (gone, snapshot) =
            self.index.with(move |table| Ok((table.end(number)?, table.snapshot(listed)?))).await?;
        Ok((Refreshed { gone, ..self.done }, snapshot))
    }

    async fn note(&mut self, entries: Vec<Entry>) -> Result<(), IndexError> {
        self.done.listed += entries.len() as u64;
        let small: Vec<_> = entries.into_iter().filter_map(|entry| self.sort(entry)).collect();
        if small.is_empty() {
            return Ok(());
        }
        let number = self.number;
        let mut unread = self.index.with(move |table| Ok(table.unread(number, small))).await?;
        // What was written anew meanwhile may be listed twice.
        unread.sort_unstable_by(|(_, one), (_, other)| one.key.cmp(&other.key));
        unread.dedup_by(|(_, one), (_, other)| one.key == other.key);
        if unread.is_empty() {
            return Ok(());
        }
        let reads = unread.into_iter().map(|(small, entry)| self.read(small, entry));
        let found: Vec<Option<(Read, Entry)>> =
            stream::iter(reads).buffer_unordered(self.parallel).boxed().try_collect().await?;
        let (mut narinfos, mut others) = (Vec::new(), Vec::new());
        for (read, entry) in found.into_iter().flatten() {
            match read {
                Read::Narinfo(hash, said) => narinfos.push((hash, entry.object, said)),
                Read::Other(target) => others.push((target, entry)),
                Read::Nothing(kind) => self.listed.object(listed(entry, kind)),
            }
        }
        self.done.read += (narinfos.len() + others.len()) as u64;
        let stamp = (self.number, self.settled_before);
        self.index
            .with(move |table| {
                table.paths(stamp, narinfos)?;
                table.objects(stamp, others)
            })
            .await
    }

    /// Notes what an entry's name tells. Returns one that says more.
    fn sort(&mut self, Entry { key, object }: Entry) -> Option<(Small, Entry)> {
        match recognised(&key)? {
            Listed::Small(small) => return Some((small, Entry { key, object })),
            Listed::Nar(file) => self.listed.nar(NarEntry {
                file,
                size: object.size,
                written: object.modified,
                accessed: object.accessed,
            }),
            Listed::Object(kind) => self.listed.object(listed(Entry { key, object }, kind)),
        }
        None
    }

    /// Reads an object; nothing if it has gone since it was listed.
    async fn read(&self, small: Small, entry: Entry) -> Result<Option<(Read, Entry)>, IndexError> {
        let nothing = match small {
            Small::Narinfo(_) => None,
            Small::Realisation => Some(ObjectKind::Realisation(None)),
            Small::Debuginfo => Some(ObjectKind::Debuginfo(None)),
        };
        if let Some(kind) = nothing
            && entry.object.size > LIMIT as u64
        {
            return Ok(Some((Read::Nothing(kind), entry)));
        }
        let text = match (self.storage.get(&entry.key, LIMIT).await, nothing) {
            (Ok(None), _) => return Ok(None),
            (Ok(Some(text)), _) => text,
            (Err(error), Some(kind)) if !error.is_transient() => {
                return Ok(Some((Read::Nothing(kind), entry)));
            }
            (Err(error), _) => return Err(error.into()),
        };
        let read = match small {
            Small::Narinfo(hash) => {
                Read::Narinfo(hash, contents::narinfo(hash, &text, &self.index.store_dir))
            }
            Small::Realisation => Read::Other(Target::Realisation(contents::realisation(&text))),
            Small::Debuginfo => Read::Other(Target::Debuginfo(contents::debuginfo(&text))),
        };
        Ok(Some((read, entry)))
    }
}

fn listed(Entry { key, object }: Entry, kind: ObjectKind) -> ObjectEntry {
    ObjectEntry { key, kind, size: object.size, written: object.modified }
}

/// What lies at a key. Nothing for what is no concern of a collection's.
fn recognised(key: &Key) -> Option<Listed> {
    if let Some(hash) = layout::narinfo_of(key) {
        return Some(Listed::Small(Small::Narinfo(hash)));
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
        return text.ends_with(".doi").then_some(Listed::Small(Small::Realisation));
    } else if key.is_below("debuginfo") {
        return Some(Listed::Small(Small::Debuginfo));
    } else if let Some(derivation) = text.strip_prefix("log/") {
        derivation.parse::<StorePath>().ok().map(|path| ObjectKind::Log(path.hash()))
    } else {
        text.strip_suffix(".ls").and_then(|hash| hash.parse().ok()).map(ObjectKind::Listing)
    };
    Some(Listed::Object(object.unwrap_or(ObjectKind::Foreign)))
}
