//! `larder build`

use std::sync::Arc;

use larder_cache::record::Name;
use larder_fleet::{
    host::HostName,
    night::{self, Cancelled, NightError, Options, RunLockError, Wanted},
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
    once(context, &config, task).await
}

/// One run, and what was published is pushed.
pub(super) async fn once(context: &Context, config: &Config, task: Task) -> Result<Done, Error> {
    let night = wiring::night(config, task.publish, &context.cancel).await;
    let mut night = match night {
        Err(error) if task.publish && !context.cancel.is_cancelled() => {
            word::not_begun(config, (task.schedule.as_ref(), &error), &context.cancel).await;
            return Err(error);
        }
        night => night?,
    };
    let hosts = task.hosts.unwrap_or(night.hosts);
    night.hosts = Wanted::Without(Box::new(hosts), Box::new(task.without));
    let mut view = view::for_this_terminal();
    let Task { options, publish, json, .. } = task;
    let (mut report, ran) = word::of_run(&night, options, view.as_mut(), &context.cancel).await;
    report.schedule = task.schedule.map(|name| name.to_string());
    // Clears what is drawn before anything else is printed.
    drop(view);
    // Who found another run at work did nothing.
    if let (Some(publisher), false) = (&night.publisher, is_busy(&ran)) {
        word::tell(config, (Some(&publisher.ledger), &report), &context.cancel).await;
    }
    ran?;
    let done = report_on(&report, json);
    if publish && !config.push.to.is_empty() {
        send(context, config, &report.published()).await;
    }
    Ok(done)
}

fn is_busy(ran: &Result<(), NightError>) -> bool {
    matches!(ran, Err(NightError::Lock(RunLockError::Held { .. })))
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
async fn send(context: &Context, config: &Config, published: &[StorePath]) {
    let handed_in = wiring::queue(config).and_then(|queue| Ok(queue.add(published)?));
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
