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
    limits: Limits,
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
        let some = prop::collection::vec(0..natures.len(), 0..6);
        prop::collection::vec(some, 1..5).prop_map(move |hosts| World {
            hosts,
            natures: natures.clone(),
            limits,
        })
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
        let wanted: BTreeSet<usize> = match &round.what {
            What::Hosts(hosts) => {
                hosts.iter().flat_map(|host| self.world.hosts[*host].clone()).collect()
            }
            What::Only(these) => {
                (0..self.tries.len()).filter(|index| these.contains(&path(*index))).collect()
            }
        };
        let mut ended = Ended::default();
        for index in wanted.difference(&self.built.clone()) {
            self.tries[*index] += 1;
            match self.fits(*index, round.limits) {
                Ok(()) => drop(self.built.insert(*index)),
                Err(kind) => {
                    let needs = |host: &Host| self.world.hosts[*host].contains(index);
                    let hosts = (0..self.world.hosts.len()).filter(needs).collect();
                    ended.failed.insert(path(*index), (kind, hosts));
                }
            }
        }
        if let What::Hosts(hosts) = &round.what {
            let whole =
                |host: &&Host| self.world.hosts[**host].iter().all(|i| self.built.contains(i));
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
        let mut rounds = Rounds::new(world.limits, world.hosts.len(), VecDeque::new());
        let mut played = Played::new(world.clone());
        let mut steps = 0;
        while let Step::Realise(round) = rounds.next() {
            steps += 1;
            prop_assert!(steps < 200, "it does not end");
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
            let can = needs.iter().all(|index| match world.natures[*index] {
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
fn a_death_leads_to_half_the_jobs_then_to_one_and_then_to_being_alone_after_the_others() {
    let mut rounds = Rounds::new(Limits { max_jobs: 8, cores: 0 }, 2, VecDeque::new());
    let main = round(rounds.next());
    assert_eq!(main.what, What::Hosts([0, 1].into()));
    // The other host is not there either, for no reason of its own.
    let ended = Ended { lacks_downloads: true, ..big() };
    rounds.learn(&main, &ended);
    let half = round(rounds.next());
    assert_eq!(half.what, What::Only([path(0)].into()));
    assert_eq!(half.limits, Limits { max_jobs: 4, cores: 0 });
    rounds.learn(&half, &big());
    let one = round(rounds.next());
    assert_eq!(one.limits, Limits { max_jobs: 1, cores: 1 });
    rounds.learn(&one, &big());
    let others = round(rounds.next());
    assert_eq!((others.what.clone(), others.pause), (What::Hosts([1].into()), PAUSES[0]));
    rounds.learn(&others, &Ended { hosts: [1].into(), ..Ended::default() });
    let alone = round(rounds.next());
    assert_eq!((alone.what.clone(), alone.limits), (What::Only([path(0)].into()), one.limits));
    rounds.learn(&alone, &Ended { derivations: [path(0)].into(), ..Ended::default() });
    assert_eq!(round(rounds.next()).what, What::Hosts([0].into()));
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
