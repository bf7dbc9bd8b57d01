//! What is to be done next, one thing at a time.

use jiff::Timestamp;
use larder_cache::record::Name;

use super::{
    due::{Moment, Schedule, believable},
    memory::{Memory, Remembered, Run},
};

/// How often a run is resumed that ends without a word.
pub const MOST_TRIES: u32 = 3;

/// What became of a run that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Alive,
    /// It ended, with this exit status.
    Ended(u8),
    /// It found that somebody else builds, and did nothing.
    Busy,
    /// It is gone, and said nothing.
    Dead,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A run goes on, and nothing else is begun meanwhile.
    GoesOn(Name, Run),
    /// A run has ended, and is to be forgotten.
    Ended(Name, u8),
    /// A run is to be started: a new one, or one that found somebody else building.
    Start(Name),
    /// A run that was broken off is to be started again, as often as this.
    Resume(Name, u32),
    /// A run was broken off too often, or is of no schedule any more, and is to be forgotten.
    GiveUp(Name),
    /// There is nothing to do until then, if ever.
    Wait(Option<Timestamp>),
}

impl Memory {
    /// What is to be done. It is remembered as if it were done: whoever saves this before doing it does it once.
    pub fn step(
        &mut self,
        schedules: &[Schedule],
        moment: &Moment,
        fate: impl Fn(&Name, &Run) -> Fate,
    ) -> Step {
        let begun = self.schedules.iter().find_map(|(name, it)| Some((name, it.run.as_ref()?)));
        if let Some((name, run)) = begun {
            let (name, run) = (name.clone(), run.clone());
            let known = schedules.iter().any(|schedule| schedule.name == name);
            return self.go_on(name.clone(), run.clone(), (fate(&name, &run), known));
        }
        self.schedules.retain(|name, _| schedules.iter().any(|schedule| &schedule.name == name));
        let mut next = None;
        let mut due = Vec::new();
        for schedule in schedules {
            let look = schedule.look(self.settled(schedule, moment), moment);
            next = next.into_iter().chain(look.next).min();
            due.extend(look.due.map(|(due, begin)| (begin, &schedule.name, due)));
        }
        // The one that should have begun first.
        let Some((_, name, due)) = due.into_iter().min() else { return Step::Wait(next) };
        if let Some(remembered) = self.schedules.get_mut(name) {
            remembered.settled = due;
            remembered.run = Some(Run { due, begun: moment.now, resumed: 0 });
        }
        Step::Start(name.clone())
    }

    fn go_on(&mut self, name: Name, run: Run, (fate, known): (Fate, bool)) -> Step {
        match fate {
            Fate::Alive => Step::GoesOn(name, run),
            Fate::Ended(status) => {
                self.forget(&name);
                Step::Ended(name, status)
            }
            Fate::Busy if known => Step::Start(name),
            Fate::Dead if known && run.resumed < MOST_TRIES => {
                let resumed = run.resumed + 1;
                if let Some(remembered) = self.schedules.get_mut(&name) {
                    remembered.run = Some(Run { resumed, ..run });
                }
                Step::Resume(name, resumed)
            }
            Fate::Busy | Fate::Dead => {
                self.forget(&name);
                Step::GiveUp(name)
            }
        }
    }

    fn forget(&mut self, name: &Name) {
        if let Some(remembered) = self.schedules.get_mut(name) {
            remembered.run = None;
        }
    }

    /// Up to when a schedule's times are done with. One that is new, or has new times, begins with the next.
    fn settled(&mut self, schedule: &Schedule, moment: &Moment) -> Timestamp {
        let at = schedule.at.to_string();
        let new = Remembered { at: at.clone(), settled: moment.now, run: None };
        let remembered = self.schedules.entry(schedule.name.clone()).or_insert(new);
        if remembered.at != at {
            remembered.at = at;
            remembered.settled = remembered.settled.max(moment.now);
        }
        // Written down, or with the clock it would go on and no time would ever be after it.
        remembered.settled = believable(remembered.settled, moment.now);
        remembered.settled
    }
}
