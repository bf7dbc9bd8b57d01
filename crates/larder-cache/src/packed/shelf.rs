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

#[cfg(test)]
mod tests {
    use larder_formats::hash::Sha256;
    use proptest::prelude::*;

    use super::{Kept, Key, NoRoom, Shelf};
    use crate::packed::recipe::Recipe;

    const LIMIT: u64 = 40 * 4096;

    fn kept(number: u8, size: u64) -> Kept {
        let nar = Sha256::of(&[number]);
        Kept { key: Key { nar, recipe: Recipe::of(3) }, size, hash: nar }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Keep(u8, u64),
        Take(u8),
        Forget(u8),
        Grow(u64),
        GiveBack,
        Compare(Vec<(u8, u64)>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (number, size) = (0..12_u8, 1..60_000_u64);
        prop_oneof![
            4 => (number.clone(), size.clone()).prop_map(|(number, size)| Step::Keep(number, size)),
            3 => number.clone().prop_map(Step::Take),
            1 => number.clone().prop_map(Step::Forget),
            2 => (1..30_u64).prop_map(|blocks| Step::Grow(blocks * 4096)),
            1 => Just(Step::GiveBack),
            1 => prop::collection::btree_map(number, size, 0..12)
                .prop_map(|there| Step::Compare(there.into_iter().collect())),
        ]
    }

    /// The same, simple and slow: the latest last.
    #[derive(Default)]
    struct Model {
        kept: Vec<Kept>,
        under_way: Vec<u64>,
    }

    impl Model {
        fn taken(&self) -> u64 {
            self.kept.iter().map(Kept::footprint).sum()
        }

        fn shrink(&mut self) -> Vec<Kept> {
            let mut gone = Vec::new();
            while self.taken() + self.under_way.iter().sum::<u64>() > LIMIT && !self.kept.is_empty()
            {
                gone.push(self.kept.remove(0));
            }
            gone
        }

        fn remove(&mut self, key: Key) -> Option<Kept> {
            let at = self.kept.iter().position(|kept| kept.key == key)?;
            Some(self.kept.remove(at))
        }

        fn keep(&mut self, it: Kept) -> Vec<Kept> {
            self.remove(it.key);
            self.kept.push(it);
            self.shrink()
        }
    }

    fn check(shelf: &mut Shelf, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Keep(number, size) => {
                let it = kept(number, size);
                prop_assert_eq!(shelf.keep(it), model.keep(it));
            }
            Step::Take(number) => {
                let key = kept(number, 0).key;
                let found = model.remove(key);
                model.kept.extend(found);
                prop_assert_eq!(shelf.take(key), found);
            }
            Step::Forget(number) => {
                let key = kept(number, 0).key;
                prop_assert_eq!(shelf.forget(key), model.remove(key));
            }
            Step::Grow(bytes) => {
                let all: u64 = model.under_way.iter().sum();
                let ever = bytes <= LIMIT / 2;
                if ever && all + bytes <= LIMIT {
                    model.under_way.push(bytes);
                    prop_assert_eq!(shelf.grow(0, bytes), Ok(model.shrink()));
                } else {
                    prop_assert_eq!(shelf.grow(0, bytes), Err(NoRoom { ever }));
                }
            }
            Step::GiveBack => shelf.give_back(model.under_way.pop().unwrap_or(0)),
            Step::Compare(there) => {
                let there: Vec<Kept> = there.into_iter().map(|(n, size)| kept(n, size)).collect();
                let gone = shelf.compare(&there);
                // In which order others' come is not said, but all that is left is there.
                for number in 0..12 {
                    if let Some(left) = shelf.look(kept(number, 0).key) {
                        prop_assert!(there.iter().any(|it| it.key == left.key));
                        prop_assert!(!gone.contains(&left));
                    }
                }
                model.kept = shelf.order.values().filter_map(|key| shelf.look(*key)).collect();
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_may_and_drops_the_least_recently_used(
            steps in prop::collection::vec(step(), 1..60)
        ) {
            let (mut shelf, mut model) = (Shelf::new(LIMIT), Model::default());
            for step in steps {
                check(&mut shelf, &mut model, step)?;
                prop_assert_eq!(shelf.taken(), model.taken());
                prop_assert_eq!(shelf.kept.len(), shelf.order.len());
                prop_assert!(shelf.taken() + shelf.under_way <= LIMIT);
            }
        }
    }
}
