//! How much room packed NARs take, and which of them goes first.
//!
//! Promise: what is kept and what is under way never takes more than the limit. Does no I/O and knows no clock: what
//! was used is put behind the rest.

use std::collections::{BTreeMap, HashMap};

use super::kept::{Kept, Key};

/// Of the limit, the part that a single NAR may take: one as large as all of it would drive out everything else, and
/// not be kept for long either.
const SHARE: u64 = 2;

/// The room, and what is in it.
#[derive(Debug)]
pub(super) struct Shelf {
    limit: u64,
    /// What those take that are under way.
    under_way: u64,
    /// What those take that are kept.
    taken: u64,
    kept: HashMap<Key, (u64, Kept)>,
    /// By last use, the latest last.
    order: BTreeMap<u64, Key>,
    uses: u64,
}

/// There is no room for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// Whether there may be some at another time.
    pub(super) ever: bool,
}

impl Shelf {
    pub(super) fn new(limit: u64) -> Self {
        let (kept, order) = (HashMap::new(), BTreeMap::new());
        Self { limit, under_way: 0, taken: 0, kept, order, uses: 0 }
    }

    /// What those take that are kept.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// What is known of a packed NAR, without using it.
    pub(super) fn look(&self, key: Key) -> Option<Kept> {
        self.kept.get(&key).map(|(_, kept)| *kept)
    }

    /// The same, and it is used.
    pub(super) fn take(&mut self, key: Key) -> Option<Kept> {
        let (used, kept) = self.kept.get_mut(&key)?;
        self.order.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.order.insert(self.uses, key);
        Some(*kept)
    }

    /// Makes one that is under way larger. What has to go for it is kept no more, and is for the caller to remove.
    pub(super) fn grow(&mut self, from: u64, to: u64) -> Result<Vec<Kept>, NoRoom> {
        let under_way = self.under_way.saturating_add(to.saturating_sub(from));
        let ever = to <= self.limit / SHARE;
        if !ever || under_way > self.limit {
            return Err(NoRoom { ever });
        }
        self.under_way = under_way;
        Ok(self.shrink())
    }

    /// Gives back what one took that was under way.
    pub(super) fn give_back(&mut self, taken: u64) {
        self.under_way = self.under_way.saturating_sub(taken);
    }

    /// Keeps one that lies there, and tells what has to go for it.
    pub(super) fn keep(&mut self, kept: Kept) -> Vec<Kept> {
        self.forget(kept.key);
        self.uses += 1;
        self.kept.insert(kept.key, (self.uses, kept));
        self.order.insert(self.uses, kept.key);
        self.taken += kept.footprint();
        self.shrink()
    }

    /// Keeps one no more.
    pub(super) fn forget(&mut self, key: Key) -> Option<Kept> {
        let (used, kept) = self.kept.remove(&key)?;
        self.order.remove(&used);
        self.taken = self.taken.saturating_sub(kept.footprint());
        Some(kept)
    }

    /// Knows what others put there or took away; tells what has to go.
    pub(super) fn compare(&mut self, there: &[Kept]) -> Vec<Kept> {
        let known: HashMap<Key, &Kept> = there.iter().map(|kept| (kept.key, kept)).collect();
        let missing: Vec<Key> =
            self.kept.keys().filter(|key| !known.contains_key(key)).copied().collect();
        for key in missing {
            self.forget(key);
        }
        let new: Vec<Kept> = known
            .into_iter()
            .filter(|(key, _)| !self.kept.contains_key(key))
            .map(|(_, kept)| *kept)
            .collect();
        new.into_iter().flat_map(|kept| self.keep(kept)).collect()
    }

    fn shrink(&mut self) -> Vec<Kept> {
        let mut gone = Vec::new();
        while self.taken + self.under_way > self.limit
            && let Some((_, key)) = self.order.first_key_value()
        {
            gone.extend(self.forget(*key));
        }
        gone
    }
}
