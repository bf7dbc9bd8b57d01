//! What to realise next, after what became of the rounds before. Pure.
//!
//! What died of memory is tried again by itself, when everything that does not wait for it is done: with half the jobs,
//! then with one job and one core, and at last alone; what died on another machine, alone at once. What failed of the network or a full disk is tried
//! again as it was. What failed of itself is not, nor what cannot be without it. Where Nix broke off, each host is
//! realised by itself. Each of these is bounded, so that a night comes to an end.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use larder_formats::store_path::StorePath;

use super::Limits;
use crate::ledger::FailureKind;

/// How long to wait before each further try after a failure of the network or the disk.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// How often a run collects garbage to have room again.
const COLLECTIONS: u32 = 3;

/// A host, by its place among those to realise.
pub(super) type Host = usize;

/// What a run of Nix is to realise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// These hosts' systems.
    Hosts(BTreeSet<Host>),
    /// These derivations.
    Only(BTreeSet<StorePath>),
}

impl Default for What {
    fn default() -> Self {
        Self::Hosts(BTreeSet::new())
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Run Nix.
    Realise(Round),
    /// Collect garbage.
    Collect,
    /// Nothing.
    Done,
}

/// A run of Nix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    pub what: What,
    pub limits: Limits,
    /// To be waited for before.
    pub pause: Duration,
    /// What is tried again, and what it failed of.
    pub again: BTreeMap<StorePath, FailureKind>,
}

/// A round that goes before all others, and the hosts that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub round: Round,
    pub hosts: BTreeSet<Host>,
}

/// What ended a run of Nix before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The night is over.
    Deadline,
    /// A host took too long.
    Host(Host),
    /// There is this much room left on the disk.
    Disk(u64),
}

/// How a run of Nix ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended {
    /// What failed, of what, and the hosts that need it.
    pub failed: BTreeMap<StorePath, (FailureKind, BTreeSet<Host>)>,
    /// The hosts whose systems are there now.
    pub hosts: BTreeSet<Host>,
    /// Those of the derivations it was for that are there now.
    pub derivations: BTreeSet<StorePath>,
    /// What other machines built.
    pub remote: BTreeSet<StorePath>,
    /// Whether something could not be downloaded.
    pub lacks_downloads: bool,
    /// Whether Nix itself was killed.
    pub nix_was_killed: bool,
    pub stop: Option<Stop>,
}

/// What was tried so far.
#[derive(Debug)]
pub(super) struct Rounds {
    limits: Limits,
    /// The limits after each death of memory.
    ladder: Vec<Limits>,
    /// Done before everything else.
    first: VecDeque<First>,
    /// The one of them that is being done.
    doing: Option<First>,
    /// Hosts that may still come to be.
    open: BTreeSet<Host>,
    /// Those among them that are to be tried.
    pending: BTreeSet<Host>,
    /// What died of memory and is to be tried again, and the hosts that need it.
    waiting: BTreeMap<StorePath, BTreeSet<Host>>,
    deaths: BTreeMap<StorePath, usize>,
    died_inferred: BTreeMap<StorePath, bool>,
    transient: BTreeMap<StorePath, usize>,
    /// To be tried again as it was, by the next round of hosts.
    again: BTreeSet<StorePath>,
    runs_killed: usize,
    runs_lacking: usize,
    /// Hosts are realised one by one: a run of all of them came to no end for some.
    one_by_one: bool,
    collections: u32,
    is_full: bool,
    is_over: bool,
}

impl Rounds {
    /// So many hosts, after these rounds.
    pub(super) fn new(limits: Limits, hosts: usize, first: VecDeque<First>) -> Self {
        Self {
            limits,
            ladder: ladder(limits),
            first,
            doing: None,
            open: (0..hosts).collect(),
            pending: (0..hosts).collect(),
            waiting: BTreeMap::new(),
            deaths: BTreeMap::new(),
            died_inferred: BTreeMap::new(),
            transient: BTreeMap::new(),
            again: BTreeSet::new(),
            runs_killed: 0,
            runs_lacking: 0,
            one_by_one: false,
            collections: 0,
            is_full: false,
            is_over: false,
        }
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Step {
        if self.is_over || self.open.is_empty() {
            return Step::Done;
        }
        if self.is_full {
            return Step::Collect;
        }
        let round = self.first().or_else(|| self.hosts());
        let round = round.or_else(|| self.together()).or_else(|| self.alone());
        round.map_or(Step::Done, Step::Realise)
    }

    /// The next of those that go before all others, unless none of its hosts can come to be, or each waits for what died.
    fn first(&mut self) -> Option<Round> {
        let open = &self.open;
        self.first.retain(|first| !first.hosts.is_disjoint(open));
        let goes =
            |first: &First| first.hosts.intersection(&self.open).any(|host| !self.waits(*host));
        let place = self.first.iter().position(goes)?;
        self.doing = self.first.remove(place);
        let round = self.doing.as_ref().map(|first| first.round.clone())?;
        Some(match round.what {
            What::Hosts(hosts) => {
                let these = hosts.intersection(&self.open).filter(|host| !self.waits(**host));
                Round { what: What::Hosts(these.copied().collect()), ..round }
            }
            What::Only(_) => round,
        })
    }

    /// Whether a host needs what died of memory and is to be tried again.
    fn waits(&self, host: Host) -> bool {
        self.waiting.values().any(|hosts| hosts.contains(&host))
    }

    /// What died of memory and is not at the end of its ladder yet, those with the fewest deaths first.
    fn together(&self) -> Option<Round> {
        let deaths = |path: &StorePath| self.deaths.get(path).copied().unwrap_or(1);
        let rungs = self.waiting.keys().map(deaths).filter(|deaths| *deaths < self.ladder.len());
        let rung = rungs.min()?;
        let these = self.waiting.keys().filter(|path| deaths(path) == rung).cloned().collect();
        Some(self.of_ladder(these, rung))
    }

    fn alone(&self) -> Option<Round> {
        let one = self.waiting.keys().next()?;
        Some(self.of_ladder([one.clone()].into(), self.ladder.len()))
    }

    fn of_ladder(&self, these: BTreeSet<StorePath>, rung: usize) -> Round {
        let limits = rung.checked_sub(1).and_then(|rung| self.ladder.get(rung)).copied();
        let kind = |path: &StorePath| {
            let inferred = self.died_inferred.get(path).copied().unwrap_or(true);
            (path.clone(), FailureKind::Memory { inferred })
        };
        Round {
            again: these.iter().map(kind).collect(),
            what: What::Only(these),
            limits: limits.unwrap_or(self.limits),
            pause: Duration::ZERO,
        }
    }

    /// The hosts that are to be tried and wait for nothing that died.
    fn hosts(&mut self) -> Option<Round> {
        let these = self.pending.intersection(&self.open).filter(|host| !self.waits(**host));
        let at_once = if self.one_by_one { 1 } else { usize::MAX };
        let these: BTreeSet<Host> = these.take(at_once).copied().collect();
        if these.is_empty() {
            return None;
        }
        let tries = self.again.iter().filter_map(|path| self.transient.get(path));
        let tries = tries.copied().max().unwrap_or(0).max(self.runs_lacking);
        let pause = tries.checked_sub(1).and_then(|tries| PAUSES.get(tries)).copied();
        // After Nix itself was killed, everything is to take less.
        let killed = self.runs_killed.checked_sub(1).and_then(|rung| self.ladder.get(rung));
        let again = std::mem::take(&mut self.again).into_iter();
        Some(Round {
            what: What::Hosts(these),
            limits: killed.copied().unwrap_or(self.limits),
            pause: pause.unwrap_or_default(),
            again: again.map(|path| (path, FailureKind::Transient)).collect(),
        })
    }

    /// What became of a round.
    pub(super) fn learn(&mut self, round: &Round, ended: &Ended) {
        if let Some(first) = self.doing.take().filter(|_| ended.stop.is_some()) {
            self.first.push_front(first);
        }
        self.open.retain(|host| !ended.hosts.contains(host));
        self.waiting.retain(|path, hosts| {
            let is_there = ended.derivations.contains(path);
            if is_there {
                self.pending.extend(hosts.iter());
            }
            !is_there
        });
        let tried: BTreeSet<Host> = match &round.what {
            What::Hosts(hosts) => hosts.clone(),
            What::Only(_) => BTreeSet::new(),
        };
        self.pending.retain(|host| !tried.contains(host));
        // What dies alone has nothing left to be tried with; on another machine, only that helps.
        let least = self.ladder.last() == Some(&round.limits);
        let was_alone = least && matches!(&round.what, What::Only(these) if these.len() == 1);
        for (path, (kind, hosts)) in &ended.failed {
            let skipped = match ended.remote.contains(path) {
                _ if was_alone => self.ladder.len(),
                true => self.ladder.len() - 1,
                false => 0,
            };
            if matches!(kind, FailureKind::Memory { .. }) && skipped > 0 {
                let deaths = self.deaths.entry(path.clone()).or_default();
                *deaths = (*deaths).max(skipped);
            }
            self.failed(path, *kind, hosts);
        }
        if let Some(stop) = &ended.stop {
            self.pending.extend(&tried);
            return self.stopped(stop);
        }
        if let What::Only(these) = &round.what {
            // Neither there nor failed: something it needs is gone, or Nix is.
            for path in these.difference(&ended.derivations) {
                if let Some(hosts) = self.waiting.get(path).cloned()
                    && !ended.failed.contains_key(path)
                {
                    self.failed(path, FailureKind::Memory { inferred: true }, &hosts);
                }
            }
        } else if ended.nix_was_killed {
            self.runs_killed += 1;
            if self.runs_killed <= self.ladder.len() {
                self.pending.extend(&tried);
            }
        } else if ended.lacks_downloads {
            self.runs_lacking += 1;
            if self.runs_lacking <= PAUSES.len() {
                self.pending.extend(&tried);
            }
        } else {
            self.broke_off(&tried);
        }
    }

    /// Hosts that are not there, and for which nothing failed: Nix ends before its time when there is nobody left who
    /// builds for a system (to 2.29), or with its daemon. By itself, each that can come to be does.
    fn broke_off(&mut self, tried: &BTreeSet<Host>) {
        let left = tried.intersection(&self.open).filter(|host| !self.waits(**host));
        let left: BTreeSet<Host> = left.copied().collect();
        if !self.one_by_one && !left.is_subset(&self.pending) {
            self.one_by_one = true;
            self.pending.extend(left);
        }
    }

    fn failed(&mut self, path: &StorePath, kind: FailureKind, hosts: &BTreeSet<Host>) {
        let (count, most) = match kind {
            FailureKind::Memory { inferred } => {
                self.died_inferred.insert(path.clone(), inferred);
                (self.deaths.entry(path.clone()).or_default(), self.ladder.len())
            }
            FailureKind::Transient => {
                (self.transient.entry(path.clone()).or_default(), PAUSES.len())
            }
            FailureKind::Itself | FailureKind::TimedOut => return self.give_up(path, hosts),
        };
        *count += 1;
        if *count > most {
            return self.give_up(path, hosts);
        }
        if kind == FailureKind::Transient {
            // Should it have died before, it is no longer what is waited for.
            self.waiting.remove(path);
            self.again.insert(path.clone());
            self.pending.extend(hosts);
        } else {
            self.waiting.insert(path.clone(), hosts.clone());
        }
    }

    /// None of the hosts that need it can come to be.
    fn give_up(&mut self, path: &StorePath, hosts: &BTreeSet<Host>) {
        self.waiting.remove(path);
        self.open.retain(|host| !hosts.contains(host));
        // What only those need is not waited for, either.
        let open = &self.open;
        self.waiting.retain(|_, hosts| hosts.iter().any(|host| open.contains(host)));
    }

    fn stopped(&mut self, stop: &Stop) {
        match stop {
            Stop::Deadline => self.end(),
            Stop::Host(host) => self.leave_out(*host),
            Stop::Disk(_) => self.is_full = true,
        }
    }

    /// A host is not to be tried any more.
    pub(super) fn leave_out(&mut self, host: Host) {
        self.open.remove(&host);
        let open = &self.open;
        self.waiting.retain(|_, hosts| hosts.iter().any(|host| open.contains(host)));
    }

    /// Nothing more is to be tried.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// Garbage was collected. Says whether the run goes on: it does not without room, nor for ever.
    pub(super) fn collected(&mut self, has_room: bool) -> bool {
        self.collections += 1;
        self.is_full = false;
        self.is_over = !has_room || self.collections >= COLLECTIONS;
        !self.is_over
    }

    /// Whether hosts are realised one by one from now on.
    pub(super) fn is_one_by_one(&self) -> bool {
        self.one_by_one
    }

    /// The hosts that may still come to be.
    pub(super) fn open(&self) -> &BTreeSet<Host> {
        &self.open
    }
}

/// The limits after each death: half the jobs; one job and one core; and the same alone.
fn ladder(configured: Limits) -> Vec<Limits> {
    let half = Limits { max_jobs: configured.max_jobs / 2, ..configured };
    // None at all stays none: then only other machines build.
    let least = Limits { max_jobs: configured.max_jobs.min(1), cores: 1 };
    let together = [half, least].into_iter().filter(|limits| {
        *limits != configured && limits.max_jobs.min(1) == configured.max_jobs.min(1)
    });
    let mut ladder: Vec<Limits> = together.collect();
    ladder.push(least);
    ladder
}

#[cfg(test)]
mod tests;
