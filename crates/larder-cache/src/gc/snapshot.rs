//! What is in a cache, as far as a plan needs to know it, in little memory: a million paths with ten million
//! references take some 400 MB.

use std::collections::{HashMap, hash_map::Entry::Vacant};

use jiff::Timestamp;
use larder_formats::{
    nar_file::NarFile,
    store_path::{StorePath, StorePathHash},
};

use crate::storage::Key;

/// A path: what its narinfo says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathEntry {
    /// Its hash part.
    pub hash: StorePathHash,
    /// The whole path; nothing where the narinfo cannot be read.
    pub path: Option<StorePath>,
    /// Bytes of the narinfo.
    pub size: u64,
    /// When the narinfo was written, by the storage's clock.
    pub written: Timestamp,
    /// The file of its NAR; nothing where it lies elsewhere.
    pub nar: Option<NarFile>,
    /// The hash part of the derivation that built it.
    pub deriver: Option<StorePathHash>,
}

/// A NAR's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarEntry {
    /// Its name.
    pub file: NarFile,
    /// Bytes in it.
    pub size: u64,
    /// When it was written, by the storage's clock.
    pub written: Timestamp,
    /// When it was last read, where the storage keeps that.
    pub accessed: Option<Timestamp>,
}

/// Another object, and what it is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: Key,
    /// Its purpose.
    pub kind: ObjectKind,
    /// Bytes in it.
    pub size: u64,
    /// When it was written, by the storage's clock.
    pub written: Timestamp,
}

/// What an object beside narinfos and NARs is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// The listing of a path.
    Listing(StorePathHash),
    /// Which path an output is; nothing where that cannot be read.
    Realisation(Option<StorePathHash>),
    /// Which NAR has a build id's debug information; nothing where that cannot be read.
    Debuginfo(Option<NarFile>),
    /// The log of a derivation.
    Log(StorePathHash),
    /// The record of a NAR that waits for its narinfo.
    Staged(NarFile),
    /// Something half written.
    Draft,
    /// Not a cache's.
    Foreign,
}

/// What is in a cache.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    paths: Vec<PathEntry>,
    by_hash: HashMap<StorePathHash, u32>,
    /// Where each path's references begin in `edges`; one more than paths.
    starts: Vec<usize>,
    edges: Vec<u32>,
    nars: Vec<NarEntry>,
    by_file: HashMap<NarFile, u32>,
    objects: Vec<ObjectEntry>,
}

/// No path of a snapshot.
const NONE: u32 = u32::MAX;

impl Snapshot {
    /// The paths.
    #[must_use]
    pub fn paths(&self) -> &[PathEntry] {
        &self.paths
    }

    /// The files of NARs.
    #[must_use]
    pub fn nars(&self) -> &[NarEntry] {
        &self.nars
    }

    /// The other objects.
    #[must_use]
    pub fn objects(&self) -> &[ObjectEntry] {
        &self.objects
    }

    /// A path's place among [`Snapshot::paths`].
    #[must_use]
    pub fn position(&self, path: &StorePathHash) -> Option<usize> {
        self.by_hash.get(path).map(|position| *position as usize)
    }

    /// A NAR file's entry.
    #[must_use]
    pub fn nar(&self, file: &NarFile) -> Option<&NarEntry> {
        self.nars.get(*self.by_file.get(file)? as usize)
    }

    /// A NAR file's place among [`Snapshot::nars`].
    #[must_use]
    pub fn nar_position(&self, file: &NarFile) -> Option<usize> {
        self.by_file.get(file).map(|position| *position as usize)
    }

    /// How many paths need each NAR's file, by its place among [`Snapshot::nars`].
    #[must_use]
    pub fn needs(&self) -> Vec<u32> {
        let mut needs = vec![0; self.nars.len()];
        for nar in self.paths.iter().filter_map(|entry| entry.nar) {
            if let Some(position) = self.nar_position(&nar) {
                needs[position] += 1;
            }
        }
        needs
    }

    /// The NAR files that no narinfo leads to.
    pub fn orphans(&self) -> impl Iterator<Item = &NarEntry> {
        let nars = self.nars.iter().zip(self.needs());
        nars.filter_map(|(nar, needed)| (needed == 0).then_some(nar))
    }

    /// The places of a path's references: those that are there, without itself.
    pub fn references(&self, position: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.starts.get(position + 1).copied().unwrap_or_default();
        let start = self.starts.get(position).copied().unwrap_or(end);
        self.edges.get(start..end).unwrap_or_default().iter().map(|edge| *edge as usize)
    }

    /// Adds to `reached` what these places reach.
    pub fn reach(&self, from: impl IntoIterator<Item = usize>, reached: &mut [bool]) {
        let mut open: Vec<usize> = from.into_iter().collect();
        while let Some(position) = open.pop() {
            match reached.get_mut(position) {
                Some(mark) if !*mark => *mark = true,
                _ => continue,
            }
            open.extend(self.references(position).filter(|next| !reached[*next]));
        }
    }
}

/// Puts a [`Snapshot`] together, from paths in any order.
#[derive(Debug, Default)]
pub struct SnapshotBuilder {
    snapshot: Snapshot,
    /// A number for each hash that was met, as a path or as a reference.
    numbers: HashMap<StorePathHash, u32>,
    /// By number: the path's place.
    places: Vec<u32>,
}

impl SnapshotBuilder {
    /// Adds a path and its references. A path that comes again is passed over.
    pub fn path(&mut self, entry: PathEntry, references: impl IntoIterator<Item = StorePathHash>) {
        let number = self.number(entry.hash) as usize;
        if self.places[number] != NONE {
            return;
        }
        self.places[number] = u32::try_from(self.snapshot.paths.len()).unwrap_or(NONE);
        self.snapshot.starts.push(self.snapshot.edges.len());
        for reference in references {
            if reference != entry.hash {
                let number = self.number(reference);
                self.snapshot.edges.push(number);
            }
        }
        self.snapshot.paths.push(entry);
    }

    /// Adds a NAR's file. One that comes again is passed over.
    pub fn nar(&mut self, entry: NarEntry) {
        if let Vacant(new) = self.snapshot.by_file.entry(entry.file) {
            new.insert(u32::try_from(self.snapshot.nars.len()).unwrap_or(NONE));
            self.snapshot.nars.push(entry);
        }
    }

    /// Adds another object. One that comes again counts once.
    pub fn object(&mut self, entry: ObjectEntry) {
        self.snapshot.objects.push(entry);
    }

    /// The snapshot. References to what is not there are left out.
    #[must_use]
    pub fn finish(self) -> Snapshot {
        let Self { mut snapshot, mut numbers, places } = self;
        snapshot.objects.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        snapshot.objects.dedup_by(|one, other| one.key == other.key);
        let (mut edges, mut starts) = (Vec::with_capacity(snapshot.edges.len()), Vec::new());
        starts.reserve_exact(snapshot.starts.len() + 1);
        for (place, start) in snapshot.starts.iter().enumerate() {
            let end = snapshot.starts.get(place + 1).copied().unwrap_or(snapshot.edges.len());
            starts.push(edges.len());
            let there = snapshot.edges[*start..end].iter().map(|number| places[*number as usize]);
            edges.extend(there.filter(|place| *place != NONE));
        }
        starts.push(edges.len());
        // What is left of the numbers is the places by hash.
        numbers.retain(|_, number| {
            *number = places[*number as usize];
            *number != NONE
        });
        (snapshot.edges, snapshot.starts, snapshot.by_hash) = (edges, starts, numbers);
        snapshot
    }

    fn number(&mut self, hash: StorePathHash) -> u32 {
        let next = u32::try_from(self.places.len()).unwrap_or(NONE);
        let number = *self.numbers.entry(hash).or_insert(next);
        if number == next {
            self.places.push(NONE);
        }
        number
    }
}
