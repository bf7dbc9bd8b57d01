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
};

use super::{builder::Builder, machines, probe, probe::Silence};
use crate::{
    durable,
    night::{Notice, Observer},
};

/// How long a builder may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often they are asked during a run.
const INTERVAL: Duration = Duration::from_secs(30);

/// How often one may be late in a row: one that builds with all it has is slow to answer.
const LATE: u32 = 2;

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
}

impl Builders {
    /// Builders whose machines list lies in this folder.
    #[must_use]
    pub fn new(all: Vec<Builder>, folder: &std::path::Path) -> Self {
        Self { all, list: folder.join("machines"), patience: PATIENCE, interval: INTERVAL }
    }
}

/// The builders during one run.
#[derive(Debug)]
pub struct Watch<'a> {
    builders: &'a Builders,
    nix: &'a Nix,
    states: Vec<State>,
    own: Own,
}

/// What is known of one.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    lives: bool,
    /// How often it was late in a row.
    late: u32,
    /// It was gone at some time since [`Watch::forgive`].
    was_lost: bool,
    /// It spoils what it is given, and gets nothing more.
    set_aside: bool,
}

/// What this machine is.
#[derive(Debug)]
struct Own {
    system: String,
    platforms: BTreeSet<String>,
}

impl<'a> Watch<'a> {
    /// Asks all at once, and writes the list with those that answer.
    pub async fn begin(
        builders: &'a Builders,
        nix: &'a Nix,
        observer: &mut dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Self, NixError> {
        let states = vec![State::default(); builders.all.len()];
        let asked = probe::all(nix, &builders.all, builders.patience, cancel);
        let (answers, settings, system) =
            tokio::join!(asked, nix.own_settings(&[], cancel), nix.system(cancel));
        let own = Own { system: system?, platforms: settings?.systems };
        let mut watch = Self { builders, nix, states, own };
        for ((state, builder), answer) in watch.states.iter_mut().zip(&builders.all).zip(answers) {
            state.lives = answer.is_ok();
            if let Err(silence) = answer {
                let text = format!("builder {} is left out: {silence}", builder.name);
                observer.notice(Notice::Message(&text));
            }
        }
        watch.write(observer);
        Ok(watch)
    }

    /// What Nix is to be told besides.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        let live = self.live();
        let mut settings = vec![
            ("builders".to_owned(), format!("@{}", self.builders.list.display())),
            ("builders-use-substitutes".to_owned(), "true".to_owned()),
        ];
        let stay = machines::extra_platforms(&self.own.system, &self.own.platforms, &live);
        if stay.len() < self.own.platforms.iter().filter(|one| **one != self.own.system).count() {
            let stay: Vec<&str> = stay.iter().map(String::as_str).collect();
            settings.push(("extra-platforms".to_owned(), stay.join(" ")));
        }
        settings
    }

    /// Keeps the list true until it is dropped, and tells of each change.
    pub async fn keep(&mut self, observer: &mut dyn Observer, cancel: &CancellationToken) -> ! {
        loop {
            tokio::time::sleep(self.builders.interval).await;
            let builders = self.builders;
            let answers = probe::all(self.nix, &builders.all, builders.patience, cancel).await;
            if !cancel.is_cancelled() {
                self.learn(answers, observer);
            }
        }
    }

    /// Whether what was being built on this machine (as Nix names it) may be tried again elsewhere, now that it failed and
    /// `by_itself` says whether that was the build's own doing. One that is there and fails all the same gets nothing more.
    pub async fn is_worth_another_try(
        &mut self,
        machine: &str,
        by_itself: bool,
        (observer, cancel): (&mut dyn Observer, &CancellationToken),
    ) -> bool {
        let Some(index) = self.builders.all.iter().position(|it| it.uri() == machine) else {
            return false;
        };
        let (builders, builder) = (self.builders, &self.builders.all[index]);
        let answer = probe::one(self.nix, builder, builders.patience, cancel).await;
        let gone = answer.is_err() || self.states[index].was_lost;
        let before = self.states[index];
        if let Err(silence) = answer {
            self.drop_out(index, &silence, observer);
        } else if !gone && !by_itself {
            self.states[index].set_aside = true;
            if !before.set_aside {
                let text = format!(
                    "builder {} answers, but did not do what it was given: it gets nothing more in this run",
                    builder.name
                );
                observer.notice(Notice::Message(&text));
            }
        }
        self.write(observer);
        gone || !by_itself
    }

    /// Whether somebody else is there for what this machine builds for.
    #[must_use]
    pub fn has_another(&self, machine: &str, builds_here: bool) -> bool {
        let Some(builder) = self.builders.all.iter().find(|it| it.uri() == machine) else {
            return false;
        };
        let here = |system: &str| {
            builds_here && (self.own.system == system || self.own.platforms.contains(system))
        };
        let live = self.live();
        builder.systems.iter().any(|system| {
            here(system.as_str()) || live.iter().any(|other| other.systems.contains(system))
        })
    }

    /// What was lost so far is made up for.
    pub fn forgive(&mut self) {
        self.states.iter_mut().for_each(|state| state.was_lost = false);
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

    fn learn(&mut self, answers: Vec<Result<(), Silence>>, observer: &mut dyn Observer) {
        for (index, answer) in answers.into_iter().enumerate() {
            let state = &mut self.states[index];
            match answer {
                Ok(()) => {
                    state.late = 0;
                    if !state.lives {
                        state.lives = true;
                        let name = &self.builders.all[index].name;
                        let text = format!("builder {name} answers again");
                        observer.notice(Notice::Message(&text));
                    }
                }
                Err(Silence::Late(_)) if state.lives && state.late + 1 < LATE => state.late += 1,
                Err(silence) => self.drop_out(index, &silence, observer),
            }
        }
        self.write(observer);
    }

    fn drop_out(&mut self, index: usize, silence: &Silence, observer: &mut dyn Observer) {
        let state = &mut self.states[index];
        state.was_lost = true;
        if state.lives {
            state.lives = false;
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

/// One observer for two who tell: Nix, and the watch. It says builders' names in place of Nix's, and remembers
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
