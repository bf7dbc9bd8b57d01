//! Word of a run: its report, kept, and told to those who want to hear of it.
//!
//! Nothing here fails a run. Its end waits for all receivers at once, for no longer than the time limit of the slowest; and
//! before, for each some seconds at most, should another process just be deciding what it is to be told.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use jiff::Timestamp;
use larder_cache::record::Name;
use larder_fleet::{
    ledger::Ledger,
    night::{Night, NightError, Observer, Options, Recorder, Report, ledger_file},
    notify::{Delivery, Outbox, OutboxError, Sender, Standing, Wants},
};
use larder_nix::command::CancellationToken;
use tokio::task::{JoinSet, block_in_place};

use crate::{
    clock,
    config::{Config, Notify},
    heartbeat,
    report::Error,
    view::{self, note},
    wiring,
};

/// How often a server looks whether there is something to say or to send.
const LOOK: Duration = Duration::from_secs(5);

/// Does a run. However it ends, there is a report of it.
pub(crate) async fn of_run(
    night: &Night,
    options: Options,
    observer: &mut dyn Observer,
    cancel: &CancellationToken,
) -> (Report, Result<(), NightError>) {
    let mut recorder = Recorder::new(observer, clock::now);
    match night.run(options, &mut recorder, cancel).await {
        Ok(report) => (recorder.report(night, Ok(report)), Ok(())),
        Err(error) => (recorder.report(night, Err(&error)), Err(error)),
    }
}

/// Notes a run that failed before it could begin, for want of Nix or a key, say, and tells of it.
pub(crate) async fn not_begun(
    config: &Config,
    (schedule, error): (Option<&Name>, &Error),
    cancel: &CancellationToken,
) {
    // Who builds nothing has nobody to tell.
    let Some(flake) = &config.build.flake else { return };
    let now = clock::now();
    let ledger = Ledger::open(&ledger_file(&config.state_dir)).ok();
    let number = ledger.as_ref().map(|ledger| ledger.begin_run(now, flake.as_str()));
    let report = Report {
        run: number.and_then(Result::ok),
        schedule: schedule.map(Name::to_string),
        flake: flake.to_string(),
        began: Some(now),
        ended: Some(now),
        ..Report::failed_to_begin(error.to_string())
    };
    tell(config, (ledger.as_ref(), &report), cancel).await;
}

/// Keeps the report of a run, and tells of it.
pub(crate) async fn tell(
    config: &Config,
    (ledger, report): (Option<&Ledger>, &Report),
    cancel: &CancellationToken,
) {
    let report = report.shortened();
    if let Some(ledger) = ledger {
        keep(ledger, &report);
    }
    if !config.notify.is_empty() {
        let last_end = ledger.and_then(|ledger| ledger.last_end().ok()).flatten();
        send(config, (last_end, &report), cancel).await;
    }
}

/// Keeps a report, if the run came so far that it is noted in the ledger. What was done is done, whether or not it can be
/// told later.
fn keep(ledger: &Ledger, report: &Report) {
    if let Some(run) = report.run
        && let Err(error) = ledger.keep_report(run, clock::now(), &report.write())
    {
        note(&format!("the report is not kept: {error}"));
    }
}

/// Tells all receivers what has changed with a run, and what they were not told before. What does not get there now is kept
/// and sent later.
async fn send(
    config: &Config,
    (last_end, report): (Option<Timestamp>, &Report),
    cancel: &CancellationToken,
) {
    let standing = Standing { report: Some(report), last_end, now: clock::now() };
    for notify in &config.notify {
        let wants = wiring::notify::wants(config, notify);
        let add = || outbox(config, notify).add(&wants, standing, || Some(report.clone()));
        let added = block_in_place(add);
        if let Err(error) = added {
            note(&format!("{} is not told of this run: {error}", notify.name));
        }
    }
    for (name, delivered) in deliver(config, &config.notify, cancel).await {
        if let Some(text) = view::notify::delivered(&name, &delivered) {
            note(&text);
        }
    }
}

fn outbox(config: &Config, notify: &Notify) -> Outbox {
    Outbox::new(&config.state_dir, &notify.name)
}

/// What became of a receiver's messages, or why nothing could.
pub(crate) type Delivered = Result<Delivery, Error>;

/// Sends what waits for these, to all at once.
async fn deliver<'a>(
    config: &Config,
    receivers: impl IntoIterator<Item = &'a Notify>,
    cancel: &CancellationToken,
) -> BTreeMap<String, Delivered> {
    let mut delivered = BTreeMap::new();
    let mut tasks = JoinSet::new();
    for notify in receivers {
        let (outbox, name) = (outbox(config, notify), notify.name.clone());
        match wiring::notify::receiver(notify).and_then(|to| Ok((to, wiring::notify::sender()?))) {
            Ok((receiver, sender)) => {
                let cancel = cancel.clone();
                tasks.spawn(async move {
                    let sent = outbox.deliver(&receiver, &sender, clock::now, &cancel).await;
                    (name, sent.map_err(Error::from))
                });
            }
            Err(error) => drop(delivered.insert(name, Err(error))),
        }
    }
    delivered.extend(tasks.join_all().await);
    delivered
}

/// Sends what waits, and tells that no run ends any more and how all is, until told to stop.
pub(crate) async fn stand_by(config: Config, stop: CancellationToken) {
    let (mut told, mut untold) = (BTreeMap::new(), BTreeMap::new());
    let mut fleet = Fleet::of(&config);
    loop {
        match block_in_place(|| fleet.look(clock::now())) {
            Err(error) => {
                once(&mut untold, "", &format!("nobody is told how the fleet is: {error}"));
            }
            Ok(results) => results.into_iter().for_each(|(name, added)| match added {
                Ok(_) => drop(untold.remove(&name)),
                Err(error) => {
                    let text = format!("{name} is not told how the fleet is: {error}");
                    once(&mut untold, &name, &text);
                }
            }),
        }
        let waits = |notify: &&Notify| {
            let outbox = outbox(&config, notify);
            outbox.is_due(clock::now()) && outbox.waits()
        };
        for (name, delivered) in deliver(&config, config.notify.iter().filter(waits), &stop).await {
            match view::notify::delivered(&name, &delivered) {
                Some(text) => once(&mut told, &name, &text),
                None => drop(told.remove(&name)),
            }
        }
        if tokio::time::timeout(LOOK, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// What goes wrong again and again is told once.
fn once(told: &mut BTreeMap<String, String>, whose: &str, text: &str) {
    if told.get(whose).is_none_or(|before| before != text) {
        tracing::warn!("{}", view::plain(text));
        told.insert(whose.to_owned(), text.to_owned());
    }
}

/// Whether there was something to say to each receiver, or why that cannot be said.
type Added = Vec<(String, Result<bool, OutboxError>)>;

/// The fleet, while no run ends.
struct Fleet<'c> {
    config: &'c Config,
    wants: Vec<(&'c Notify, Wants)>,
    ledger: heartbeat::State,
    last_end: Option<Timestamp>,
}

impl<'c> Fleet<'c> {
    fn of(config: &'c Config) -> Self {
        let wants = |notify| (notify, wiring::notify::wants(config, notify));
        let wants = config.notify.iter().map(wants).collect();
        Self { config, wants, ledger: None, last_end: None }
    }

    /// Keeps what there is to say now. The ledger is read where it has changed, and reports where a digest is due.
    fn look(&mut self, now: Timestamp) -> Result<Added, Error> {
        let state = heartbeat::state(self.config);
        if state.is_none() || state != self.ledger {
            let ledger = Ledger::read(&ledger_file(&self.config.state_dir))?;
            let Some(ledger) = ledger else { return Ok(Vec::new()) };
            self.last_end = ledger.last_end()?;
            self.ledger = state;
        }
        let standing = Standing { report: None, last_end: self.last_end, now };
        let add = |(notify, wants): &(&Notify, Wants)| {
            let last = || last_report(self.config);
            (notify.name.clone(), outbox(self.config, notify).add(wants, standing, last))
        };
        Ok(self.wants.iter().map(add).collect())
    }
}

/// The newest report that can be read.
fn last_report(config: &Config) -> Option<Report> {
    let mut last = None;
    let read = |text: &str| {
        last = Report::read(text);
        if last.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let ledger = Ledger::read(&ledger_file(&config.state_dir)).ok()??;
    ledger.each_report(read).ok()?;
    last
}

/// Sends a test message, and nothing else.
pub(crate) async fn test(
    notify: &Notify,
    sender: &Sender,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let now = clock::now();
    let receiver = wiring::notify::receiver(notify)?;
    let message =
        larder_fleet::notify::Message::test(format!("larder-{}-test", now.as_second()), now);
    Ok(sender.send(&receiver, &message, receiver.timeout, cancel).await?)
}
