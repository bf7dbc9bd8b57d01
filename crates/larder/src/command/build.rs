//! `larder build`

use std::sync::Arc;

use larder_fleet::{
    host::HostName,
    night::{Options, Wanted},
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

    /// Print the report as JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    let publish = !arguments.no_publish && !arguments.dry_run;
    let mut night = wiring::night(&config, publish, &context.cancel).await?;
    if !arguments.hosts.is_empty() {
        night.hosts = Wanted::Named(arguments.hosts.clone());
    }
    let options = Options { update: arguments.update, dry_run: arguments.dry_run };
    let mut view = view::for_this_terminal();
    let (report, ran) = word::of_run(&night, options, view.as_mut(), &context.cancel).await;
    // Clears what is drawn before anything else is printed.
    drop(view);
    word::keep(&night, &report);
    word::send(&config, &night, &report, &context.cancel).await;
    ran?;
    let done = report_on(&report, arguments.json);
    if publish && !config.push.to.is_empty() {
        send(context, &config, &report.published()).await;
    }
    Ok(done)
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
