//! The search for the updates to leave out, against worlds that answer at once.

use std::collections::BTreeSet;

use larder_fleet::{
    host::HostName,
    night::{Assessment, Hold, Search, Step},
};
use proptest::prelude::*;

/// Something that holds of a host (by its number) with these inputs held.
type Claim = Box<dyn Fn(&Hold, usize) -> bool>;

/// Which hosts fail with which inputs held. A host may fail for combinations, in no order whatever.
struct World {
    inputs: Vec<String>,
    hosts: Vec<HostName>,
    fails: Claim,
    /// Whether evaluating tells that, or only building does.
    told: Claim,
}

/// What a search came to.
struct Searched {
    found: Option<Hold>,
    assessed: Vec<Hold>,
    tried: Vec<Hold>,
    search: Search,
}

fn host(index: usize) -> HostName {
    format!("host-{index}").parse().unwrap()
}

fn world(inputs: usize, hosts: usize, fails: impl Fn(&Hold, usize) -> bool + 'static) -> World {
    World {
        inputs: (0..inputs).map(|index| format!("i{index}")).collect(),
        hosts: (0..hosts).map(host).collect(),
        fails: Box::new(fails),
        told: Box::new(|_, _| true),
    }
}

fn holds(hold: &Hold, input: usize) -> bool {
    hold.contains(&format!("i{input}"))
}

impl World {
    fn search(&self, limit: u32) -> Searched {
        let broken: BTreeSet<_> = (0..self.hosts.len())
            .filter(|host| (self.fails)(&Hold::new(), *host))
            .map(|index| self.hosts[index].clone())
            .collect();
        let mut search = Search::new(self.inputs.iter().cloned().collect(), broken.clone(), limit);
        let (mut assessed, mut tried) = (Vec::new(), Vec::new());
        while let Some(step) = search.step() {
            match step {
                Step::Assess(hold) => {
                    let seems_good = |index: &usize| {
                        !((self.fails)(&hold, *index) && (self.told)(&hold, *index))
                    };
                    let fixed = (0..self.hosts.len()).filter(seems_good).map(host);
                    let fixed = fixed.filter(|host| broken.contains(host)).collect();
                    assessed.push(hold.clone());
                    search.assessed(hold, Assessment { fixed, builds: 0 });
                }
                Step::Try(hold) => {
                    let good = (0..self.hosts.len()).all(|host| !(self.fails)(&hold, host));
                    tried.push(hold.clone());
                    search.tried(hold, good);
                }
            }
        }
        Searched { found: search.found().cloned(), assessed, tried, search }
    }
}

#[test]
fn one_guilty_input_is_found_with_one_look_at_each_and_one_build() {
    let world = world(8, 3, |hold, host| host == 1 && !holds(hold, 5));
    let Searched { found, assessed, tried, search } = world.search(100);
    assert_eq!(found.unwrap(), Hold::from(["i5".to_owned()]));
    assert_eq!((assessed.len(), tried.len()), (8, 1));
    assert_eq!(search.broken_by("i5"), BTreeSet::from([host(1)]));
}

#[test]
fn a_guilty_input_for_each_of_two_hosts_is_the_first_pair_that_is_looked_at() {
    let guilty = [2, 6];
    let world = world(8, 2, move |hold, host| !holds(hold, guilty[host]));
    let Searched { found, assessed, tried, search } = world.search(100);
    assert_eq!(found.unwrap(), Hold::from(["i2".to_owned(), "i6".to_owned()]));
    assert_eq!((assessed.len(), tried.len()), (9, 1));
    assert_eq!(search.broken_by("i2"), BTreeSet::from([host(0)]));
    assert_eq!(search.broken_by("i6"), BTreeSet::from([host(1)]));
}

#[test]
fn of_two_inputs_that_do_not_go_together_the_one_with_fewer_builds_is_held() {
    let fails = |hold: &Hold| !holds(hold, 0) && !holds(hold, 1);
    let mut search = Search::new(
        ["i0".to_owned(), "i1".to_owned(), "i2".to_owned()].into(),
        [host(0)].into(),
        10,
    );
    while let Some(step) = search.step() {
        match step {
            Step::Assess(hold) => {
                let fixed = if fails(&hold) { BTreeSet::new() } else { [host(0)].into() };
                let builds = if holds(&hold, 0) { 70 } else { 3 };
                search.assessed(hold, Assessment { fixed, builds });
            }
            Step::Try(hold) => search.tried(hold, true),
        }
    }
    assert_eq!(search.found().unwrap(), &Hold::from(["i1".to_owned()]));
}

#[test]
fn what_seemed_good_and_fails_when_built_is_not_taken() {
    let mut world = world(3, 2, |hold, host| host == 0 && !holds(hold, 1));
    world.told = Box::new(|_, _| false);
    let Searched { found, tried, .. } = world.search(100);
    assert_eq!(found.unwrap(), Hold::from(["i1".to_owned()]));
    assert!((1..=3).contains(&tried.len()), "{tried:?}");
}

proptest! {
    /// Hosts fail or build for each set of held inputs as chance has it, but build when all are held.
    #[test]
    fn what_is_found_was_tried_is_the_largest_update_and_nothing_is_asked_twice(
        chance in proptest::collection::vec(any::<bool>(), 32),
        told in proptest::collection::vec(any::<bool>(), 32),
        limit in 0..40_u32,
    ) {
        let index = |hold: &Hold, host: usize| {
            let set = (0..4).filter(|input| holds(hold, *input)).map(|input| 1 << input).sum::<usize>();
            set * 2 + host
        };
        let mut world = world(4, 2, move |hold, host| {
            hold.len() < 4 && (chance[index(hold, host)] || (hold.is_empty() && host == 0))
        });
        world.told = Box::new(move |hold, host| told[index(hold, host)]);
        let Searched { found, assessed, tried, .. } = world.search(limit);
        let different: BTreeSet<_> = assessed.iter().collect();
        prop_assert_eq!(different.len(), assessed.len());
        prop_assert!(assessed.len() <= limit as usize);
        prop_assert!(tried.iter().all(|hold| assessed.contains(hold)));
        let good = |hold: &Hold| (0..2).all(|host| !(world.fails)(hold, host));
        if let Some(found) = &found {
            prop_assert!(good(found) && tried.last() == Some(found));
        }
        // With time for all of them, the largest set of updates is found, if there is one at all.
        if limit >= 14 {
            let all = (1..15_usize).map(|bits| {
                (0..4).filter(|n| bits & (1 << n) != 0).map(|n| format!("i{n}")).collect::<Hold>()
            });
            let best = all.filter(good).map(|hold| hold.len()).min();
            prop_assert_eq!(found.map(|hold| hold.len()), best);
        }
    }
}
