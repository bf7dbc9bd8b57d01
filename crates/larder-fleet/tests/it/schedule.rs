//! Schedules: every due time is begun at most once, what was missed is made up for by one run, and clocks that
//! are put forward and back change nothing of that.

use std::{collections::BTreeMap, fs};

use jiff::{SignedDuration, Timestamp, civil::date, tz::TimeZone};
use larder_cache::record::Name;
use larder_fleet::schedule::{
    Calendar, Ending, Fate, Memory, MemoryError, Moment, Remembered, Run, Schedule, Step,
};
use proptest::prelude::*;

fn zone() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn at(text: &str) -> Calendar {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn schedule(it: &str, times: &str, jitter: i64) -> Schedule {
    let jitter = SignedDuration::from_mins(jitter);
    Schedule { name: name(it), at: at(times), jitter, catch_up: true }
}

fn time(text: &str) -> Timestamp {
    text.parse::<jiff::civil::DateTime>().unwrap().to_zoned(zone()).unwrap().timestamp()
}

fn moment(now: Timestamp, awake: Timestamp) -> Moment {
    Moment { now, awake, zone: zone(), machine: "machine".to_owned() }
}

/// All times of a year, forward.
fn times_of_2026(calendar: &Calendar) -> Vec<jiff::Zoned> {
    let begin = date(2025, 12, 31).at(23, 59, 59, 0).to_zoned(zone()).unwrap();
    let times = std::iter::successors(calendar.after(&begin), |time| calendar.after(time));
    times.take_while(|time| time.year() == 2026).collect()
}

#[test]
fn a_time_that_is_missing_or_there_twice_comes_once_a_day() {
    for minute in (0..4 * 60).step_by(15) {
        let text = format!("{:02}:{:02}", minute / 60, minute % 60);
        let times = times_of_2026(&at(&text));
        let days: Vec<_> = times.iter().map(jiff::Zoned::date).collect();
        let all: Vec<_> = date(2026, 1, 1).series(jiff::ToSpan::days(1)).take(365).collect();
        assert_eq!(days, all, "{text}");
    }
    let on = |calendar: &str, day| {
        let times = times_of_2026(&at(calendar)).into_iter().filter(move |time| time.date() == day);
        times.map(|time| time.strftime("%H:%M %z").to_string()).collect::<Vec<_>>()
    };
    assert_eq!(on("02:30", date(2026, 3, 29)), ["03:00 +0200"]);
    assert_eq!(on("02:30", date(2026, 10, 25)), ["02:30 +0200"]);
    assert_eq!(on("0 3 * * SUN", date(2026, 3, 29)), ["03:00 +0200"]);
}

#[test]
fn looking_back_finds_the_same_times_as_looking_forward() {
    for text in ["02:30", "02:00", "0 2 * * 1-5", "30 2,14 1,15 * *", "*/50 * * * *"] {
        let calendar = at(text);
        let forward = times_of_2026(&calendar);
        let end = date(2026, 12, 31).at(23, 59, 59, 0).to_zoned(zone()).unwrap();
        let back = std::iter::successors(calendar.until(&end), |time| calendar.before(time));
        let mut back: Vec<_> = back.take_while(|time| time.year() == 2026).collect();
        back.reverse();
        let first_difference = forward.iter().zip(&back).find(|(one, other)| one != other);
        assert_eq!(first_difference, None, "{text}");
        assert_eq!(forward.len(), back.len(), "{text}");
    }
}

#[test]
fn the_longest_pause_of_a_calendar_is_told_in_days() {
    let now = time("2026-06-20T10:00").to_zoned(zone());
    for (text, days) in [
        ("02:00", 1),
        ("*/5 * * * *", 1),
        ("0 12,20 * * 1-5", 3),
        ("0 3 * * SUN", 7),
        ("* 2 1 * *", 31),
        ("0 0 29 2 *", 4 * 365 + 1),
    ] {
        let hours = at(text).longest_pause(&now).as_hours();
        // An hour more or less where the clock is put back or forward.
        assert!((days * 24 - 1..=days * 24 + 1).contains(&hours), "{text}: {hours}");
    }
}

#[test]
fn what_is_no_time_is_refused() {
    for text in ["", "2:00", "24:00", "02:60", "02:00:00", "* * * *", "0 0 2 * * *", "60 * * * *"] {
        assert!(text.parse::<Calendar>().is_err(), "{text:?}");
    }
    for text in ["0 0 30 2 *", "@daily", "0 0 31 4,6 *", "\u{661}\u{662}:00", "a b c d e"] {
        assert!(text.parse::<Calendar>().is_err(), "{text:?}");
    }
}

#[test]
fn a_machine_begins_at_the_same_time_each_look_and_others_at_others() {
    let schedule = schedule("nightly", "02:00", 60);
    let settled = time("2026-06-01T12:00");
    let next = |machine: &str, now| {
        let moment = Moment { machine: machine.to_owned(), ..moment(now, settled) };
        schedule.look(settled, &moment).next.unwrap()
    };
    let begins: Vec<_> = (0..50).map(|n| next(&format!("machine-{n}"), settled)).collect();
    let due = time("2026-06-02T02:00");
    assert!(begins.iter().all(|begin| (due..=due + SignedDuration::from_hours(1)).contains(begin)));
    let different: std::collections::BTreeSet<_> = begins.iter().collect();
    assert!(different.len() > 40, "{begins:?}");
    // Looked at between the time and its begin, it is the same.
    for (n, begin) in begins.iter().enumerate() {
        let before = *begin - SignedDuration::from_millis(1);
        assert_eq!(next(&format!("machine-{n}"), before), *begin);
    }
}

#[test]
fn what_was_missed_is_made_up_for_once_or_where_told_so_not_at_all() {
    let mut nightly = schedule("nightly", "02:00", 0);
    let (settled, now) = (time("2026-06-01T02:00"), time("2026-06-20T12:00"));
    let missed = time("2026-06-20T02:00");
    let look = nightly.look(settled, &moment(now, now));
    assert_eq!(look.due, Some((missed, missed)), "the last of nineteen");
    assert_eq!(look.next, Some(time("2026-06-21T02:00")));
    assert_eq!(nightly.look(missed, &moment(now, now)).due, None);
    nightly.catch_up = false;
    assert_eq!(nightly.look(settled, &moment(now, now)).due, None);
    // Who was there all the time, and only late, begins all the same; so does who came back in that moment.
    let awake = time("2026-06-20T01:00");
    assert_eq!(nightly.look(settled, &moment(now, awake)).due, Some((missed, missed)));
    let back = missed + SignedDuration::from_secs(30);
    assert_eq!(nightly.look(settled, &moment(back, back)).due, Some((missed, missed)));
}

#[test]
fn a_clock_that_was_wrong_delays_nothing_and_a_small_step_back_repeats_nothing() {
    let nightly = schedule("nightly", "02:00", 0);
    let now = time("2026-06-20T01:59:30");
    let done = time("2026-06-20T02:00");
    let look = nightly.look(done, &moment(now, now));
    assert_eq!((look.due, look.next), (None, Some(time("2026-06-21T02:00"))));
    let look = nightly.look(time("2040-01-01T02:00"), &moment(now, now));
    assert_eq!((look.due, look.next), (None, Some(done)));
}

#[test]
fn after_a_clock_that_was_far_ahead_the_next_time_is_begun() {
    let schedules = [schedule("nightly", "02:00", 0)];
    let mut memory = Memory::empty();
    let ahead = time("2040-01-01T02:00");
    let remembered = Remembered { at: "02:00".to_owned(), settled: ahead, run: None };
    let _ = memory.schedules.insert(name("nightly"), remembered);
    let begun =
        (0..60 * 24).map(|minute| time("2026-06-20T12:00:30") + SignedDuration::from_mins(minute));
    let begun = begun.filter(|now| {
        let step = memory.step(&schedules, &moment(*now, *now), |_, _| Fate::Ended(0));
        step == Step::Start(name("nightly"))
    });
    assert_eq!(begun.collect::<Vec<_>>(), [time("2026-06-21T02:00:30")]);
}

#[test]
fn new_times_begin_with_the_next_and_a_schedule_that_is_gone_is_forgotten() {
    let now = time("2026-06-20T10:00");
    let mut memory = Memory::empty();
    let step = |memory: &mut Memory, times, now| {
        memory.step(&[schedule("nightly", times, 0)], &moment(now, now), |_, _| Fate::Dead)
    };
    assert_eq!(step(&mut memory, "14:00", now), Step::Wait(Some(time("2026-06-20T14:00"))));
    let later = time("2026-06-21T10:00");
    assert_eq!(step(&mut memory, "09:00", later), Step::Wait(Some(time("2026-06-22T09:00"))));
    assert_eq!(memory.step(&[], &moment(later, later), |_, _| Fate::Dead), Step::Wait(None));
    assert!(memory.schedules.is_empty());
}

#[test]
fn a_run_that_dies_is_resumed_three_times_and_one_that_has_no_schedule_any_more_is_not() {
    let now = time("2026-06-20T10:00");
    let schedules = [schedule("nightly", "02:00", 0)];
    let dead = |_: &Name, _: &Run| Fate::Dead;
    let remembered = Remembered {
        at: "02:00".to_owned(),
        settled: time("2026-06-20T02:00"),
        run: Some(Run { due: time("2026-06-20T02:00"), begun: now, resumed: 0 }),
    };
    let mut memory = Memory::empty();
    let _ = memory.schedules.insert(name("nightly"), remembered);
    let mut other = memory.clone();
    for n in 1..=3 {
        let step = memory.step(&schedules, &moment(now, now), dead);
        assert_eq!(step, Step::Resume(name("nightly"), n));
        let step = memory.step(&schedules, &moment(now, now), |_, _| Fate::Busy);
        assert_eq!(step, Step::Start(name("nightly")), "who waits for others loses no try");
    }
    let step = memory.step(&schedules, &moment(now, now), dead);
    assert_eq!(step, Step::GiveUp(name("nightly")));
    let step = memory.step(&schedules, &moment(now, now), dead);
    assert_eq!(step, Step::Wait(Some(time("2026-06-21T02:00"))));
    assert_eq!(other.step(&[], &moment(now, now), dead), Step::GiveUp(name("nightly")));
}

#[test]
fn what_is_remembered_is_written_whole_and_a_broken_file_is_set_aside_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Memory::load(folder.path()).unwrap(), Memory::empty());
    let mut memory = Memory::empty();
    let now = time("2026-06-20T10:00");
    let _ = memory.step(&[schedule("a", "02:00", 0)], &moment(now, now), |_, _| Fate::Dead);
    memory.save(folder.path()).unwrap();
    assert_eq!(Memory::load(folder.path()).unwrap(), memory);
    let file = Memory::file(folder.path());
    for broken in [
        "",
        "{",
        "[]",
        "{\"version\":2,\"schedules\":{}}",
        "{\"version\":1,\"schedules\":{\"../x\":{}}}",
    ] {
        fs::write(&file, broken).unwrap();
        assert_eq!(Memory::look(folder.path()).unwrap(), Memory::empty());
        let error = Memory::load(folder.path()).unwrap_err();
        assert!(matches!(error, MemoryError::Broken { .. }), "{error}");
        assert_eq!(Memory::load(folder.path()).unwrap(), Memory::empty());
        assert_eq!(fs::read_to_string(file.with_extension("json.broken")).unwrap(), broken);
    }
    let ending = Ending { begun: now, ended: now, status: 3 };
    assert_eq!(Ending::read(folder.path(), &name("a")).unwrap(), None);
    ending.write(folder.path(), &name("a")).unwrap();
    assert_eq!(Ending::read(folder.path(), &name("a")).unwrap(), Some(ending));
    fs::write(folder.path().join("schedule/a.json"), "{").unwrap();
    assert_eq!(Ending::read(folder.path(), &name("a")).unwrap(), None);
}

/// What happens in a made-up year.
#[derive(Clone, Debug)]
enum Event {
    /// So many minutes pass, with somebody looking every few of them.
    Looked(i64),
    /// So many minutes pass, with nobody looking.
    Away(i64),
    /// The run under way, if any, is killed.
    Killed,
    /// It ends.
    Ended,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1_i64..2000).prop_map(Event::Looked),
        1 => (1_i64..20_000).prop_map(Event::Away),
        1 => Just(Event::Killed),
        2 => Just(Event::Ended),
    ];
    proptest::collection::vec(event, 1..40)
}

/// A model of what is run.
struct World {
    schedules: Vec<Schedule>,
    memory: Memory,
    now: Timestamp,
    awake: Timestamp,
    fate: Fate,
    begun: BTreeMap<(Name, Timestamp), u32>,
}

impl World {
    fn look(&mut self) {
        loop {
            let (fate, before) = (self.fate, self.memory.clone());
            let moment = moment(self.now, self.awake);
            match self.memory.step(&self.schedules, &moment, |_, _| fate) {
                Step::Wait(next) => {
                    assert!(next.is_none_or(|next| next > self.now), "{next:?} {}", self.now);
                    return;
                }
                Step::GoesOn(..) => return assert_eq!(before, self.memory),
                Step::Ended(..) | Step::GiveUp(_) => {}
                Step::Resume(name, _) => self.started(&name, true),
                Step::Start(name) => self.started(&name, false),
            }
        }
    }

    fn started(&mut self, name: &Name, again: bool) {
        assert!(!matches!(self.fate, Fate::Alive), "never two at a time");
        let running = self.memory.schedules.values().filter(|it| it.run.is_some()).count();
        assert_eq!(running, 1);
        let due = self.memory.schedules[name].run.as_ref().unwrap().due;
        let calendar = &self.schedules.iter().find(|it| &it.name == name).unwrap().at;
        assert_eq!(
            calendar.until(&due.to_zoned(zone())).unwrap().timestamp(),
            due,
            "it is a due time"
        );
        assert!(due <= self.now);
        let count = self.begun.entry((name.clone(), due)).or_default();
        *count += 1;
        assert!(again || *count == 1, "{name} {due} was begun twice");
        assert!(*count <= 4, "{name} {due} was resumed too often");
        self.fate = Fate::Alive;
    }

    /// What should have been begun last, if nothing is under way: the last time whose begin has come.
    fn check(&self, first: Timestamp) {
        for schedule in &self.schedules {
            let moment = moment(self.now, self.awake);
            let begun = self.begun.keys().filter(|(name, _)| name == &schedule.name);
            let last = begun.map(|(_, due)| *due).max();
            let due = schedule.look(first, &moment).due.map(|(due, _)| due);
            assert_eq!(last, due, "{}: the last that was due was begun", schedule.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn each_due_time_is_begun_at_most_once_and_after_all_the_last_one_was(
        times in proptest::sample::subsequence(
            vec![("a", "02:00"), ("b", "30 2 * * *"), ("c", "0 */6 * * *"), ("d", "15 4 * * 1")], 1..4),
        jitter in prop_oneof![Just(0_i64), Just(15), Just(300)],
        start in 0_i64..365,
        events in events(),
    ) {
        let schedules = times.iter().map(|(it, times)| schedule(it, times, jitter)).collect();
        let first = time("2026-01-01T00:00") + SignedDuration::from_hours(24 * start);
        let mut world = World {
            schedules, memory: Memory::empty(), now: first, awake: first, fate: Fate::Dead,
            begun: BTreeMap::new(),
        };
        world.look();
        for event in events {
            match event {
                Event::Looked(minutes) => for _ in (0..minutes).step_by(41) {
                    world.now += SignedDuration::from_mins(41);
                    world.look();
                },
                Event::Away(minutes) => {
                    world.now += SignedDuration::from_mins(minutes);
                    world.awake = world.now;
                    let before: u32 = world.begun.values().sum();
                    world.look();
                    let after: u32 = world.begun.values().sum();
                    prop_assert!(after <= before + 1, "one at a time");
                }
                Event::Killed if world.fate == Fate::Alive => { world.fate = Fate::Dead; world.look(); }
                Event::Ended if world.fate == Fate::Alive => { world.fate = Fate::Ended(0); world.look(); }
                _ => {}
            }
        }
        while world.memory.schedules.values().any(|it| it.run.is_some()) {
            world.fate = Fate::Ended(0);
            world.look();
        }
        world.check(first);
    }
}
