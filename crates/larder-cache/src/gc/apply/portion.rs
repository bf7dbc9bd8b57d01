//! The order in which some paths can be removed several at a time.

use std::collections::{HashMap, HashSet};

use larder_formats::store_path::StorePathHash;

use crate::gc::{
    plan::{Removal, What},
    snapshot::Snapshot,
};

/// Paths that may go, by level: whatever refers to a path is in a level before its own.
pub(super) struct Portion<'a> {
    /// Each with its place in the snapshot.
    pub levels: Vec<Vec<(&'a Removal, usize)>>,
    /// Those that are gone already.
    pub gone: usize,
    /// Those that may not go now.
    pub spared: usize,
}

impl<'a> Portion<'a> {
    /// `removals` are in an order in which they could be removed one after the other.
    pub(super) fn of(
        snapshot: &Snapshot,
        removals: &'a [Removal],
        confirmed: &HashSet<StorePathHash>,
    ) -> Self {
        let mut portion = Self { levels: Vec::new(), gone: 0, spared: 0 };
        let mut level_of: HashMap<usize, usize> = HashMap::new();
        for removal in removals {
            let What::Path(hash, _) = removal.what else { continue };
            let Some(position) = snapshot.position(&hash) else {
                portion.gone += 1;
                continue;
            };
            if !confirmed.contains(&hash) {
                portion.spared += 1;
                continue;
            }
            let level = level_of.get(&position).copied().unwrap_or(0);
            portion.add(level, (removal, position));
            for reference in snapshot.references(position) {
                let below = level_of.entry(reference).or_insert(0);
                *below = (*below).max(level + 1);
            }
        }
        portion
    }

    fn add(&mut self, level: usize, removal: (&'a Removal, usize)) {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        self.levels[level].push(removal);
    }
}
