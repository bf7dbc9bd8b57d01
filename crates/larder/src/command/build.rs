//! `larder build`

use larder_fleet::{
    host::HostName,
    night::{Options, Wanted},
};

use crate::{
    context::{Context, report_on},
    report::{Done, Error},
    view, wiring,
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
    let report = night.run(options, view.as_mut(), &context.cancel).await;
    // Clears what is drawn before anything else is printed.
    drop(view);
    let report = report?;
    Ok(report_on(&report, arguments.json))
}
