//! `larder schedule`, as a list.

use larder_fleet::schedule::{Ending, Memory, Moment};

use crate::{
    clock,
    config::Config,
    context::say,
    environment,
    report::{Done, Error},
    scheduler,
    view::{
        note,
        schedule::{self as view, Listed},
    },
};

pub(super) fn run(config: &Config, json: bool) -> Result<Done, Error> {
    let now = clock::now();
    let (zone, machine) = (clock::zone(), environment::machine());
    let moment = Moment { now, awake: now, zone, machine };
    let memory = Memory::look(&config.state_dir)?;
    for schedule in config.schedules.iter().map(|it| &it.schedule) {
        let remembered = memory.schedules.get(&schedule.name);
        let settled = remembered.map_or(now, |remembered| remembered.settled);
        let look = schedule.look(settled, &moment);
        let run = remembered.and_then(|remembered| remembered.run.clone());
        let fate = run.as_ref().map(|run| scheduler::fate(config, &schedule.name, run));
        let last = Ending::read(&config.state_dir, &schedule.name)
            .map_err(|error| Error::Io { path: error.path, source: error.source })?;
        let next = look.due.map(|(_, begin)| begin).or(look.next);
        let listed = Listed { schedule, next, last, run: run.zip(fate) };
        say(&if json { view::json(&listed) } else { view::line(&listed, &moment.zone) });
    }
    if config.schedules.is_empty() {
        note("no schedule is configured: write a [[schedule]] with a `name` and an `at`");
    } else if !scheduler::is_at_work(config).map_err(|error| Error::Path(error.to_string()))? {
        note("no `larder serve` is running here, so nothing is begun by the schedules");
        return Ok(Done::SomeFailed);
    }
    Ok(Done::Well)
}
