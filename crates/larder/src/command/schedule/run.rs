//! `larder schedule run`: what a schedule does, once.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use larder_cache::record::Name;
use larder_fleet::{
    night::{Options, Wanted},
    schedule::{Ending, output},
};

use crate::{
    clock,
    command::{
        build::{self, Task},
        pin,
    },
    config::{Config, ScheduleConfig},
    context::Context,
    report::{self, Done, Error},
    view::note,
};

pub(super) async fn run(context: &Context, config: &Config, name: &Name) -> Result<Done, Error> {
    let last_word = Arc::new(LastWord::of(config, name));
    let schedules = &config.schedules;
    let Some(schedule) = schedules.iter().find(|it| &it.schedule.name == name) else {
        let known = schedules.iter().map(|it| it.schedule.name.clone()).collect();
        let error = Error::NoSuchSchedule { name: name.clone(), known };
        last_word.write(report::failure(&error));
        return Err(error);
    };
    let interrupted = Arc::clone(&last_word);
    context.signals.on_interrupt(move || interrupted.is_interrupted());
    let task = task(schedule, schedules);
    let (done, published) =
        build::once(context, config, task, |done| last_word.end(context, done)).await;
    // Another time will do as well, so that it makes no good run a bad one.
    if let Err(error) = pin::prune::ended(config, false).await {
        note(&format!("what was built long ago is kept on: {error}"));
    }
    // Others may begin: pushing may take hours.
    if let Err(error) = output::let_go(&config.state_dir, name) {
        note(&format!("other schedules wait until all is pushed: {error}"));
    }
    build::push(context, config, published).await;
    done
}

/// How the run ended, written down as soon as that is certain: whatever comes then, it is not done again.
struct LastWord {
    state_dir: PathBuf,
    name: Name,
    begun: Timestamp,
    has_ended: Mutex<bool>,
}

impl LastWord {
    fn of(config: &Config, name: &Name) -> Self {
        let (state_dir, name) = (config.state_dir.clone(), name.clone());
        Self { state_dir, name, begun: clock::now(), has_ended: Mutex::default() }
    }

    /// A person wants it to stop. A second signal ends it at once.
    fn is_interrupted(&self) {
        let has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*has_ended {
            self.write(report::failure(&Error::Cancelled));
        }
    }

    fn end(&self, context: &Context, done: &Result<Done, Error>) {
        let mut has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        *has_ended = true;
        let status = done.as_ref().map_or_else(report::failure, |done| report::status(*done));
        // A machine that goes down ends its processes, too: that run is resumed when it is back.
        let is_cancelled = status == report::failure(&Error::Cancelled);
        if !is_cancelled || context.signals.was_interrupted() {
            self.write(status);
        }
    }

    fn write(&self, status: u8) {
        let ending = Ending { begun: self.begun, ended: clock::now(), status };
        if let Err(error) = ending.write(&self.state_dir, &self.name) {
            note(&format!("how this run ended cannot be written down: {error}"));
        }
    }
}

/// What there is to build: what the schedule names, or all that no other one does.
fn task(schedule: &ScheduleConfig, all: &[ScheduleConfig]) -> Task {
    let mut without = schedule.except.clone();
    if schedule.hosts.is_none() {
        let others = all.iter().filter(|other| other.schedule.name != schedule.schedule.name);
        without.extend(others.filter_map(|other| other.hosts.as_deref()).flatten().cloned());
    }
    Task {
        hosts: schedule.hosts.clone().map(Wanted::Part),
        without: Wanted::Part(without),
        schedule: Some(schedule.schedule.name.clone()),
        options: Options { update: schedule.update, dry_run: false },
        publish: true,
        json: false,
    }
}
