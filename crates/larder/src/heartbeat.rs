//! How the fleet is, in figures for `/metrics`: read from the ledger, since runs are other processes.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use larder_fleet::{
    ledger::{GONE, HostState, Ledger, LedgerError},
    night::{End, Report, ledger_file},
    notify::Outbox,
};
use larder_nix::command::CancellationToken;
use metrics::{Unit, describe_gauge, gauge};

use crate::config::Config;

const LAST_END: &str = "larder_run_last_end_timestamp_seconds";
const LAST_GOOD: &str = "larder_run_last_good_timestamp_seconds";
const FAILED: &str = "larder_run_failed";
const HOST_LAST_GOOD: &str = "larder_host_last_good_timestamp_seconds";
const HOST_FAILING: &str = "larder_host_failing";
const HELD: &str = "larder_inputs_held";
const WAITING: &str = "larder_notices_waiting";

/// How often it is looked: more often than anybody scrapes.
const LOOK: Duration = Duration::from_secs(5);

/// Says what the figures mean.
pub(crate) fn describe() {
    describe_gauge!(
        LAST_END,
        Unit::Seconds,
        "When the last run ended, in whichever way (Unix time); 0 before any."
    );
    describe_gauge!(
        LAST_GOOD,
        Unit::Seconds,
        "When every host was last good (Unix time): by a run of all, or by each schedule's of its own; 0 before."
    );
    describe_gauge!(FAILED, "1 if the last run did not come to its end, 0 if it did.");
    describe_gauge!(
        HOST_LAST_GOOD,
        Unit::Seconds,
        "When the last run ended well for a host (Unix time), by host; 0 if none did."
    );
    describe_gauge!(HOST_FAILING, "1 if the last run failed for a host, 0 if it did not, by host.");
    describe_gauge!(HELD, "Inputs that the last update kept from moving.");
    describe_gauge!(WAITING, "Messages that wait to be sent, by receiver.");
}

/// Keeps the figures true until told to stop.
pub(crate) async fn go_on(config: Config, stop: CancellationToken) {
    let (mut trouble, mut shown, mut seen) = (String::new(), BTreeSet::new(), None);
    loop {
        let (there, before) = (config.clone(), seen);
        match tokio::task::spawn_blocking(move || look(&there, before)).await {
            Ok(Ok((state, figures))) => {
                seen = state;
                trouble.clear();
                figures.into_iter().for_each(|figures| figures.show(&mut shown));
            }
            Ok(Err(error)) if error.to_string() != trouble => {
                trouble = error.to_string();
                tracing::warn!("the figures of the fleet are old: {trouble}");
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "the figures of the fleet are old"),
        }
        show_waiting(&config);
        if tokio::time::timeout(LOOK, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// By what it is seen that the ledger was written: when, and its length. None where there is none.
pub(crate) type State = Option<(SystemTime, u64)>;

/// How the ledger is now. To be asked before it is read, so that what is written meanwhile is read the next time.
pub(crate) fn state(config: &Config) -> State {
    let file = std::fs::metadata(ledger_file(&config.state_dir)).ok()?;
    Some((file.modified().ok()?, file.len()))
}

/// The figures, where the ledger is another than it was.
fn look(config: &Config, before: State) -> Result<(State, Option<Figures>), LedgerError> {
    let file = ledger_file(&config.state_dir);
    let state = state(config);
    if state == before && state.is_some() {
        return Ok((state, None));
    }
    let figures = match Ledger::read(&file)? {
        Some(ledger) => Figures::of(&ledger, config)?,
        None => Figures::default(),
    };
    Ok((state, Some(figures)))
}

/// What the ledger says.
#[derive(Default)]
struct Figures {
    last_end: Option<Timestamp>,
    last_good: Option<Timestamp>,
    failed: bool,
    held: usize,
    hosts: Vec<HostState>,
}

impl Figures {
    fn of(ledger: &Ledger, config: &Config) -> Result<Self, LedgerError> {
        let mut figures = Self { hosts: ledger.hosts()?, ..Self::default() };
        let newest = figures.hosts.iter().filter_map(|host| Some(host.last_run.as_ref()?.0)).max();
        let is_there = |host: &HostState| {
            let last = host.last_run.as_ref().map(|(time, _)| *time);
            last.zip(newest).is_none_or(|(last, newest)| newest.duration_since(last) < GONE)
        };
        figures.hosts.retain(is_there);
        let schedules = config.schedules.iter().map(|it| it.schedule.name.to_string());
        let (mut held, mut all_good) = (None, AllGood::of(schedules));
        ledger.each_report(|text| {
            let Some(report) = Report::read(text) else { return ControlFlow::Continue(()) };
            if figures.last_end.is_none() {
                figures.last_end = report.ended;
                figures.failed = matches!(report.end, End::Failed { .. } | End::Stopped { .. });
            }
            if held.is_none() && report.update && report.end == End::Finished {
                held = Some(report.held.len());
            }
            all_good.hear(&report);
            match all_good.is_known && held.is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        figures.held = held.unwrap_or(0);
        figures.last_good = all_good.time();
        Ok(figures)
    }

    fn show(&self, shown: &mut BTreeSet<String>) {
        gauge!(LAST_END).set(seconds(self.last_end));
        gauge!(LAST_GOOD).set(seconds(self.last_good));
        gauge!(FAILED).set(f64::from(u8::from(self.failed)));
        // A number of inputs.
        gauge!(HELD).set(f64::from(u32::try_from(self.held).unwrap_or(u32::MAX)));
        // A series cannot be taken back: that of a host that is gone has no value any more.
        for gone in std::mem::take(shown) {
            gauge!(HOST_LAST_GOOD, "host" => gone.clone()).set(f64::NAN);
            gauge!(HOST_FAILING, "host" => gone).set(f64::NAN);
        }
        for host in &self.hosts {
            let name = host.host.to_string();
            let failing = host.last_run.as_ref().is_some_and(|(_, outcome)| !outcome.is_good());
            let good = host.revision.as_ref().map(|revision| revision.time);
            gauge!(HOST_LAST_GOOD, "host" => name.clone()).set(seconds(good));
            gauge!(HOST_FAILING, "host" => name.clone()).set(f64::from(u8::from(failing)));
            shown.insert(name);
        }
    }
}

/// Finds out when every host was last good, from runs, the newest first. That is a run of all hosts; where schedules share
/// them, it is the last good one of the schedule that had its own longest ago. One that never ran has no say.
struct AllGood {
    open: BTreeSet<String>,
    failing: BTreeSet<String>,
    last: Option<Timestamp>,
    is_known: bool,
}

impl AllGood {
    fn of(schedules: impl Iterator<Item = String>) -> Self {
        let (open, failing) = (schedules.collect(), BTreeSet::new());
        Self { open, failing, last: None, is_known: false }
    }

    fn hear(&mut self, report: &Report) {
        let good = report.is_good() && !report.hosts.is_empty();
        let schedule = report.schedule.as_ref().filter(|name| self.open.contains(*name));
        match schedule {
            _ if self.is_known => {}
            _ if good && report.whole => (self.last, self.is_known) = (report.ended, true),
            Some(name) if good => {
                self.open.remove(name);
                self.failing.remove(name);
                (self.last, self.is_known) = (report.ended, self.open.is_empty());
            }
            Some(name) => drop(self.failing.insert(name.clone())),
            None => {}
        }
    }

    fn time(&self) -> Option<Timestamp> {
        self.last.filter(|_| self.is_known || self.failing.is_empty())
    }
}

fn seconds(time: Option<Timestamp>) -> f64 {
    time.map_or(0.0, |time| time.as_duration().as_secs_f64())
}

fn show_waiting(config: &Config) {
    for notify in &config.notify {
        // What cannot be looked at is told by who sends.
        if let Ok((waiting, _)) = Outbox::new(&config.state_dir, &notify.name).state() {
            let waiting = f64::from(u32::try_from(waiting).unwrap_or(u32::MAX));
            gauge!(WAITING, "receiver" => notify.name.clone()).set(waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use larder_fleet::night::{HostReport, LeftOut, Report};

    use super::AllGood;

    /// A run that ended at this second, of a schedule or of all hosts.
    fn run(ended: i64, schedule: Option<&str>, good: bool) -> Report {
        let left_out = LeftOut { name: "pc".to_owned(), reason: "is gone".into() };
        Report {
            schedule: schedule.map(str::to_owned),
            whole: schedule.is_none(),
            ended: Some(Timestamp::from_second(ended).unwrap()),
            hosts: vec![HostReport::of("pc".parse().unwrap())],
            left_out: if good { Vec::new() } else { vec![left_out] },
            ..Report::default()
        }
    }

    fn last_good(schedules: &[&str], runs: &[Report]) -> Option<i64> {
        let mut all = AllGood::of(schedules.iter().map(|name| (*name).to_owned()));
        runs.iter().rev().for_each(|run| all.hear(run));
        all.time().map(Timestamp::as_second)
    }

    #[test]
    fn all_hosts_are_as_old_as_the_schedule_whose_are_the_oldest() {
        let (nightly, noon) = (Some("nightly"), Some("noon"));
        let both = ["nightly", "noon"];
        let runs = [run(1, nightly, true), run(2, noon, true), run(3, noon, true)];
        assert_eq!(last_good(&both, &runs), Some(1));
        let runs = [run(1, nightly, true), run(2, noon, true), run(3, nightly, false)];
        assert_eq!(last_good(&both, &runs), Some(1));
        let runs = [run(1, nightly, false), run(2, noon, true)];
        assert_eq!(last_good(&both, &runs), None, "nightly never was");
        let runs = [run(1, nightly, true), run(2, nightly, true)];
        assert_eq!(last_good(&both, &runs), Some(2), "noon is new");
        let runs = [run(1, nightly, true), run(2, None, true), run(3, noon, true)];
        assert_eq!(last_good(&both, &runs), Some(2), "of all hosts, by hand");
        let part = Report { whole: false, ..run(3, None, true) };
        assert_eq!(last_good(&[], &[run(1, None, true), run(2, None, false), part]), Some(1));
    }
}
