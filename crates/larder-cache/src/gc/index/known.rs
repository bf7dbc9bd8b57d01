//! Which rows the index has, held in memory: to ask the file about each object of a listing would take longer than
//! to list.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use jiff::Timestamp;

use crate::storage::Object;

/// The rows of one table, by what they are about.
#[derive(Debug)]
pub(super) struct Known<K> {
    rows: HashMap<K, Row>,
    /// The number of the next row.
    next: i64,
}

/// A row, and the object as it was when the row was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub id: i64,
    pub size: u64,
    /// Microseconds since 1970.
    pub modified: i64,
    /// Whether no later change could bear the same time.
    pub settled: bool,
    /// The refresh that saw it last.
    pub seen: u32,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { rows: HashMap::new(), next: 1 }
    }
}

impl<K: Eq + Hash> Known<K> {
    /// Adds a row that is in the file. Says whether it is the first one about that.
    pub(super) fn add(&mut self, about: K, row: Row) -> bool {
        self.next = self.next.max(row.id + 1);
        self.rows.insert(about, row).is_none()
    }

    /// Whether an object's row still holds. If so, it was seen in this refresh.
    pub(super) fn holds<Q>(&mut self, about: &Q, object: &Object, refresh: u32) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(row) = self.rows.get_mut(about) else { return false };
        let modified = object.modified.as_microsecond();
        let holds = row.settled && row.size == object.size && row.modified == modified;
        if holds {
            row.seen = refresh;
        }
        holds
    }

    /// The row to be written about an object that was just read, in place of its former one if there is one.
    pub(super) fn next(
        &mut self,
        about: &K,
        object: &Object,
        (refresh, settled_before): Stamp,
    ) -> Row {
        let id = self.rows.get(about).map_or(self.next, |row| row.id);
        self.next = self.next.max(id + 1);
        Row {
            id,
            size: object.size,
            modified: object.modified.as_microsecond(),
            settled: object.modified < settled_before,
            seen: refresh,
        }
    }

    /// The rows that were not seen in this refresh.
    pub(super) fn unseen(&self, refresh: u32) -> Vec<i64> {
        let unseen = self.rows.values().filter(|row| row.seen < refresh);
        unseen.map(|row| row.id).collect()
    }

    /// Forgets those.
    pub(super) fn forget_unseen(&mut self, refresh: u32) {
        self.rows.retain(|_, row| row.seen >= refresh);
    }
}

/// A refresh, and the time before which what was changed will not change again and bear the same time.
pub(super) type Stamp = (u32, Timestamp);
