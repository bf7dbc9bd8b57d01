//! Which updates to leave out, so that every host builds: the search, without Nix.
//!
//! Promise: of the sets of inputs that can be held, smaller ones come first, so that what is found leaves out as few
//! updates as can be, as long as the limit lasts; no set is asked for twice; and what is found was tried.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use itertools::Itertools;

use crate::host::HostName;

/// Inputs that stay as they were.
pub type Hold = BTreeSet<String>;

/// Sets of one size that are looked at. With so many inputs that there are more, the limit ends the search long before.
const MOST_OF_A_SIZE: usize = 4096;

/// What to find out next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Evaluate what broke with these inputs held.
    Assess(Hold),
    /// Build all hosts with these inputs held.
    Try(Hold),
}

/// What evaluating told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// The hosts among the broken ones that need nothing of which it is known that it fails.
    pub fixed: BTreeSet<HostName>,
    /// How many derivations have to be built to know.
    pub builds: usize,
}

/// The search for the inputs to hold.
#[derive(Clone, Debug)]
pub struct Search {
    inputs: BTreeSet<String>,
    broken: BTreeSet<HostName>,
    left: u32,
    size: usize,
    /// What is still to be assessed of this size: what promises most first, each batch to its end.
    batches: VecDeque<VecDeque<Hold>>,
    /// Assessed, and not tried yet, with the builds it takes.
    promising: Vec<(usize, Hold)>,
    fixed_alone: BTreeMap<String, BTreeSet<HostName>>,
    found: Option<Hold>,
}

impl Search {
    /// These inputs have moved, and these hosts build only without that. At most `limit` sets are assessed.
    #[must_use]
    pub fn new(inputs: BTreeSet<String>, broken: BTreeSet<HostName>, limit: u32) -> Self {
        Self {
            inputs,
            broken,
            left: limit,
            size: 0,
            batches: VecDeque::new(),
            promising: Vec::new(),
            fixed_alone: BTreeMap::new(),
            found: None,
        }
    }

    /// What to find out next; nothing when the search has come to its end.
    pub fn step(&mut self) -> Option<Step> {
        while self.found.is_none() {
            if self.left > 0
                && let Some(hold) = self.batches.front_mut().and_then(VecDeque::pop_front)
            {
                self.left -= 1;
                return Some(Step::Assess(hold));
            }
            let fewest = self.promising.iter().position_min_by_key(|(builds, _)| *builds);
            if let Some(fewest) = fewest {
                return Some(Step::Try(self.promising.swap_remove(fewest).1));
            }
            if self.left == 0 {
                return None;
            }
            self.batches.pop_front();
            if self.batches.is_empty() {
                self.size += 1;
                // To hold all is to have no update, which nobody need search for.
                if self.size >= self.inputs.len() {
                    return None;
                }
                self.batches = self.batches_of_size().into();
            }
        }
        None
    }

    /// Tells what evaluating told.
    pub fn assessed(&mut self, hold: Hold, assessment: Assessment) {
        if let (1, Some(input)) = (hold.len(), hold.first()) {
            self.fixed_alone.insert(input.clone(), assessment.fixed.clone());
        }
        if assessment.fixed.is_superset(&self.broken) {
            self.promising.push((assessment.builds, hold));
        }
    }

    /// Tells whether every host was built that should be.
    pub fn tried(&mut self, hold: Hold, good: bool) {
        if good {
            self.found = Some(hold);
        }
    }

    /// The inputs to hold, if the search has found them.
    #[must_use]
    pub fn found(&self) -> Option<&Hold> {
        self.found.as_ref()
    }

    /// The hosts that an input breaks, as far as is known.
    #[must_use]
    pub fn broken_by(&self, input: &str) -> BTreeSet<HostName> {
        match self.fixed_alone.get(input) {
            Some(fixed) if !fixed.is_empty() => fixed.clone(),
            _ => self.broken.clone(),
        }
    }

    /// Where each host has a guilty input of its own, these together are what is looked for: so such sets come before
    /// the rest.
    fn batches_of_size(&self) -> [VecDeque<Hold>; 2] {
        let sets = self.inputs.iter().cloned().combinations(self.size).take(MOST_OF_A_SIZE);
        let covers = |hold: &Hold| {
            let fixed = hold.iter().filter_map(|input| self.fixed_alone.get(input)).flatten();
            fixed.collect::<BTreeSet<_>>().len() == self.broken.len()
        };
        let (covering, rest) = sets.map(Hold::from_iter).partition(covers);
        [covering, rest]
    }
}
