//! Which paths are the least useful.

use jiff::Timestamp;

use crate::gc::{plan::Known, snapshot::Snapshot};

/// Paths by place with the time of their last use, the least useful first. A path was used when it or
/// anything that needs it was; so a path comes before all that it refers to, and whatever is taken from the
/// front leaves the rest whole.
pub(super) fn by_use(
    snapshot: &Snapshot,
    known: &Known,
    now: Timestamp,
) -> Vec<(usize, Timestamp)> {
    let uses = inherited(snapshot, own_uses(snapshot, known, now));
    let ranks = ranks(snapshot);
    let mut order: Vec<(usize, Timestamp)> = uses.into_iter().enumerate().collect();
    order.sort_unstable_by_key(|(position, used)| (*used, ranks[*position]));
    order
}

/// When each path itself was used: asked for, its NAR read, or written. Nothing is used in the future.
fn own_uses(snapshot: &Snapshot, known: &Known, now: Timestamp) -> Vec<Timestamp> {
    let own = snapshot.paths().iter().map(|entry| {
        let recorded = known.uses.get(&entry.hash).copied();
        let accessed = entry.nar.and_then(|nar| snapshot.nar(&nar)?.accessed);
        let used = [recorded, accessed].into_iter().flatten().map(|used| used.min(now)).max();
        entry.written.min(now).max(used.unwrap_or(Timestamp::MIN))
    });
    own.collect()
}

/// The newest use of a path and of all that refers to it, however far.
fn inherited(snapshot: &Snapshot, own: Vec<Timestamp>) -> Vec<Timestamp> {
    let mut newest_first: Vec<usize> = (0..own.len()).collect();
    newest_first.sort_unstable_by_key(|position| std::cmp::Reverse(own[*position]));
    let mut uses: Vec<Option<Timestamp>> = vec![None; own.len()];
    let mut open = Vec::new();
    for start in newest_first {
        // Who was reached before was reached by something newer.
        open.push(start);
        while let Some(position) = open.pop() {
            if uses[position].is_none() {
                uses[position] = Some(own[start]);
                open.extend(snapshot.references(position).filter(|next| uses[*next].is_none()));
            }
        }
    }
    uses.into_iter().zip(own).map(|(used, own)| used.unwrap_or(own)).collect()
}

/// A number for each path that is lower than those of all its references. Circles, which only broken
/// narinfos can make, are cut somewhere.
pub(super) fn ranks(snapshot: &Snapshot) -> Vec<usize> {
    let count = snapshot.paths().len();
    let (mut ranks, mut next) = (vec![usize::MAX; count], count);
    let mut is_open = vec![false; count];
    let mut stack: Vec<(usize, bool)> = Vec::new();
    for start in 0..count {
        stack.push((start, false));
        while let Some((position, is_done)) = stack.pop() {
            if is_done {
                // All references have theirs.
                next -= 1;
                ranks[position] = next;
            } else if !is_open[position] {
                is_open[position] = true;
                stack.push((position, true));
                let references = snapshot.references(position).filter(|next| !is_open[*next]);
                stack.extend(references.map(|reference| (reference, false)));
            }
        }
    }
    ranks
}
