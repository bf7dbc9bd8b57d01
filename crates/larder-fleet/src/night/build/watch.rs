//! Watching a run of Nix: the time, the disk, and what each build takes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32},
    time::Duration,
};

use larder_formats::store_path::StorePath;
use larder_nix::{
    database::Database,
    kernel_log::KernelLog,
    processes::{self, Names, Running},
};
use tokio::time::{Instant, sleep};

use super::rounds::{Host, Stop};
use crate::night::{
    guard::Guard,
    progress::{Notice, Observer},
};

/// How long is waited between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// And how many times as long as the last one took: a look at 400 processes was measured to take up to 160 ms (a
/// debug build, a busy machine), and looking is to take no more than a twentieth of one core.
const TIMES_A_LOOK: u32 = 20;

/// Numbers of processes that are remembered, for what the kernel says of them later.
const MOST_PROCESSES: usize = 100_000;

/// What is being built at this moment, as Nix tells.
#[derive(Debug, Default)]
pub(super) struct Now {
    names: Names,
    building: BTreeSet<StorePath>,
    remote: BTreeSet<StorePath>,
}

/// Passes on what Nix tells, and remembers what is being built.
pub(super) struct Listener<'a> {
    pub inner: &'a mut dyn Observer,
    pub database: &'a Database,
    pub now: Arc<Mutex<Now>>,
}

impl Observer for Listener<'_> {
    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::BuildStarted { derivation, machine } => {
                // Without its outputs, a build is known by its sandbox alone.
                let outputs = self.database.outputs(derivation).unwrap_or_default();
                let mut now = lock(&self.now);
                now.names.add(derivation, outputs.into_values());
                now.building.insert(derivation.clone());
                if !machine.is_empty() {
                    now.remote.insert(derivation.clone());
                }
            }
            Notice::BuildEnded(derivation) => {
                let mut now = lock(&self.now);
                now.building.remove(derivation);
                now.names.remove(derivation);
            }
            _ => {}
        }
        self.inner.notice(notice);
    }
}

/// Which derivations only one of the hosts needs, and for how long these were built.
#[derive(Debug, Default)]
pub(super) struct HostTimes {
    pub limit: Option<Duration>,
    pub own: BTreeMap<Host, BTreeSet<StorePath>>,
    pub spent: BTreeMap<Host, Duration>,
}

impl HostTimes {
    /// Whether a host has had more than it may.
    pub(super) fn is_over(&self, host: Host) -> bool {
        let spent = self.spent.get(&host);
        self.limit.zip(spent).is_some_and(|(limit, spent)| *spent > limit)
    }

    /// So much time has gone by while these were built. Names a host that has had more than it may.
    fn add(&mut self, time: Duration, building: &BTreeSet<StorePath>) -> Option<Host> {
        self.limit?;
        for (host, own) in &self.own {
            if !own.is_disjoint(building) {
                *self.spent.entry(*host).or_default() += time;
            }
        }
        self.own.keys().copied().find(|host| self.is_over(*host))
    }
}

/// What was seen of a run of Nix.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The most that each build took.
    pub peaks: BTreeMap<StorePath, u64>,
    /// The builds of which the kernel's log says that it killed a process.
    pub killed: BTreeSet<StorePath>,
}

/// Watches one run of Nix.
pub(super) struct Watch<'a> {
    pub guard: &'a Guard,
    /// Where the store is.
    pub store: PathBuf,
    pub now: Arc<Mutex<Now>>,
    /// The Nix that was started.
    pub started: Arc<AtomicU32>,
    pub times: &'a mut HostTimes,
    pub log: KernelLog,
    pub seen: Seen,
    processes: HashMap<u32, StorePath>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(guard: &'a Guard, store: PathBuf, times: &'a mut HostTimes) -> Self {
        Self {
            guard,
            store,
            now: Arc::default(),
            started: Arc::default(),
            times,
            log: KernelLog::open(),
            seen: Seen::default(),
            processes: HashMap::new(),
        }
    }

    /// Watches until something is a reason to stop. What was seen so far stays if this is dropped.
    pub(super) async fn until_stop(&mut self) -> Stop {
        let mut before = Instant::now();
        loop {
            if self.guard.is_over() {
                return Stop::Deadline;
            }
            if let Some(free) = free(&self.store)
                && free < self.guard.bounds().min_free_disk
            {
                return Stop::Disk(free);
            }
            let begin = Instant::now();
            self.look().await;
            let took = begin.elapsed();
            let building = lock(&self.now).building.clone();
            let over = self.times.add(before.elapsed(), &building);
            before = Instant::now();
            if let Some(host) = over {
                return Stop::Host(host);
            }
            sleep(EVERY.max(took * TIMES_A_LOOK)).await;
        }
    }

    /// Looks at what runs.
    async fn look(&mut self) {
        let Some(root) = self.guard.root(&self.started) else { return };
        let names = lock(&self.now).names.clone();
        let looking = tokio::task::spawn_blocking(move || processes::below(root, &names));
        let Ok(Running { builds, .. }) = looking.await else { return };
        for (build, taken) in builds {
            let peak = self.seen.peaks.entry(build.clone()).or_default();
            *peak = (*peak).max(taken.peak());
            if self.processes.len() < MOST_PROCESSES {
                let these = taken.processes.iter().map(|pid| (*pid, build.clone()));
                self.processes.extend(these);
            }
        }
        self.read_log();
    }

    /// Reads whom the kernel killed. To be done once more when Nix has ended.
    pub(super) fn read_log(&mut self) {
        for pid in self.log.victims() {
            if let Some(build) = self.processes.get(&pid) {
                self.seen.killed.insert(build.clone());
            }
        }
    }

    /// What other machines built.
    pub(super) fn remote(&self) -> BTreeSet<StorePath> {
        lock(&self.now).remote.clone()
    }
}

/// Bytes that are free there. Nothing, if the system does not say.
pub(super) fn free(folder: &std::path::Path) -> Option<u64> {
    let told = rustix::fs::statvfs(folder).ok()?;
    Some(told.f_bavail.saturating_mul(told.f_frsize))
}

fn lock(now: &Mutex<Now>) -> MutexGuard<'_, Now> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        format!("00000000000000000000000000000000-{name}").parse().unwrap()
    }

    #[test]
    fn a_hosts_time_runs_while_something_is_built_that_only_it_needs() {
        let second = Duration::from_secs(1);
        let mut times = HostTimes {
            limit: Some(2 * second),
            own: [(0, [path("kernel.drv")].into()), (1, [path("game.drv")].into())].into(),
            spent: BTreeMap::new(),
        };
        assert_eq!(times.add(9 * second, &[path("shared.drv")].into()), None);
        assert_eq!(times.add(2 * second, &[path("kernel.drv"), path("shared.drv")].into()), None);
        assert_eq!(times.add(second, &[path("game.drv")].into()), None);
        assert_eq!(times.add(second, &[path("kernel.drv")].into()), Some(0));
        times.limit = None;
        assert_eq!(times.add(9 * second, &[path("game.drv")].into()), None);
    }
}
