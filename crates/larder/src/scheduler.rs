//! Builds when the schedules say, for as long as the server runs.
//!
//! Each run is a process of its own (`larder schedule run NAME`), which goes on when the server is stopped or restarted. So
//! nothing is held in memory that counts: what was begun is written down before it is started, that a run goes on is
//! seen by the lock on its output, and how it ended it says itself. One server a state folder does this.

use std::{path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use larder_cache::record::Name;
use larder_fleet::{
    lock::{Lock, LockError},
    night,
    schedule::{
        Ending, Fate, MOST_TRIES, Memory, MemoryError, Moment, Run, Schedule, Step, output,
        take_back,
    },
};
use larder_nix::command::{CancellationToken, CommandError, Invocation};
use tokio::task::block_in_place;

use crate::{
    clock, config::Config, context::Context, environment, report::BUSY, view::schedule::meaning,
};

/// How often it is looked what is due, at least.
const LOOK: Duration = Duration::from_secs(20);

/// How often a run under way is looked at, or whoever is in the way.
const WATCH: Duration = Duration::from_millis(500);

/// Two looks that are further apart have had a machine that slept between them, or a clock that was set.
const GAP: SignedDuration = SignedDuration::from_mins(5);

/// Starts what is due.
#[derive(Debug)]
pub(crate) struct Scheduler {
    config: Config,
    program: PathBuf,
    config_file: PathBuf,
}

/// A look went wrong. Another is taken.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Ending(#[from] larder_fleet::schedule::EndingError),
    #[error(transparent)]
    Start(#[from] CommandError),
}

impl Scheduler {
    /// By this configuration, if there is anything to do or to look after.
    pub(crate) fn of(context: &Context, config: &Config) -> Option<Self> {
        let idle = config.schedules.is_empty() && !Memory::file(&config.state_dir).exists();
        (!idle).then(|| Self {
            config: config.clone(),
            program: context.program.clone(),
            config_file: context.config_file().to_owned(),
        })
    }

    /// Does it until told to stop, and beforehand waits until no other server does.
    pub(crate) async fn stand_by(self, stop: CancellationToken) {
        let mut told = Told::default();
        let lock = loop {
            match block_in_place(|| Lock::take(&lock_file(&self.config), clock::now())) {
                Ok(lock) => break lock,
                Err(LockError::Held { holder, .. }) => {
                    told.warn(&format!("another server builds by the schedules ({holder})"));
                }
                Err(error) => told.warn(&format!("nothing is built by the schedules: {error}")),
            }
            if tokio::time::timeout(LOOK, stop.cancelled()).await.is_ok() {
                return;
            }
        };
        self.go_on(&mut told, &stop).await;
        drop(lock);
    }

    async fn go_on(&self, told: &mut Told, stop: &CancellationToken) {
        let mut last = clock::now();
        let mut awake = last;
        loop {
            let now = clock::now();
            if now.duration_since(last).abs() > GAP {
                awake = now;
            }
            last = now;
            let wait = block_in_place(|| self.look((now, awake), told)).unwrap_or_else(|error| {
                told.warn(&format!("the schedules: {error}"));
                LOOK
            });
            if tokio::time::timeout(wait, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Takes one step, and says when to look again.
    fn look(
        &self,
        (now, awake): (Timestamp, Timestamp),
        told: &mut Told,
    ) -> Result<Duration, LookError> {
        let state_dir = &self.config.state_dir;
        let schedules: Vec<Schedule> =
            self.config.schedules.iter().map(|it| it.schedule.clone()).collect();
        let (zone, machine) = (clock::zone(), environment::machine());
        let moment = Moment { now, awake, zone, machine };
        let mut memory = Memory::load(state_dir)?;
        let before = memory.clone();
        let step = memory.step(&schedules, &moment, |name, run| fate(&self.config, name, run));
        let starts = matches!(step, Step::Start(_) | Step::Resume(..));
        if starts && Lock::is_held(&night::lock_file(state_dir))? {
            told.info("a run is due, and waits for the one under way");
            return Ok(WATCH);
        }
        // A run reads it again, and one that could not would end without a word.
        if starts && let Err(error) = Config::load(&self.config_file) {
            told.warn(&format!("a run is due, and waits until it can be configured: {error}"));
            return Ok(WATCH);
        }
        if memory != before {
            memory.save(state_dir)?;
        }
        Ok(match step {
            Step::Wait(next) => {
                let until = next.map(|next| next.duration_since(now).unsigned_abs());
                until.map_or(LOOK, |until| until.min(LOOK))
            }
            Step::GoesOn(name, run) => {
                told.info(&format!("the run of {name}, begun {:.0}, goes on", run.begun));
                WATCH
            }
            Step::Ended(name, status) => {
                told.info(&format!("the run of {name} has ended: {}", meaning(status)));
                Duration::ZERO
            }
            Step::Start(name) => {
                let log = output::file(state_dir, &name);
                self.start(&name, false).map_err(|error| self.not_started(&before, error))?;
                told.info(&format!("the run of {name} begins; what it says: {}", log.display()));
                told.know(&memory, &name);
                WATCH
            }
            Step::Resume(name, count) => {
                self.start(&name, true).map_err(|error| self.not_started(&before, error))?;
                told.warn(&format!(
                    "the run of {name} ended unfinished and is resumed ({count} of {MOST_TRIES}); what was built is kept"
                ));
                told.know(&memory, &name);
                WATCH
            }
            Step::GiveUp(name) => {
                told.warn(&format!(
                    "the run of {name} ended unfinished and is not resumed any more; what it said: {}",
                    output::file(state_dir, &name).display()
                ));
                Duration::ZERO
            }
        })
    }

    /// What could not be started is as if it had not been tried.
    fn not_started(&self, before: &Memory, error: LookError) -> LookError {
        if let Err(error) = before.save(&self.config.state_dir) {
            tracing::warn!("{error}");
        }
        error
    }

    fn start(&self, name: &Name, goes_on: bool) -> Result<(), LookError> {
        let state_dir = &self.config.state_dir;
        let log = output::open(state_dir, name, goes_on)?;
        if Ending::read(state_dir, name)?.is_some_and(|ending| ending.status == BUSY) {
            take_back(state_dir, name)?;
        }
        let command = Invocation::new(&self.program).arg("--config").arg(&self.config_file);
        Ok(command.args(["schedule", "run", name.as_str()]).leave_to_itself(log)?)
    }
}

/// The file whose lock is held by the server that builds.
fn lock_file(config: &Config) -> PathBuf {
    config.state_dir.join("schedule/lock")
}

/// Whether a server builds by the schedules.
pub(crate) fn is_at_work(config: &Config) -> Result<bool, LockError> {
    Lock::is_held(&lock_file(config))
}

/// What became of a run. What cannot be read says nothing of it.
pub(crate) fn fate(config: &Config, name: &Name, run: &Run) -> Fate {
    if output::is_written(&config.state_dir, name).unwrap_or(false) {
        return Fate::Alive;
    }
    let ending = Ending::read(&config.state_dir, name).ok().flatten();
    match ending.filter(|ending| ending.begun >= run.begun) {
        Some(ending) if ending.status == BUSY => Fate::Busy,
        Some(ending) => Fate::Ended(ending.status),
        None => Fate::Dead,
    }
}

/// What was said last, which is not said again.
#[derive(Default)]
struct Told(String);

impl Told {
    fn info(&mut self, text: &str) {
        if self.is_new(text) {
            tracing::info!("{text}");
        }
    }

    fn warn(&mut self, text: &str) {
        if self.is_new(text) {
            tracing::warn!("{text}");
        }
    }

    /// That a run goes on that was started here goes without saying.
    fn know(&mut self, memory: &Memory, name: &Name) {
        let run = memory.schedules.get(name).and_then(|remembered| remembered.run.as_ref());
        if let Some(run) = run {
            self.0 = format!("the run of {name}, begun {:.0}, goes on", run.begun);
        }
    }

    fn is_new(&mut self, text: &str) -> bool {
        let new = self.0 != text;
        text.clone_into(&mut self.0);
        new
    }
}
