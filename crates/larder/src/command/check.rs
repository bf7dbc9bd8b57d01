//! `larder check`

use std::path::Path;

use larder_fleet::{
    host::HostName,
    night::{FlakeSource, Wanted, check},
};

use crate::{
    config::Config,
    context::{Context, report_on},
    environment,
    report::{Done, Error},
    view, wiring,
};

/// Evaluate every host, and build nothing
///
/// Without `--flake`, the flake in the current folder is checked as it is, uncommitted edits
/// included; if there is none, the configured one.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these hosts
    hosts: Vec<HostName>,

    /// The flake to check
    #[arg(long, value_name = "REF")]
    flake: Option<String>,

    /// Print the report as JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    // Whoever checks a working copy on a laptop needs no configuration there.
    let config = context.config_or_defaults()?;
    let source = FlakeSource::parse(&flake(arguments, &config)?)?;
    let nix = wiring::nix(&config, &context.cancel).await?;
    let wanted = match arguments.hosts.as_slice() {
        [] => Wanted::All,
        hosts => Wanted::Named(hosts.to_vec()),
    };
    let mut view = view::for_this_terminal();
    let report = check(&nix, &source, &wanted, view.as_mut(), &context.cancel).await;
    drop(view);
    let report = report?;
    Ok(report_on(&report, arguments.json))
}

fn flake(arguments: &Arguments, config: &Config) -> Result<String, Error> {
    let here = Path::new("flake.nix").is_file().then(|| ".".to_owned());
    let given = arguments.flake.clone().or(here);
    match given {
        Some(path) if path.starts_with('.') => environment::absolute(&path),
        Some(reference) => Ok(reference),
        None => Ok(config.build.flake.as_ref().ok_or(Error::NoFlake)?.to_string()),
    }
}
