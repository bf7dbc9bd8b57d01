//! How the fleet is, in figures for `/metrics`: read from the ledger, since runs are other processes.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, Timestamp};
use larder_fleet::{
    ledger::{HostState, Ledger, LedgerError},
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

/// A host that no run has come to for so long before the last one is no longer of the fleet.
const GONE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Runs among which the last good one is looked for.
const RUNS: u32 = 500;

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
        "When a run last ended with every host good (Unix time); 0 before any."
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

/// By what it is seen that a file was written: when, and its length.
type State = Option<(SystemTime, u64)>;

/// The figures, where the ledger is another than it was.
fn look(config: &Config, before: State) -> Result<(State, Option<Figures>), LedgerError> {
    let file = ledger_file(&config.state_dir);
    // Before the reading: what is written meanwhile is read the next time.
    let state = std::fs::metadata(&file).ok().and_then(|it| Some((it.modified().ok()?, it.len())));
    if state == before && state.is_some() {
        return Ok((state, None));
    }
    let figures = match Ledger::read(&file)? {
        Some(ledger) => Figures::of(&ledger)?,
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
    fn of(ledger: &Ledger) -> Result<Self, LedgerError> {
        let mut figures = Self { hosts: ledger.hosts()?, ..Self::default() };
        let newest = figures.hosts.iter().filter_map(|host| Some(host.last_run.as_ref()?.0)).max();
        let is_there = |host: &HostState| {
            let last = host.last_run.as_ref().map(|(time, _)| *time);
            last.zip(newest).is_none_or(|(last, newest)| newest.duration_since(last) < GONE)
        };
        figures.hosts.retain(is_there);
        let mut held = None;
        for run in ledger.runs(None, RUNS)? {
            let Some(report) = run.report.as_deref().and_then(Report::read) else { continue };
            if figures.last_end.is_none() {
                figures.last_end = report.ended;
                figures.failed = matches!(report.end, End::Failed { .. } | End::Stopped { .. });
            }
            if held.is_none() && report.update && report.end == End::Finished {
                held = Some(report.held.len());
            }
            if figures.last_good.is_none() && report.is_good() && !report.hosts.is_empty() {
                figures.last_good = report.ended;
            }
            if figures.last_good.is_some() && held.is_some() {
                break;
            }
        }
        figures.held = held.unwrap_or(0);
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
