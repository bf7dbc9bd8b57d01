//! On worlds made at random: what can come to be does, nothing is built twice, and it ends.

use proptest::prelude::*;

use super::*;

/// What is the matter with a derivation.
#[derive(Clone, Copy, Debug)]
enum Nature {
    Good,
    Bad,
    /// Dies of memory with more jobs or cores than these; 0 jobs: always.
    Big {
        jobs: u32,
        one_core: bool,
    },
    /// Fails so often of the network.
    Flaky(usize),
}

#[derive(Clone, Debug)]
struct World {
    /// Each host's derivations.
    hosts: Vec<Vec<usize>>,
    natures: Vec<Nature>,
    /// What each derivation needs: some of those before it.
    needs: Vec<BTreeSet<usize>>,
    limits: Limits,
    /// Those that are known to be big.
    known: BTreeSet<usize>,
    /// Whether the first host goes first.
    has_first: bool,
    /// After so many derivations of a run of Nix, the disk is full.
    stops: Vec<usize>,
}

impl World {
    fn closure(&self, of: &[usize]) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = of.iter().copied().collect();
        for index in (0..self.natures.len()).rev() {
            if all.contains(&index) {
                all.extend(&self.needs[index]);
            }
        }
        all
    }

    fn needing(&self, index: usize) -> BTreeSet<Host> {
        let needs = |host: &Host| self.closure(&self.hosts[*host]).contains(&index);
        (0..self.hosts.len()).filter(needs).collect()
    }

    fn first(&self) -> VecDeque<First> {
        let mut first = VecDeque::new();
        for index in &self.known {
            let needs: BTreeSet<StorePath> = self.needs[*index].iter().copied().map(path).collect();
            let alone = Limits { max_jobs: 1, ..self.limits };
            for (these, limits) in [(needs, self.limits), ([path(*index)].into(), alone)] {
                let round = Round { what: What::Only(these), limits, ..Round::default() };
                first.push_back(First { round, hosts: self.needing(*index) });
            }
        }
        if self.has_first {
            let (what, limits) = (What::Hosts([0].into()), self.limits);
            let round = Round { what, limits, ..Round::default() };
            first.push_back(First { round, hosts: [0].into() });
        }
        first
    }
}

fn path(index: usize) -> StorePath {
    format!("{index:032}-x.drv").parse().unwrap()
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        6 => Just(Nature::Good),
        1 => Just(Nature::Bad),
        3 => (0..4_u32, any::<bool>()).prop_map(|(jobs, one_core)| Nature::Big { jobs, one_core }),
        2 => (1..5_usize).prop_map(Nature::Flaky),
    ]
}

fn worlds() -> impl Strategy<Value = World> {
    let limits = (1..6_u32, 0..4_u32).prop_map(|(max_jobs, cores)| Limits { max_jobs, cores });
    (prop::collection::vec(nature(), 1..12), limits).prop_flat_map(|(natures, limits)| {
        let count = natures.len();
        let some = prop::collection::vec(0..count, 0..6);
        let needs = prop::collection::vec(prop::collection::btree_set(0..count, 0..3), count);
        let known = prop::collection::btree_set(0..count, 0..3);
        let stops = prop::collection::vec(0..6_usize, 0..COLLECTIONS as usize);
        let hosts = prop::collection::vec(some, 1..5);
        (hosts, needs, known, any::<bool>(), stops).prop_map(
            move |(hosts, mut needs, known, has_first, stops)| {
                for (index, needs) in needs.iter_mut().enumerate() {
                    needs.retain(|need| *need < index);
                }
                let natures = natures.clone();
                World { hosts, natures, needs, limits, known, has_first, stops }
            },
        )
    })
}

/// Stands for Nix and the store.
struct Played {
    world: World,
    built: BTreeSet<usize>,
    tries: Vec<usize>,
    host_is_built: BTreeSet<Host>,
}

impl Played {
    fn new(world: World) -> Self {
        let tries = vec![0; world.natures.len()];
        Self { world, built: BTreeSet::new(), tries, host_is_built: BTreeSet::new() }
    }

    fn fits(&self, index: usize, limits: Limits) -> Result<(), FailureKind> {
        match self.world.natures[index] {
            Nature::Good => Ok(()),
            Nature::Bad => Err(FailureKind::Itself),
            Nature::Flaky(times) if self.tries[index] > times => Ok(()),
            Nature::Flaky(_) => Err(FailureKind::Transient),
            Nature::Big { jobs, one_core }
                if limits.max_jobs <= jobs && (!one_core || limits.cores == 1) =>
            {
                Ok(())
            }
            Nature::Big { .. } => Err(FailureKind::Memory { inferred: false }),
        }
    }

    fn run(&mut self, round: &Round) -> Ended {
        let wanted: Vec<usize> = match &round.what {
            What::Hosts(hosts) => {
                hosts.iter().flat_map(|host| self.world.hosts[*host].clone()).collect()
            }
            What::Only(these) => {
                (0..self.tries.len()).filter(|index| these.contains(&path(*index))).collect()
            }
        };
        let mut ended = Ended::default();
        let mut left = self.world.stops.last().copied();
        for index in self.world.closure(&wanted).difference(&self.built.clone()) {
            if !self.world.needs[*index].is_subset(&self.built) {
                continue;
            }
            if left == Some(0) {
                let _ = self.world.stops.pop();
                ended.stop = Some(Stop::Disk(1));
                break;
            }
            left = left.map(|left| left - 1);
            self.tries[*index] += 1;
            match self.fits(*index, round.limits) {
                Ok(()) => drop(self.built.insert(*index)),
                Err(kind) => {
                    drop(ended.failed.insert(path(*index), (kind, self.world.needing(*index))));
                }
            }
        }
        if let What::Hosts(hosts) = &round.what {
            let whole =
                |host: &&Host| self.world.hosts[**host].iter().all(|it| self.built.contains(it));
            self.host_is_built.extend(hosts.iter().filter(whole));
        }
        ended.hosts = self.host_is_built.clone();
        ended.derivations = self.built.iter().copied().map(path).collect();
        ended
    }
}

proptest! {
    #[test]
    fn what_can_come_to_be_does_and_nothing_is_tried_too_often(world in worlds()) {
        let mut rounds = Rounds::new(world.limits, world.hosts.len(), world.first());
        let mut played = Played::new(world.clone());
        for steps in 0.. {
            prop_assert!(steps < 200, "it does not end");
            let round = match rounds.next() {
                Step::Done => break,
                Step::Collect => {
                    prop_assert!(rounds.collected(true));
                    continue;
                }
                Step::Realise(round) => round,
            };
            prop_assert!(round.limits.max_jobs <= world.limits.max_jobs);
            prop_assert!(round.limits.max_jobs >= 1);
            let ended = played.run(&round);
            rounds.learn(&round, &ended);
        }
        for (index, nature) in world.natures.iter().enumerate() {
            let most = match nature {
                // Once it is there it is not wanted again; the sample does not try what is there.
                Nature::Good | Nature::Bad => 1,
                Nature::Big { .. } => 4,
                Nature::Flaky(_) => 3,
            };
            prop_assert!(played.tries[index] <= most, "{nature:?}: {} tries", played.tries[index]);
        }
        for (host, needs) in world.hosts.iter().enumerate() {
            let can = world.closure(needs).into_iter().all(|index| match world.natures[index] {
                Nature::Good => true,
                Nature::Bad => false,
                Nature::Big { jobs, .. } => jobs >= 1,
                Nature::Flaky(times) => times <= PAUSES.len(),
            });
            prop_assert_eq!(played.host_is_built.contains(&host), can, "host {}", host);
        }
    }
}

fn big() -> Ended {
    let failed = (FailureKind::Memory { inferred: false }, [0].into());
    Ended { failed: [(path(0), failed)].into(), ..Ended::default() }
}

fn round(step: Step) -> Round {
    match step {
        Step::Realise(round) => round,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_death_leads_to_half_the_jobs_and_then_to_one_after_everything_else() {
    let mut rounds = Rounds::new(Limits { max_jobs: 8, cores: 0 }, 2, VecDeque::new());
    let main = round(rounds.next());
    assert_eq!(main.what, What::Hosts([0, 1].into()));
    // The other host is not there either, for no reason of its own.
    let ended = Ended { lacks_downloads: true, ..big() };
    rounds.learn(&main, &ended);
    let others = round(rounds.next());
    assert_eq!((others.what.clone(), others.pause), (What::Hosts([1].into()), PAUSES[0]));
    rounds.learn(&others, &Ended { hosts: [1].into(), ..Ended::default() });
    let half = round(rounds.next());
    assert_eq!(half.what, What::Only([path(0)].into()));
    assert_eq!(half.limits, Limits { max_jobs: 4, cores: 0 });
    rounds.learn(&half, &big());
    let one = round(rounds.next());
    assert_eq!(one.limits, Limits { max_jobs: 1, cores: 1 });
    // It was alone already.
    rounds.learn(&one, &big());
    assert_eq!(rounds.next(), Step::Done);
}

#[test]
fn what_dies_in_the_company_of_others_is_at_last_alone() {
    let mut rounds = Rounds::new(Limits { max_jobs: 1, cores: 0 }, 2, VecDeque::new());
    let both = |kind| {
        let failed = |host| (path(host), (kind, [host].into()));
        Ended { failed: [failed(0), failed(1)].into(), ..Ended::default() }
    };
    let died = both(FailureKind::Memory { inferred: false });
    let mut tried = Vec::new();
    while let Step::Realise(round) = rounds.next() {
        tried.push(round.what.clone());
        match &round.what {
            What::Only(these) if these.len() == 1 => {
                let derivations = these.clone();
                rounds.learn(&round, &Ended { derivations, ..Ended::default() });
            }
            What::Hosts(hosts) if hosts.len() == 1 => {
                let hosts = hosts.clone();
                rounds.learn(&round, &Ended { hosts, ..Ended::default() });
            }
            _ => rounds.learn(&round, &died),
        }
    }
    let only = |all: &[usize]| What::Only(all.iter().copied().map(path).collect());
    let host = |host| What::Hosts([host].into());
    let all = What::Hosts([0, 1].into());
    assert_eq!(tried, [all, only(&[0, 1]), only(&[0]), host(0), only(&[1]), host(1)]);
}

#[test]
fn what_died_on_another_machine_is_only_tried_alone() {
    let mut rounds = Rounds::new(Limits { max_jobs: 4, cores: 4 }, 1, VecDeque::new());
    let main = round(rounds.next());
    rounds.learn(&main, &Ended { remote: [path(0)].into(), ..big() });
    let alone = round(rounds.next());
    assert_eq!(alone.limits, Limits { max_jobs: 1, cores: 1 });
    rounds.learn(&alone, &Ended { remote: [path(0)].into(), ..big() });
    assert_eq!(rounds.next(), Step::Done);
}

#[test]
fn limits_only_sink_and_none_stays_none() {
    let of = |max_jobs, cores| ladder(Limits { max_jobs, cores });
    let least = Limits { max_jobs: 1, cores: 1 };
    assert_eq!(of(4, 2), [Limits { max_jobs: 2, cores: 2 }, least, least]);
    assert_eq!(of(1, 0), [least, least]);
    assert_eq!(of(1, 1), [least]);
    let elsewhere = Limits { max_jobs: 0, cores: 1 };
    assert_eq!(of(0, 0), [elsewhere, elsewhere]);
}

#[test]
fn a_host_over_its_limit_is_left_out_and_a_full_disk_is_collected_on_at_most_three_times() {
    let mut rounds = Rounds::new(Limits { max_jobs: 1, cores: 0 }, 2, VecDeque::new());
    let main = round(rounds.next());
    rounds.learn(&main, &Ended { stop: Some(Stop::Host(0)), ..Ended::default() });
    let rest = round(rounds.next());
    assert_eq!(rest.what, What::Hosts([1].into()));
    for times in 1..=3 {
        rounds.learn(&rest, &Ended { stop: Some(Stop::Disk(1)), ..Ended::default() });
        assert_eq!(rounds.next(), Step::Collect);
        assert_eq!(rounds.collected(true), times < 3);
        if times < 3 {
            assert_eq!(round(rounds.next()).what, rest.what);
        }
    }
    assert_eq!(rounds.next(), Step::Done);
}

#[test]
fn nix_itself_killed_takes_the_whole_run_down_the_ladder() {
    let mut rounds = Rounds::new(Limits { max_jobs: 4, cores: 0 }, 1, VecDeque::new());
    let mut jobs = Vec::new();
    while let Step::Realise(round) = rounds.next() {
        jobs.push((round.limits.max_jobs, round.limits.cores));
        rounds.learn(&round, &Ended { nix_was_killed: true, ..Ended::default() });
    }
    assert_eq!(jobs, [(4, 0), (2, 0), (1, 1), (1, 1)]);
}

#[test]
fn where_nix_broke_off_each_host_is_tried_once_by_itself() {
    let mut rounds = Rounds::new(Limits { max_jobs: 4, cores: 0 }, 3, VecDeque::new());
    let mut tried = Vec::new();
    while let Step::Realise(round) = rounds.next() {
        let What::Hosts(hosts) = &round.what else { panic!("{round:?}") };
        tried.push(hosts.iter().copied().collect::<Vec<_>>());
        // Host 2 needs something that nobody builds.
        let hosts = if *hosts == [2].into() || hosts.len() > 1 { [].into() } else { hosts.clone() };
        rounds.learn(&round, &Ended { hosts, ..Ended::default() });
    }
    assert_eq!(tried, [vec![0, 1, 2], vec![0], vec![1], vec![2]]);
}
