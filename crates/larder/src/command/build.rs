//! `larder build`

use std::sync::Arc;

use larder_cache::record::Name;
use larder_fleet::{
    host::HostName,
    night::{self, Cancelled, NightError, Options, Wanted},
};
use larder_formats::store_path::StorePath;

use crate::{
    config::Config,
    context::{Context, report_on},
    pusher,
    report::{Done, Error},
    view::{self, note, push::Board},
    wiring, word,
};

/// Build every host of the fleet, and publish what built
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these hosts
    hosts: Vec<HostName>,

    /// Update the flake's lock file first
    #[arg(long)]
    update: bool,

    /// Publish nothing: no revision, no `.rev` file, no root
    #[arg(long)]
    no_publish: bool,

    /// Evaluate, and say what would be built and downloaded; build nothing
    #[arg(long)]
    dry_run: bool,

    /// Leave this host out of the run; may be repeated
    #[arg(long, value_name = "HOST")]
    without: Vec<HostName>,

    /// End the run under way, whoever started it; what was built so far is kept
    #[arg(
        long,
        conflicts_with_all = ["hosts", "update", "no_publish", "dry_run", "without", "json"]
    )]
    cancel: bool,

    /// Print the report as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// What a run does.
pub(super) struct Task {
    /// The hosts; those that the configuration says, if nothing is said here.
    pub(super) hosts: Option<Wanted>,
    /// Hosts that are left out.
    pub(super) without: Wanted,
    /// The schedule that says so; none for a run by hand.
    pub(super) schedule: Option<Name>,
    pub(super) options: Options,
    pub(super) publish: bool,
    pub(super) json: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    if arguments.cancel {
        return cancel(&config).await;
    }
    let Arguments { hosts, without, update, dry_run, .. } = arguments;
    let task = Task {
        hosts: Some(hosts.clone()).filter(|hosts| !hosts.is_empty()).map(Wanted::Named),
        without: Wanted::Named(without.clone()),
        schedule: None,
        options: Options { update: *update, dry_run: *dry_run },
        publish: !arguments.no_publish && !dry_run,
        json: arguments.json,
    };
    let (done, published) = once(context, &config, task, |_| ()).await;
    push(context, &config, published).await;
    done
}

/// One run, which is told as soon as it is over; and what it has published, which is to be pushed.
pub(super) async fn once(
    context: &Context,
    config: &Config,
    task: Task,
    over: impl FnOnce(&Result<Done, Error>),
) -> (Result<Done, Error>, Option<Vec<StorePath>>) {
    let cancel = &context.cancel;
    let why = |error: Error| if cancel.is_cancelled() { error.cancelled() } else { error };
    let mut night = match wiring::night(config, task.publish, cancel).await {
        Ok(night) => night,
        Err(error) => {
            let done = Err(why(error));
            over(&done);
            if let (Err(error), true) = (&done, task.publish && !cancel.is_cancelled()) {
                word::not_begun(config, (task.schedule.as_ref(), error), cancel).await;
            }
            return (done, None);
        }
    };
    let hosts = task.hosts.unwrap_or(night.hosts);
    night.hosts = Wanted::Without(Box::new(hosts), Box::new(task.without));
    let mut view = view::for_this_terminal();
    let (mut report, ran) = word::of_run(&night, task.options, view.as_mut(), cancel).await;
    report.schedule = task.schedule.map(|name| name.to_string());
    // Clears what is drawn before anything else is printed.
    drop(view);
    let is_busy = is_busy(&ran);
    let done = ran.map(|()| report_on(&report, task.json)).map_err(|error| why(error.into()));
    over(&done);
    let Some(publisher) = &night.publisher else { return (done, None) };
    // Who found another run at work did nothing.
    if !is_busy {
        word::tell(config, (Some(&publisher.ledger), &report), cancel).await;
    }
    let published = done.is_ok().then(|| report.published());
    (done, published)
}

fn is_busy(ran: &Result<(), NightError>) -> bool {
    matches!(ran, Err(NightError::Busy { .. }))
}

async fn cancel(config: &Config) -> Result<Done, Error> {
    match night::cancel(&night::lock_file(&config.state_dir)).await? {
        Cancelled::Nothing => note("no run is under way"),
        Cancelled::Ended { holder } => {
            note(&format!("the run under way ({holder}) has ended; what was built so far is kept"));
        }
    }
    Ok(Done::Well)
}

/// Pushes what was published. What does not get there now is kept and sent later, so that it is no failure of
/// the build.
pub(super) async fn push(context: &Context, config: &Config, published: Option<Vec<StorePath>>) {
    let Some(published) = published.filter(|_| !config.push.to.is_empty()) else { return };
    let handed_in = wiring::queue(config).and_then(|queue| Ok(queue.add(&published)?));
    if let Err(error) = handed_in {
        note(&format!("what was built is not pushed: {error}"));
        return;
    }
    let work = match pusher::Work::begin(config) {
        Ok(work) => Arc::new(work),
        Err(error @ Error::PushedElsewhere(_)) => {
            return note(&format!("pushing what was built: {error}"));
        }
        Err(error) => {
            return note(&format!("what was built is kept to be pushed, for now: {error}"));
        }
    };
    let sending = async {
        work.hand_out()?;
        for mut round in work.rounds() {
            let name = round.cache().name.to_string();
            let board = Board::new(&format!("pushing to {name}"), 0);
            let pass = round.pass(&mut None, &board.observer()).await;
            drop(board);
            note(&view::queue::passed(&name, &pass));
        }
        Ok::<_, Error>(())
    };
    tokio::select! {
        sent = sending => if let Err(error) = sent {
            note(&format!("what was built is kept to be pushed later: {error}"));
        },
        () = context.cancel.cancelled() => note("what was not pushed yet is kept to be pushed later"),
    }
}
