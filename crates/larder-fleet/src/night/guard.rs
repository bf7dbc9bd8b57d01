//! What a run may take of the machine, and what it was seen to take.
//!
//! The Nix that Larder starts is in a control group of ours, which holds it to the budget: that is all evaluation,
//! and without a daemon all building. A daemon's own group is only read: whose it is, limits it.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use larder_cache::words::size;
use larder_nix::{
    cgroup::{Group, Hierarchies, NoGroup, OwnGroup},
    command::{CancellationToken, CommandError, Invocation, Output},
    daemon,
    nix::Nix,
    processes::{self, Names},
    settings::Peer,
};
use tokio::time::Instant;

use super::progress::{Notice, Observer};
use crate::{
    host::HostName,
    ledger::{Measured, Peak, Remembered},
};

/// How often an evaluation's memory is looked at: it is one process, and short.
const OFTEN: Duration = Duration::from_millis(100);

/// What is said of an evaluation that somebody killed, and not the kernel in the run's own group.
pub(super) const KILLED: &str = "was killed, from which is inferred that there was no memory left";

/// What is said of a budget that cannot hold a daemon.
const NOT_OURS: &str = "nix-daemon builds, and its memory is not Larder's to limit: `memory` limits the evaluation and \
     plans the order of builds. `MemoryMax=` on nix-daemon.service limits these";

/// How much of the machine a run may take, beside its jobs and cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory, for everything together.
    pub memory: Option<u64>,
    /// Bytes that are to stay free where the store is.
    pub min_free_disk: u64,
    /// For the whole run.
    pub time_limit: Option<Duration>,
    /// For what only one host needs.
    pub host_time_limit: Option<Duration>,
    /// Hosts to be built before the others.
    pub first: Vec<HostName>,
}

/// Watches over one run.
#[derive(Debug)]
pub(crate) struct Guard {
    bounds: Bounds,
    deadline: Option<Instant>,
    /// The group of the Nix that we start, where there can be one.
    own: Option<OwnGroup>,
    /// Who builds, if not that Nix.
    daemon: Option<Daemon>,
    remembered: BTreeMap<String, Remembered>,
    measured: Mutex<BTreeMap<String, Peak>>,
    /// For how long was built what only this host needs, with whatever lock.
    spent: Mutex<BTreeMap<HostName, Duration>>,
    /// How many names for roots were given away.
    roots: AtomicU32,
}

/// The daemon, as far as it can be seen.
#[derive(Debug)]
struct Daemon {
    pid: Option<u32>,
    group: Option<Group>,
}

/// The bounds of a run ended something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exceeded {
    /// There was no memory left.
    #[error("{0}")]
    Memory(String),
    /// Nobody knows that there was.
    #[error("{0}")]
    Killed(String),
    /// The run's time was over.
    #[error("{0}")]
    Time(String),
}

impl Guard {
    /// Begins to watch. `remembered` are the peaks of the runs before.
    pub(crate) async fn begin(
        nix: &Nix,
        bounds: &Bounds,
        remembered: BTreeMap<String, Remembered>,
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) -> Self {
        let hierarchies = Hierarchies::find();
        let own = OwnGroup::create(&hierarchies, bounds.memory);
        let daemon = match nix.peer(cancel).await {
            Ok(Peer::Daemon(_)) => {
                let pid = daemon::pid(nix.layout()).await;
                let group = pid.and_then(|pid| hierarchies.of_service(pid));
                Some(Daemon { pid, group })
            }
            // Should that be wrong, Nix itself will say what it lacks.
            Ok(Peer::Itself) | Err(_) => None,
        };
        if bounds.memory.is_some() {
            if let Err(error) = &own {
                observer.notice(Notice::Message(&not_limited(error)));
            }
            if daemon.is_some() {
                observer.notice(Notice::Message(NOT_OURS));
            }
        }
        Self {
            bounds: bounds.clone(),
            deadline: bounds.time_limit.map(|limit| Instant::now() + limit),
            own: own.inspect_err(|error| tracing::debug!(%error, "no control group")).ok(),
            daemon,
            remembered,
            measured: Mutex::default(),
            spent: Mutex::default(),
            roots: AtomicU32::new(0),
        }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// When the night is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether it is.
    pub(super) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Waits until it is; for ever, where it has no end.
    pub(super) async fn over(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// For how long was built so far in this run what only this host needs.
    pub(super) fn spent(&self, host: &HostName) -> Duration {
        lock(&self.spent).get(host).copied().unwrap_or_default()
    }

    /// So long by now.
    pub(super) fn set_spent(&self, host: &HostName, spent: Duration) {
        lock(&self.spent).insert(host.clone(), spent);
    }

    /// What is said of a host that the end of the night left behind.
    pub(super) fn too_late(&self) -> String {
        let limit = self.bounds.time_limit.unwrap_or_default();
        format!(
            "the run's time was over ({}); what was built is kept, and the next run goes on from \
             there. `time-limit` under [build] gives it more",
            for_people(limit)
        )
    }

    /// A program that may be killed for want of memory before others, in the group of this run.
    pub(super) fn within(&self, invocation: Invocation) -> Invocation {
        let door: Option<PathBuf> = self.own.as_ref().map(OwnGroup::door);
        invocation.expendable(door.as_deref())
    }

    /// How many processes the kernel has killed so far where builds run, if it tells.
    pub(super) fn kills(&self) -> Option<u64> {
        match &self.daemon {
            None => self.own.as_ref()?.group().kills(),
            Some(daemon) => daemon.group.as_ref()?.kills(),
        }
    }

    /// The process below which everything is that is built, given the one that we started.
    pub(super) fn root(&self, started: &AtomicU32) -> Option<u32> {
        match &self.daemon {
            None => Some(started.load(Ordering::Relaxed)).filter(|started| *started != 0),
            Some(daemon) => daemon.pid,
        }
    }

    /// How builds that the kernel killed are known in this run, for people.
    pub(super) fn knows_by(&self) -> &'static str {
        match (&self.daemon, self.kills()) {
            (None, Some(_)) => "the kernel's counter of the run's control group",
            (Some(_), Some(_)) => "the kernel's counter of nix-daemon's control group",
            (_, None) => "what was said of it: no control group's counter can be read here",
        }
    }

    /// A name for roots that no other of this run have.
    pub(super) fn name_for_roots(&self) -> String {
        format!("kept-{}", self.roots.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a package is known to be too big for the budget to hold another beside it. One that died took more than was
    /// seen, nobody knows how much.
    pub(super) fn is_big(&self, package: &str) -> bool {
        let half = self.bounds.memory.map(|budget| budget / 2);
        let remembered = self.remembered.get(package);
        remembered.zip(half).is_some_and(|(it, half)| it.died || it.bytes > half)
    }

    /// Notes what something took.
    pub(super) fn measured(&self, name: &str, bytes: u64, how: Measured) {
        let mut measured = lock(&self.measured);
        let peak = Peak { name: name.to_owned(), bytes, how };
        let before = measured.entry(name.to_owned()).or_insert_with(|| peak.clone());
        if before.bytes < bytes {
            *before = peak;
        }
    }

    /// Everything that was measured, and what the whole run took.
    pub(super) fn peaks(&self) -> Vec<Peak> {
        let mut peaks: Vec<Peak> = lock(&self.measured).values().cloned().collect();
        if let Some(bytes) = self.own.as_ref().and_then(|own| own.group().peak()) {
            let name = "the whole run, with its cache of files".to_owned();
            peaks.push(Peak { name, bytes, how: Measured::Counted });
        }
        peaks
    }

    /// Evaluates a host, and notes what memory that takes. The outer error is a bound's.
    pub(super) async fn evaluate(
        &self,
        command: &Invocation,
        host: &HostName,
        cancel: &CancellationToken,
    ) -> Result<Result<Output, CommandError>, Exceeded> {
        match self.evaluate_once(command, host, cancel).await {
            // Whoever did it need not do it again.
            Err(Exceeded::Killed(_)) => self.evaluate_once(command, host, cancel).await,
            ended => ended,
        }
    }

    async fn evaluate_once(
        &self,
        command: &Invocation,
        host: &HostName,
        cancel: &CancellationToken,
    ) -> Result<Result<Output, CommandError>, Exceeded> {
        let started = Arc::new(AtomicU32::new(0));
        let command = self.within(command.clone()).tell_start(Arc::clone(&started));
        let kills = || self.own.as_ref()?.group().kills();
        let before = kills();
        let (stopped, mut most) = (cancel.child_token(), 0);
        let ended = {
            let running = command.run(&stopped, |_| ());
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => ended,
                () = self.sample(&started, &mut most) => {
                    stopped.cancel();
                    let _ = running.await;
                    return if cancel.is_cancelled() {
                        Ok(Err(CommandError::Cancelled { program: command.program() }))
                    } else {
                        Err(Exceeded::Time(self.too_late()))
                    };
                }
            }
        };
        let output = match ended {
            Err(error) => return Ok(Err(error)),
            Ok(output) => output,
        };
        let was_killed = output.finished.status.signal() == Some(9);
        let how = if was_killed { Measured::Died } else { Measured::Sampled };
        // One that was over before it was looked at says nothing.
        if most > 0 || was_killed {
            self.measured(&format!("evaluation of {host}"), most, how);
        }
        if was_killed {
            let is_counted = before.is_some_and(|before| kills().is_some_and(|now| now > before));
            return Err(match is_counted {
                true => Exceeded::Memory(self.no_memory("died of memory", most)),
                false => Exceeded::Killed(self.no_memory(KILLED, most)),
            });
        }
        let finished = output.finished.check(&command);
        Ok(finished.map(|finished| Output { finished, stdout: output.stdout }))
    }

    /// Looks at what a program takes until the night is over.
    async fn sample(&self, started: &AtomicU32, most: &mut u64) {
        loop {
            tokio::time::sleep(OFTEN).await;
            if self.is_over() {
                return;
            }
            match started.load(Ordering::Relaxed) {
                0 => {}
                pid => {
                    let names = Names::default();
                    *most = (*most).max(processes::below(pid, &names).all.peak());
                }
            }
        }
    }

    /// What is said of an evaluation that was killed.
    fn no_memory(&self, how: &str, most: u64) -> String {
        let most = size(most);
        let of = self.bounds.memory.map(|budget| format!(" of {}", size(budget)));
        format!(
            "the evaluation {how}: it was seen to take {most}{}. Give it more (`memory` under [build], \
             or the machine's own), or make the host's configuration smaller",
            of.unwrap_or_default()
        )
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_limited(error: &NoGroup) -> String {
    format!(
        "memory cannot be limited here ({error}): `memory` plans the order of builds only, and \
         deaths of memory are inferred. Under systemd, `Delegate=memory` and \
         `DelegateSubgroup=supervisor` give Larder a control group of its own"
    )
}

/// A length of time, for people.
pub(super) fn for_people(duration: Duration) -> String {
    match jiff::SignedDuration::try_from(duration) {
        Ok(duration) => format!("{duration:#}"),
        Err(_) => format!("{} s", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(remembered: &[(&str, Remembered)]) -> Guard {
        let remembered = remembered.iter().map(|(name, it)| ((*name).to_owned(), *it)).collect();
        Guard {
            bounds: Bounds { memory: Some(100), ..Bounds::default() },
            deadline: None,
            own: None,
            daemon: None,
            remembered,
            measured: Mutex::default(),
            spent: Mutex::default(),
            roots: AtomicU32::new(0),
        }
    }

    #[test]
    fn a_package_is_big_that_fills_the_half_or_died() {
        let sampled = |bytes| Remembered { bytes, died: false };
        let died = Remembered { bytes: 10, died: true };
        let all = [("bash", sampled(50)), ("linux", sampled(51)), ("webkitgtk", died)];
        let guard = guard(&all);
        assert!(guard.is_big("linux") && guard.is_big("webkitgtk"));
        assert!(!guard.is_big("bash") && !guard.is_big("never-seen"));
    }
}
