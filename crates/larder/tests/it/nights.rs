//! Many nights, one after the other: inputs are good, bad for one host, bad for all, bad for the moment, and good again;
//! runs are killed at any point. After each night, what is published is what a model says, and nothing was built twice
//! that need not be.
//!
//! Real Nix, real git, real processes. The model knows what each input's newest commit does, and not how Larder finds
//! out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use larder_testkit::{Nix, NixVersion};
use rustix::process::{Pid, Signal, kill_process};

use crate::build::parts::{PARTS, Parts, held};

/// Where no other number is asked for; `./dev nights` asks for a month.
const NIGHTS: usize = 8;

/// What a host is made of.
const HOSTS: [(&str, &[&str]); 3] =
    [("alpha", &["tools", "theme"]), ("beta", &["tools", "games"]), ("gamma", &["tools"])];

/// What a commit of an input does to the hosts that have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quality {
    Good,
    /// Its part fails, in every night.
    Fails,
    /// It cannot be evaluated.
    Throws,
    /// Its part fails as long as the network is down, unless it was built before.
    NeedsNetwork,
}

/// The commits of all inputs: in a lock, or the newest.
type Commits = BTreeMap<&'static str, String>;

struct Model {
    qualities: BTreeMap<String, Quality>,
    newest: Commits,
    locked: Commits,
    /// The inputs that the last lock held.
    held: BTreeSet<&'static str>,
    /// What each host was published with last, and in which night.
    published: BTreeMap<&'static str, (usize, Commits)>,
    /// Commits by what they log when their part is built, and those that were.
    names: BTreeMap<String, String>,
    built: BTreeSet<String>,
    network: bool,
}

/// Chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// How a host ends with a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Good,
    Lasting,
    Passing,
}

impl Model {
    fn of(parts: &Parts) -> Self {
        let newest: Commits = PARTS.iter().map(|name| (*name, parts.repo(name).rev())).collect();
        Self {
            qualities: newest.values().map(|commit| (commit.clone(), Quality::Good)).collect(),
            names: BTreeMap::new(),
            built: BTreeSet::new(),
            published: HOSTS.iter().map(|(host, _)| (*host, (0, newest.clone()))).collect(),
            held: BTreeSet::new(),
            locked: newest.clone(),
            newest,
            network: true,
        }
    }

    fn end(&self, host: &str, lock: &Commits) -> End {
        let (_, parts) = HOSTS.iter().find(|(name, _)| *name == host).unwrap();
        let quality = |part: &&&str| (self.qualities[&lock[**part]], &lock[**part]);
        let of_part = |(quality, commit): (Quality, &String)| match quality {
            Quality::Fails | Quality::Throws => End::Lasting,
            Quality::NeedsNetwork if !self.network && !self.built.contains(commit) => End::Passing,
            Quality::Good | Quality::NeedsNetwork => End::Good,
        };
        let ends: Vec<End> = parts.iter().map(|part| of_part(quality(&part))).collect();
        match () {
            () if ends.contains(&End::Lasting) => End::Lasting,
            () if ends.contains(&End::Passing) => End::Passing,
            () => End::Good,
        }
    }

    /// The inputs that are to be held, and the lock that is to be published.
    fn settle(&self) -> (BTreeSet<&'static str>, Commits) {
        let everything = || (BTreeSet::new(), self.newest.clone());
        // Where nothing can be told, all stays as it was.
        let undecided = || (self.held.clone(), self.locked.clone());
        let mut broken = BTreeSet::new();
        for host in self.ending(&self.newest, End::Lasting) {
            let before = &self.published[host].1;
            match self.end(host, before) {
                _ if before == &self.newest => {}
                End::Good => drop(broken.insert(host)),
                End::Passing => return undecided(),
                End::Lasting => {}
            }
        }
        let Some(oldest) = broken.iter().min_by_key(|host| self.published[*host].0) else {
            return everything();
        };
        let old = &self.published[oldest].1;
        let moved = |from: &Commits| -> BTreeSet<&'static str> {
            PARTS.into_iter().filter(|part| self.newest[*part] != from[*part]).collect()
        };
        let is_guilty = |part: &&str| {
            let quality = self.qualities[&self.newest[*part]];
            let bad = [Quality::Fails, Quality::Throws].contains(&quality);
            bad && HOSTS.iter().any(|(host, parts)| broken.contains(host) && parts.contains(part))
        };
        let held: BTreeSet<&str> = moved(old).into_iter().filter(is_guilty).collect();
        let mut lock = self.newest.clone();
        lock.extend(held.iter().map(|part| (*part, old[part].clone())));
        let wanted: BTreeSet<&str> =
            self.ending(&self.newest, End::Good).union(&broken).copied().collect();
        let is_good = wanted.is_subset(&self.ending(&lock, End::Good));
        let is_passing = !wanted.is_disjoint(&self.ending(&lock, End::Passing));
        if held == moved(old) && (old == &self.locked || !(is_good || is_passing)) {
            return (moved(&self.locked), self.locked.clone());
        }
        if is_good { (held, lock) } else { undecided() }
    }

    /// The hosts that end so with a lock.
    fn ending(&self, lock: &Commits, end: End) -> BTreeSet<&'static str> {
        let hosts = HOSTS.iter().map(|(host, _)| *host);
        hosts.filter(|host| self.end(host, lock) == end).collect()
    }

    /// What is published after a night.
    fn night(&mut self, night: usize) -> BTreeSet<&'static str> {
        let (held, lock) = self.settle();
        let good = self.ending(&lock, End::Good);
        self.published.extend(good.iter().map(|host| (*host, (night, lock.clone()))));
        if !good.is_empty() {
            self.locked = lock;
            self.held.clone_from(&held);
        }
        held
    }

    /// Takes note of what came over the network and is there.
    fn note_fetched(&mut self, parts: &Parts) {
        let fetched = fs::read_to_string(parts.server.gate().join("fetched")).unwrap_or_default();
        let there = valid(parts);
        let fetched = fetched.lines().filter_map(|line| line.split_once(' '));
        let fetched = fetched.filter(|(_, output)| there.contains(*output));
        self.built = fetched.map(|(name, _)| self.names[name].clone()).collect();
    }
}

/// Moves inputs, or mends and breaks them, as chance has it.
fn day(parts: &Parts, model: &mut Model, chance: &mut Chance, night: usize) {
    for input in PARTS {
        let is_bad = model.qualities[&model.newest[input]] != Quality::Good;
        if !chance.one_in(if is_bad { 2 } else { 3 }) {
            continue;
        }
        let (quality, script) = match chance.below(10) {
            0..=1 => (Quality::Fails, format!("echo broken {night} >&2; exit 1")),
            2 => (Quality::Throws, "throws".to_owned()),
            3..=4 => (
                Quality::NeedsNetwork,
                NEEDS_NETWORK.replace("@name@", &format!("{input}-{night}")),
            ),
            _ => (Quality::Good, format!("echo {night}")),
        };
        let commit = parts.set(input, &script);
        model.qualities.insert(commit.clone(), quality);
        model.names.insert(format!("{input}-{night}"), commit.clone());
        model.newest.insert(input, commit);
    }
    model.network = !chance.one_in(4);
    let down = parts.server.gate().join("down");
    match model.network {
        true => drop(fs::remove_file(down)),
        false => fs::write(down, "").unwrap(),
    }
}

const NEEDS_NETWORK: &str = "if [ -e $gate/down ]; then echo 'Could not resolve host' >&2; exit 1; fi; echo @name@ $out >> $gate/fetched";

/// Kills a run at some point, once or more, as often as chance has it; sometimes Nix with it.
fn crashes(parts: &Parts, chance: &mut Chance) -> usize {
    let mut crashes = 0;
    while chance.one_in(3) {
        crashes += 1;
        let mut running = parts.server.larder(&["build", "--update"]).spawn();
        std::thread::sleep(Duration::from_millis(chance.below(3000)));
        running.kill();
        if chance.one_in(2) {
            for (pid, _) in parts.server.processes() {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
    }
    crashes
}

#[expect(
    clippy::disallowed_methods,
    reason = "how many nights is asked of the test, not of the program"
)]
fn environment(name: &str, fallback: usize) -> usize {
    std::env::var(name).ok().map_or(fallback, |text| text.parse().unwrap())
}

#[test]
fn after_each_of_many_nights_what_is_published_is_what_should_be() {
    let seed = environment("LARDER_NIGHTS_SEED", 7);
    let (nights, mut chance) = (environment("LARDER_NIGHTS", NIGHTS), Chance(seed as u64));
    let version = [NixVersion::V2_8, NixVersion::V2_26, NixVersion::V2_34][seed % 3];
    let parts = Parts::new(version, "push-lock-to = \"main\"\nmax-jobs = 2");
    let mut model = Model::of(&parts);
    let _ = parts.outputs();
    for night in 1..=nights {
        day(&parts, &mut model, &mut chance, night);
        let there = valid(&parts);
        let crashes = crashes(&parts, &mut chance);
        let report = parts.night();
        let at = format!("night {night} of seed {seed}:\n{report:#}");
        let expected = model.night(night);
        let said = held(&report);
        assert_eq!(said, expected.iter().copied().collect::<Vec<_>>(), "{at}");
        for (host, _) in HOSTS {
            for part in PARTS {
                let expected = &model.published[host].1[part];
                assert_eq!(&parts.locked(host, part), expected, "{part} of {host}, {at}");
            }
            assert!(parts.server.store.is_valid(&parts.server.system(host)), "{at}");
        }
        let all_good = HOSTS.iter().all(|(host, _)| model.end(host, &model.locked) == End::Good);
        if all_good {
            for part in PARTS {
                assert_eq!(parts.at_home("main", part), model.locked[part], "{at}");
            }
        }
        let outputs = parts.outputs();
        for output in &outputs {
            assert!(!there.contains(output), "{output} was there, and was built again, {at}");
        }
        // What a killed run had just built may have to be built again.
        let different: BTreeSet<_> = outputs.iter().collect();
        assert!(crashes > 0 || different.len() == outputs.len(), "{outputs:#?} {at}");
        if chance.one_in(5) {
            parts.server.collect_garbage();
        }
        model.note_fetched(&parts);
    }
}

/// All store paths that are there.
fn valid(parts: &Parts) -> BTreeSet<String> {
    parts.server.store.nix(&["nix", "path-info", "--all"]).success().lines().into_iter().collect()
}
