//! Who builds while a run goes on: the machines list, kept true.
//!
//! Nix reads the list anew for each build that it hands out. (The process that hands out reads it when it starts, and
//! that is replaced whenever a build was handed out; so one that has found nobody keeps its list until then.)

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use larder_formats::store_path::StorePath;
use larder_nix::{
    command::CancellationToken,
    nix::{Nix, NixError},
    settings::Settings,
};
use tokio::time::Instant;

use super::{builder::Builder, machines, probe, probe::Silence, words::Word};
use crate::{
    durable,
    night::{Notice, Observer},
};

/// How long a builder may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often they are asked during a run.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long one that was lost in the middle of something is waited for, where nobody else is there for what it builds: as
/// long as a restart of a small machine takes.
const RETURN: Duration = Duration::from_secs(120);

/// How often it is asked then.
const OFTEN: Duration = Duration::from_secs(5);

/// How often one may be late in a row: one that builds with all it has is slow to answer.
const LATE: u32 = 2;

/// How often one may lose a build and be there all the same, as if nothing had been: a connection breaks once.
const LOST: u32 = 2;

/// How often Nix looks whether a builder has room again, in seconds: it is not told, and with its own five, a slot stands
/// empty for some seconds after each build.
const LOOK_FOR_ROOM: u32 = 1;

/// All builders that are configured; at least one.
#[derive(Clone, Debug)]
pub struct Builders {
    /// They, in the order of the configuration.
    pub all: Vec<Builder>,
    /// Where the machines list lies while a run goes on.
    pub list: PathBuf,
    /// How long each may take to answer.
    pub patience: Duration,
    /// How often they are asked during a run.
    pub interval: Duration,
    /// How long one that was lost is waited for, where it has no other.
    pub returns: Duration,
}

impl Builders {
    /// Builders whose machines list lies in this folder.
    #[must_use]
    pub fn new(all: Vec<Builder>, folder: &std::path::Path) -> Self {
        let list = folder.join("machines");
        Self { all, list, patience: PATIENCE, interval: INTERVAL, returns: RETURN }
    }
}

/// The builders during one run.
#[derive(Debug)]
pub struct Roster<'a> {
    builders: &'a Builders,
    nix: &'a Nix,
    states: Vec<State>,
    /// What this machine is.
    own: Settings,
    /// When all were asked last.
    asked: Instant,
}

/// What is known of one.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    lives: bool,
    /// How often it was late in a row.
    late: u32,
    /// It went or came since [`Roster::begin_try`].
    has_changed: bool,
    /// How many builds were lost there though it was there.
    lost: u32,
    /// It spoils what it is given, and gets nothing more.
    set_aside: bool,
}

impl State {
    /// It went since [`Roster::begin_try`].
    fn is_lost(&self) -> bool {
        !self.lives && self.has_changed
    }
}

impl<'a> Roster<'a> {
    /// Asks all at once, and writes the list with those that answer.
    pub async fn begin(
        builders: &'a Builders,
        nix: &'a Nix,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Self, NixError> {
        let states = vec![State::default(); builders.all.len()];
        let asked = probe::all(nix, &builders.all, builders.patience, cancel);
        let (answers, own) = tokio::join!(asked, nix.own_settings(&[], cancel));
        let own = own?;
        let mut roster = Self { builders, nix, states, own, asked: Instant::now() };
        for ((state, builder), answer) in roster.states.iter_mut().zip(&builders.all).zip(answers) {
            state.lives = answer.is_ok();
            if let Err(silence) = answer {
                let text = format!("builder {} is left out: {silence}", builder.name);
                observer.notice(Notice::Message(&text));
            }
        }
        roster.write(observer);
        Ok(roster)
    }

    /// What Nix is to be told besides; whether this machine may emulate all that it can, even what a native builds.
    #[must_use]
    pub fn settings(&self, emulates: bool) -> Vec<(String, String)> {
        let live = if emulates { Vec::new() } else { self.live() };
        let mut settings = vec![
            ("builders".to_owned(), format!("@{}", self.builders.list.display())),
            ("builders-use-substitutes".to_owned(), "true".to_owned()),
            ("build-poll-interval".to_owned(), LOOK_FOR_ROOM.to_string()),
        ];
        let stay = machines::extra_platforms(&self.own.system, &self.own.systems, &live);
        if stay.len() < self.own.systems.iter().filter(|one| **one != self.own.system).count() {
            let stay: Vec<&str> = stay.iter().map(String::as_str).collect();
            settings.push(("extra-platforms".to_owned(), stay.join(" ")));
        }
        settings
    }

    /// Keeps the list true until it is dropped, and tells of each change.
    pub async fn keep(&mut self, observer: &mut dyn Observer, cancel: &CancellationToken) -> ! {
        loop {
            // At once, where much time has gone by since the run was at it before.
            tokio::time::sleep_until(self.asked + self.builders.interval).await;
            self.ask((observer, cancel)).await;
        }
    }

    /// Asks all, where that was long ago: between two attempts a run evaluates.
    pub async fn refresh(&mut self, (observer, cancel): (&mut dyn Observer, &CancellationToken)) {
        if self.asked.elapsed() >= self.builders.interval {
            self.ask((observer, cancel)).await;
        }
    }

    async fn ask(&mut self, (observer, cancel): (&mut dyn Observer, &CancellationToken)) {
        let builders = self.builders;
        let answers = probe::all(self.nix, &builders.all, builders.patience, cancel).await;
        self.asked = Instant::now();
        if !cancel.is_cancelled() {
            for (index, answer) in answers.into_iter().enumerate() {
                self.learn(index, answer, observer);
            }
            self.write(observer);
        }
    }

    /// From now on, [`Roster::has_changed`] tells of what is to come.
    pub fn begin_try(&mut self) {
        self.states.iter_mut().for_each(|state| state.has_changed = false);
    }

    /// Whether anybody went or came.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.states.iter().any(|state| state.has_changed)
    }

    /// Asks all, after these machines (as Nix names them) lost builds, of which is said whether by what the machine is.
    /// Such a one gets nothing more, nor does one that was there all the time and has lost builds before.
    pub async fn take_stock(
        &mut self,
        losers: &BTreeMap<String, bool>,
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) {
        let all = self.states.iter_mut().zip(&self.builders.all);
        // For these, being late once more is being gone.
        let lost = all.filter(|(_, builder)| losers.contains_key(&builder.uri()));
        lost.for_each(|(state, _)| state.late = LATE);
        self.ask((observer, cancel)).await;
        for (state, builder) in self.states.iter_mut().zip(&self.builders.all) {
            let Some(spoils) = losers.get(&builder.uri()).filter(|_| state.lives) else { continue };
            state.lost += u32::from(!state.has_changed);
            if (*spoils || state.lost >= LOST) && !state.set_aside {
                (state.set_aside, state.has_changed) = (true, true);
                let text = format!(
                    "builder {} answers, but did not do what it was given: it gets nothing more in this run",
                    builder.name
                );
                observer.notice(Notice::Message(&text));
            }
        }
        self.write(observer);
    }

    /// Whether somebody was lost in this try.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.states.iter().any(State::is_lost)
    }

    /// Waits a while for those that were lost in this try, where nobody else is there for a system that is still needed.
    pub async fn wait(
        &mut self,
        needed: &BTreeSet<String>,
        builds_here: bool,
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) {
        let (builders, end) = (self.builders, Instant::now() + self.builders.returns);
        let pause = OFTEN.min(builders.returns / 4);
        let mut told = false;
        while Instant::now() < end && !cancel.is_cancelled() {
            let Some(missed) = self.missed(needed, builds_here) else { return };
            if !std::mem::replace(&mut told, true) {
                let text = format!("waiting a while for builder {} to return", missed.name);
                observer.notice(Notice::Message(&text));
            }
            tokio::time::sleep(pause).await;
            self.ask((observer, cancel)).await;
        }
    }

    /// One that was lost in this try and builds natively what is needed and nobody else does.
    fn missed(&self, needed: &BTreeSet<String>, builds_here: bool) -> Option<&'a Builder> {
        let live = self.live();
        let here = |system: &Word| builds_here && self.own.system == system.as_str();
        let there =
            |system: &Word| live.iter().any(|it| it.native_systems().any(|one| one == system));
        let is_missing =
            |system: &Word| needed.contains(system.as_str()) && !here(system) && !there(system);
        let has_no_other = |it: &Builder| it.native_systems().any(is_missing);
        let all = self.states.iter().zip(&self.builders.all);
        let mut lost = all.filter(|(state, _)| state.is_lost());
        lost.find(|(_, builder)| has_no_other(builder)).map(|(_, builder)| builder)
    }

    /// Whether somebody is there for what this machine builds for, it or another.
    #[must_use]
    pub fn has_another(&self, machine: &str, builds_here: bool) -> bool {
        let Some(builder) = self.builders.all.iter().find(|it| it.uri() == machine) else {
            return false;
        };
        let here = |system: &str| builds_here && self.own.systems.contains(system);
        let live = self.live();
        builder.systems.iter().any(|system| {
            here(system.as_str()) || live.iter().any(|other| other.systems.contains(system))
        })
    }

    /// So many tries come to an end: in each, somebody is lost for the last time.
    #[must_use]
    pub fn most_tries(&self) -> usize {
        self.builders.all.len() * 2 + 2
    }

    /// The names of the builders, by what Nix calls them.
    #[must_use]
    pub fn names(&self) -> BTreeMap<String, String> {
        self.builders.all.iter().map(|it| (it.uri(), it.name.to_string())).collect()
    }

    fn live(&self) -> Vec<&'a Builder> {
        let all = self.builders.all.iter().zip(&self.states);
        all.filter(|(_, state)| state.lives && !state.set_aside).map(|(one, _)| one).collect()
    }

    fn learn(&mut self, index: usize, answer: Result<(), Silence>, observer: &mut dyn Observer) {
        let state = &mut self.states[index];
        match answer {
            Ok(()) => {
                state.late = 0;
                if !state.lives {
                    (state.lives, state.has_changed) = (true, true);
                    let name = &self.builders.all[index].name;
                    observer.notice(Notice::Message(&format!("builder {name} answers again")));
                }
            }
            Err(Silence::Late(_)) if state.lives && state.late + 1 < LATE => state.late += 1,
            Err(silence) => self.drop_out(index, &silence, observer),
        }
    }

    fn drop_out(&mut self, index: usize, silence: &Silence, observer: &mut dyn Observer) {
        let state = &mut self.states[index];
        if state.lives {
            (state.lives, state.has_changed) = (false, true);
            let name = &self.builders.all[index].name;
            let text =
                format!("builder {name} is gone, and gets nothing until it answers: {silence}");
            observer.notice(Notice::Message(&text));
        }
    }

    /// Without a list Nix builds here alone, and a list that is too old costs time only, so that failing is told and is no
    /// end.
    fn write(&self, observer: &mut dyn Observer) {
        if let Err(error) = self.replace() {
            let path = self.builders.list.display();
            let text = format!("the list of builders cannot be written: {path}: {error}");
            observer.notice(Notice::Message(&text));
        }
    }

    fn replace(&self) -> io::Result<()> {
        let text = machines::machines(&self.live());
        if std::fs::read(&self.builders.list).is_ok_and(|before| before == text.as_bytes()) {
            return Ok(());
        }
        durable::replace(&self.builders.list, text.as_bytes(), 0o644)
    }
}

/// One observer for two who tell: Nix, and the roster. It says builders' names in place of Nix's, and remembers
/// who builds what.
pub struct Shared<'a> {
    told: Mutex<Told<'a>>,
    names: BTreeMap<String, String>,
}

struct Told<'a> {
    observer: &'a mut dyn Observer,
    machines: BTreeMap<StorePath, String>,
}

impl<'a> Shared<'a> {
    /// Tells this one.
    pub fn new(observer: &'a mut dyn Observer, names: BTreeMap<String, String>) -> Self {
        Self { told: Mutex::new(Told { observer, machines: BTreeMap::new() }), names }
    }

    /// Where a derivation was last being built, as Nix names it; empty for here.
    pub fn machine(&self, derivation: &StorePath) -> Option<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).machines.get(derivation).cloned()
    }
}

impl Observer for &Shared<'_> {
    fn notice(&mut self, notice: Notice<'_>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Notice::BuildStarted { derivation, machine } = notice {
            told.machines.insert(derivation.clone(), machine.to_owned());
            let machine = self.names.get(machine).map_or(machine, String::as_str);
            return told.observer.notice(Notice::BuildStarted { derivation, machine });
        }
        told.observer.notice(notice);
    }
}
