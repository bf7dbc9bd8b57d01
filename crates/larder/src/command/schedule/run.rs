//! `larder schedule run`: what a schedule does, once.

use larder_cache::record::Name;
use larder_fleet::{
    night::{Options, Wanted},
    schedule::Ending,
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
    let begun = clock::now();
    let schedules = &config.schedules;
    let Some(schedule) = schedules.iter().find(|it| &it.schedule.name == name) else {
        let known = schedules.iter().map(|it| it.schedule.name.clone()).collect();
        return Err(Error::NoSuchSchedule { name: name.clone(), known });
    };
    let done = build::once(context, config, task(schedule, schedules)).await;
    // Another time will do as well, so that it makes no good run a bad one.
    if let Err(error) = pin::prune::ended(config, false).await {
        note(&format!("what was built long ago is kept on: {error}"));
    }
    let done =
        done.map_err(|error| if context.cancel.is_cancelled() { error.cancelled() } else { error });
    let status = done.as_ref().map_or_else(report::failure, |done| report::status(*done));
    // A machine that goes down ends its processes, too: that run is resumed when it is back.
    let broken_off = context.cancel.is_cancelled() && !context.signals.was_interrupted();
    if !broken_off {
        let ending = Ending { begun, ended: clock::now(), status };
        if let Err(error) = ending.write(&config.state_dir, name) {
            note(&format!("how this run ended cannot be written down: {error}"));
        }
    }
    done
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
