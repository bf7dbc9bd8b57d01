//! Word of a run: its report, kept and shown.

use larder_fleet::night::{Night, NightError, Observer, Options, Recorder, Report};
use larder_nix::command::CancellationToken;

use crate::{clock, view::note};

/// Does a run. However it ended, its report is kept, if it came so far that it is noted in the ledger.
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

/// Keeps a report. What was done is done, whether or not that can be told later.
pub(crate) fn keep(night: &Night, report: &Report) {
    if let (Some(publisher), Some(run)) = (&night.publisher, report.run)
        && let Err(error) = publisher.ledger.keep_report(run, clock::now(), &report.for_keeping())
    {
        note(&format!("the report is not kept: {error}"));
    }
}
