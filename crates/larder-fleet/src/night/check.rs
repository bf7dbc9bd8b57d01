//! Evaluating every host, and building nothing.

use futures::StreamExt;
use larder_nix::{command::CancellationToken, nix::Nix};

use super::{
    evaluate::{self, Hosts, Wanted},
    progress::{Notice, Observer},
    report::{HostReport, Report},
    setup::NightError,
    source::FlakeSource,
};
use crate::ledger::Outcome;

/// Evaluations at once. Each can take some gigabytes, and one core.
const AT_ONCE: usize = 2;

/// Evaluates the hosts of a flake as it is. A host whose report has no outcome evaluates.
pub async fn check(
    nix: &Nix,
    source: &FlakeSource,
    wanted: &Wanted,
    observer: &mut dyn Observer,
    cancel: &CancellationToken,
) -> Result<Report, NightError> {
    let scratch = tempfile::Builder::new().prefix("larder-check-").tempdir();
    let scratch =
        scratch.map_err(|source| NightError::Io { path: std::env::temp_dir(), source })?;
    let stopped = |error: NightError| error.or_cancelled(cancel);
    let tree = source.in_place(&scratch.path().join("work"), cancel).await;
    let tree = tree.map_err(|error| stopped(error.into()))?;
    let hosts = evaluate::hosts(nix, &tree, wanted, cancel).await;
    let Hosts { hosts, left_out, .. } = hosts.map_err(|error| stopped(error.into()))?;
    observer.notice(Notice::Hosts(&hosts));
    let mut report = Report { left_out, ..Report::empty(&tree) };
    let evaluations = hosts.into_iter().map(|host| {
        let tree = &tree;
        async move {
            let evaluated = evaluate::host(nix, tree, (&host, None), cancel).await;
            (host, evaluated)
        }
    });
    let mut evaluations = futures::stream::iter(evaluations).buffer_unordered(AT_ONCE);
    while let Some((host, evaluated)) = evaluations.next().await {
        if cancel.is_cancelled() {
            return Err(NightError::Cancelled);
        }
        let mut of_host = HostReport::of(host);
        match evaluated {
            Ok(evaluated) => {
                observer.notice(Notice::Checked(&of_host.host));
                of_host.store_path = Some(evaluated.output);
            }
            Err(error) => {
                let message = evaluate::reason(&error);
                observer.notice(Notice::EvaluationFailed(&of_host.host, &message));
                of_host.outcome = Some(Outcome::EvaluationFailed { message });
            }
        }
        report.hosts.push(of_host);
    }
    drop(evaluations);
    report.hosts.sort_by(|one, other| one.host.cmp(&other.host));
    Ok(report)
}
