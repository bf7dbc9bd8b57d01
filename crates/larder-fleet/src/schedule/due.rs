//! What is due, and when something is due next.

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use larder_cache::{record::Name, time::after};
use larder_formats::hash::Sha256;

use super::calendar::Calendar;

/// A clock that is put back by less than this changes nothing of what was done; put back by more, it was wrong
/// before, and nothing is waited for until it says that again.
const WRONG: SignedDuration = SignedDuration::from_hours(24);

/// How late a run may begin that is not made up for: a server takes a moment to start again.
const LATE: SignedDuration = SignedDuration::from_mins(5);

/// Up to when all times are done with, where this is remembered.
pub(super) fn believable(settled: Timestamp, now: Timestamp) -> Timestamp {
    if settled > after(now, WRONG) { now } else { settled }
}

/// When something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// What it is called.
    pub name: Name,
    /// Its times.
    pub at: Calendar,
    /// How much later than that it is begun at most. Not negative.
    pub jitter: SignedDuration,
    /// Whether what was missed is made up for.
    pub catch_up: bool,
}

/// When and where is looked.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// Since when somebody looks without a break.
    pub awake: Timestamp,
    /// What clocks show here.
    pub zone: TimeZone,
    /// What tells this machine from others.
    pub machine: String,
}

/// What is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The due time that is to be begun now, and when that should have been. All that came before it are done with then.
    pub due: Option<(Timestamp, Timestamp)>,
    /// When the next after that is begun.
    pub next: Option<Timestamp>,
}

impl Schedule {
    /// What is due, where all times up to `settled` are done with.
    #[must_use]
    pub fn look(&self, settled: Timestamp, moment: &Moment) -> Look {
        let now = moment.now;
        let settled = believable(settled, now);
        let due = self
            .last_begin(settled, moment)
            .filter(|(_, begin)| self.catch_up || after(*begin, LATE) >= moment.awake);
        // Between a time and its begin it is next.
        let next = self.pending(settled, moment).or_else(|| {
            let first = self.at.after(&settled.max(now).to_zoned(moment.zone.clone()))?;
            Some(self.begin(&first, moment))
        });
        Look { due, next }
    }

    /// The last time after `settled` whose begin has come.
    fn last_begin(&self, settled: Timestamp, moment: &Moment) -> Option<(Timestamp, Timestamp)> {
        self.open(settled, moment)
            .map(|due| (due.timestamp(), self.begin(&due, moment)))
            .find(|(_, begin)| *begin <= moment.now)
    }

    /// The begin of the first time after `settled` that has come, where its begin has not.
    fn pending(&self, settled: Timestamp, moment: &Moment) -> Option<Timestamp> {
        let open = self.open(settled, moment).map(|due| self.begin(&due, moment));
        open.take_while(|begin| *begin > moment.now).last()
    }

    /// The times after `settled` that have come, last first.
    fn open(&self, settled: Timestamp, moment: &Moment) -> impl Iterator<Item = Zoned> {
        let last = self.at.until(&moment.now.to_zoned(moment.zone.clone()));
        std::iter::successors(last, |due| self.at.before(due))
            .take_while(move |due| due.timestamp() > settled)
    }

    /// When a due time is begun: later by what the machine, the schedule and the day make of the jitter. So a fleet's
    /// machines do not all come at once, and one that is started again does not roll the dice again.
    fn begin(&self, due: &Zoned, moment: &Moment) -> Timestamp {
        let day = due.date();
        let text = format!("{}\n{}\n{day}", moment.machine, self.name);
        let hash = Sha256::of(text.as_bytes());
        let number =
            hash.as_bytes().iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let most = u64::try_from(self.jitter.as_millis()).unwrap_or(0);
        let later = number.checked_rem(most.saturating_add(1)).unwrap_or(0);
        let later = SignedDuration::from_millis(i64::try_from(later).unwrap_or(0));
        after(due.timestamp(), later)
    }
}
