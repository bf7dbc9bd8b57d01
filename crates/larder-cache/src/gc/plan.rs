//! What of a cache should go, and why: a pure function of what is there, what is known of it, and the time.
//!
//! Promise: nothing goes that a pin, a lease or a young path reaches. Whatever is carried out of the paths'
//! removals from the first on, what is left has its references as whole as before. NAR files and other
//! objects go only when nothing has needed them for the grace time; foreign files never.

mod order;
mod text;
mod wrong;

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use larder_formats::{
    nar_file::NarFile,
    store_path::{StorePath, StorePathHash},
};

pub use self::wrong::{Wrong, wrong};
use super::snapshot::{ObjectEntry, ObjectKind, Snapshot};
use crate::{
    last_use::Uses,
    names::Names,
    storage::Key,
    time::{after, before},
};

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Paths that were not used for so long. Nothing: they may stay forever.
    pub max_age: Option<SignedDuration>,
    /// Bytes of narinfos and NARs beyond which the least useful paths go. Nothing: no limit.
    pub max_size: Option<u64>,
    /// How long everything stays that was just written, and NARs after their last narinfo.
    pub grace: SignedDuration,
}

impl Default for Policy {
    /// Nothing but what is broken off goes, after a day.
    fn default() -> Self {
        Self { max_age: None, max_size: None, grace: SignedDuration::from_hours(24) }
    }
}

/// What is known beside what is there.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The paths that pins name.
    pub pinned: Vec<StorePathHash>,
    /// What leases hold.
    pub held: Names,
    /// When paths were last used.
    pub uses: Uses,
    /// Since when NAR files have been noted as needed by nobody.
    pub orphans: HashMap<NarFile, Timestamp>,
}

/// Something that should go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What.
    pub what: What,
    /// Bytes that it takes: of a path its narinfo's alone.
    pub size: u64,
    /// When it was written. What has been written anew since stays.
    pub written: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// What can be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A path: its narinfo. Its name is not known where the narinfo is broken.
    Path(StorePathHash, Option<StorePath>),
    /// The file of a NAR.
    Nar(NarFile),
    /// Another object.
    Object(Key, ObjectKind),
}

/// Why something should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was last used then, and that is too long ago.
    Unused(Timestamp),
    /// The cache is too large, and this was last used then.
    TooLarge(Timestamp),
    /// Nothing has needed it since then.
    NotNeeded(Timestamp),
    /// It was begun then and never finished.
    BrokenOff(Timestamp),
    /// It is wrong: a check found it.
    Wrong,
    /// It refers to this path, which is wrong.
    RefersTo(StorePathHash),
}

/// What should go, in this order, and what the cache is then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Paths, those that refer to others before these.
    pub paths: Vec<Removal>,
    /// NAR files that nothing has needed for the grace time.
    pub nars: Vec<Removal>,
    /// Other objects.
    pub objects: Vec<Removal>,
    /// NAR files that nothing needs and that no collection has noted yet.
    pub orphans: Vec<NarFile>,
    /// Paths that are there now.
    pub count: usize,
    /// Paths that pins, leases and youth keep.
    pub kept: usize,
    /// Bytes of all narinfos and the NARs that they need, each NAR counted once.
    pub size: u64,
    /// The same after the plan, and after the grace time of the NARs.
    pub size_after: u64,
}

/// Makes the plan.
#[must_use]
pub fn plan(snapshot: &Snapshot, known: &Known, policy: &Policy, now: Timestamp) -> Plan {
    let young = before(now, policy.grace);
    let kept = kept(snapshot, known, |position| snapshot.paths()[position].written > young);
    let order = order::by_use(snapshot, known, now);
    let mut needs = Needs::of(snapshot);
    let mut plan = Plan {
        count: snapshot.paths().len(),
        kept: kept.iter().filter(|kept| **kept).count(),
        size: needs.size,
        ..Plan::default()
    };
    let mut stays = vec![true; snapshot.paths().len()];
    for (position, used) in order.into_iter().filter(|(position, _)| !kept[*position]) {
        let too_old = policy.max_age.is_some_and(|age| used < before(now, age));
        let too_large = policy.max_size.is_some_and(|limit| needs.size > limit);
        let reason = match (too_old, too_large) {
            (true, _) => Reason::Unused(used),
            (false, true) => Reason::TooLarge(used),
            // Whoever comes later was used later.
            (false, false) => break,
        };
        let entry = &snapshot.paths()[position];
        stays[position] = false;
        needs.without(snapshot, position);
        plan.paths.push(Removal {
            what: What::Path(entry.hash, entry.path.clone()),
            size: entry.size,
            written: entry.written,
            reason,
        });
    }
    plan.size_after = needs.size;
    let rest = Rest { snapshot, known, policy, now, stays: &stays };
    rest.nars(&mut plan);
    rest.objects(&mut plan);
    plan
}

/// What of these may go now: not what is kept, what has been written anew, or what is gone.
#[must_use]
pub fn confirmed(
    snapshot: &Snapshot,
    known: &Known,
    condemned: &HashMap<StorePathHash, Timestamp>,
) -> Vec<StorePathHash> {
    let is_condemned = |position: usize| {
        let entry = &snapshot.paths()[position];
        condemned.get(&entry.hash) == Some(&entry.written)
    };
    // All that is not to go keeps what it reaches: also what was written after the plan was made.
    let kept = kept(snapshot, known, |position| !is_condemned(position));
    let paths = snapshot.paths().iter().zip(kept);
    paths.filter_map(|(entry, kept)| (!kept).then_some(entry.hash)).collect()
}

/// What of these NAR files may go now.
#[must_use]
pub fn confirmed_nars(
    snapshot: &Snapshot,
    known: &Known,
    condemned: &HashMap<NarFile, Timestamp>,
) -> Vec<NarFile> {
    let staged: HashSet<NarFile> = snapshot.objects().iter().filter_map(staged_nar).collect();
    let may_go = snapshot.orphans().filter(|nar| {
        condemned.get(&nar.file) == Some(&nar.written)
            && !known.held.nars.contains(&nar.file)
            && !staged.contains(&nar.file)
    });
    may_go.map(|nar| nar.file).collect()
}

/// Marks what pins and leases reach, and what those paths reach that are roots for another reason.
fn kept(snapshot: &Snapshot, known: &Known, is_root: impl Fn(usize) -> bool) -> Vec<bool> {
    let named = known.pinned.iter().chain(&known.held.paths);
    let named = named.filter_map(|path| snapshot.position(path));
    let others = (0..snapshot.paths().len()).filter(|position| is_root(*position));
    let mut kept = vec![false; snapshot.paths().len()];
    snapshot.reach(named.chain(others), &mut kept);
    kept
}

/// How many paths need each NAR file, and the bytes of all that is needed.
struct Needs {
    by_nar: Vec<u32>,
    size: u64,
}

impl Needs {
    fn of(snapshot: &Snapshot) -> Self {
        let by_nar = snapshot.needs();
        let needed = snapshot.nars().iter().zip(&by_nar).filter(|(_, needed)| **needed > 0);
        let paths: u64 = snapshot.paths().iter().map(|entry| entry.size).sum();
        let size = paths + needed.map(|(nar, _)| nar.size).sum::<u64>();
        Self { by_nar, size }
    }

    fn without(&mut self, snapshot: &Snapshot, position: usize) {
        let entry = &snapshot.paths()[position];
        self.size -= entry.size;
        if let Some(nar) = entry.nar.and_then(|nar| snapshot.nar_position(&nar)) {
            self.by_nar[nar] -= 1;
            if self.by_nar[nar] == 0 {
                self.size -= snapshot.nars()[nar].size;
            }
        }
    }
}

/// What is left to plan when the paths are.
struct Rest<'a> {
    snapshot: &'a Snapshot,
    known: &'a Known,
    policy: &'a Policy,
    now: Timestamp,
    /// By a path's place: whether it stays.
    stays: &'a [bool],
}

impl Rest<'_> {
    fn is_young(&self, written: Timestamp) -> bool {
        written > before(self.now, self.policy.grace)
    }

    fn has_path(&self, path: &StorePathHash) -> bool {
        self.snapshot.position(path).is_some_and(|position| self.stays[position])
    }

    /// NARs that nothing needs. Those of paths that go in this plan are not among them: they are noted
    /// when these go.
    fn nars(&self, plan: &mut Plan) {
        let young = self.snapshot.objects().iter().filter(|object| self.is_young(object.written));
        let staged: HashSet<NarFile> = young.filter_map(staged_nar).collect();
        for nar in self.snapshot.orphans() {
            let spared = self.is_young(nar.written)
                || self.known.held.nars.contains(&nar.file)
                || staged.contains(&nar.file);
            match self.known.orphans.get(&nar.file) {
                _ if spared => {}
                None => plan.orphans.push(nar.file),
                Some(since) if after(*since, self.policy.grace) <= self.now => {
                    plan.nars.push(Removal {
                        what: What::Nar(nar.file),
                        size: nar.size,
                        written: nar.written,
                        reason: Reason::NotNeeded(*since),
                    });
                }
                Some(_) => {}
            }
        }
    }

    fn objects(&self, plan: &mut Plan) {
        let derivers: HashSet<StorePathHash> = {
            let staying = self.snapshot.paths().iter().zip(self.stays);
            staying.filter(|(_, stays)| **stays).filter_map(|(entry, _)| entry.deriver).collect()
        };
        for object in self.snapshot.objects().iter().filter(|object| !self.is_young(object.written))
        {
            let is_needed = match object.kind {
                ObjectKind::Listing(path) | ObjectKind::Realisation(Some(path)) => {
                    self.has_path(&path)
                }
                ObjectKind::Debuginfo(Some(nar)) => self.snapshot.nar(&nar).is_some(),
                ObjectKind::Log(derivation) => {
                    let too_old = |age| object.written < before(self.now, age);
                    derivers.contains(&derivation) || !self.policy.max_age.is_some_and(too_old)
                }
                ObjectKind::Staged(nar) => self.known.held.nars.contains(&nar),
                ObjectKind::Draft => false,
                // Nobody can say what it is for.
                ObjectKind::Realisation(None)
                | ObjectKind::Debuginfo(None)
                | ObjectKind::Foreign => true,
            };
            if !is_needed {
                let reason = match object.kind {
                    ObjectKind::Staged(_) | ObjectKind::Draft => Reason::BrokenOff(object.written),
                    _ => Reason::NotNeeded(object.written),
                };
                plan.objects.push(Removal {
                    what: What::Object(object.key.clone(), object.kind),
                    size: object.size,
                    written: object.written,
                    reason,
                });
            }
        }
    }
}

fn staged_nar(object: &ObjectEntry) -> Option<NarFile> {
    match object.kind {
        ObjectKind::Staged(nar) => Some(nar),
        _ => None,
    }
}
