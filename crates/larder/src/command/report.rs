//! `larder report`

use larder_fleet::{
    ledger::{Ledger, Run},
    night::{Report, ledger_file},
};

use crate::{
    context::{Context, say},
    report::{Done, Error},
    view,
};

/// Runs that are listed.
const LISTED: u32 = 30;

/// Show what a run came to: the last one, or any of the last 500
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run's number; the last run without
    run: Option<i64>,

    /// The last runs, a line for each
    #[arg(long, conflicts_with = "run")]
    list: bool,

    /// Print JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Result<Done, Error> {
    let config = context.config()?;
    let ledger = Ledger::read(&ledger_file(&config.state_dir))?.ok_or(Error::NoRuns)?;
    if arguments.list {
        say(&view::report::list(&ledger.runs(None, LISTED)?, arguments.json));
        return Ok(Done::Well);
    }
    let found = match arguments.run {
        Some(number) => ledger.run(number)?.ok_or(Error::NoSuchRun(number))?,
        None => last(&ledger)?,
    };
    let number = found.number;
    let report = found.report.as_deref().and_then(Report::read).ok_or(Error::NoReport(number))?;
    say(&if arguments.json { view::json(&report) } else { view::kept(&report) });
    Ok(Done::Well)
}

/// The last run that has a report; the last of all, where none has.
fn last(ledger: &Ledger) -> Result<Run, Error> {
    let mut runs = ledger.runs(None, LISTED)?;
    let at = runs.iter().position(|run| run.report.is_some()).unwrap_or(0);
    if runs.is_empty() { Err(Error::NoRuns) } else { Ok(runs.swap_remove(at)) }
}
