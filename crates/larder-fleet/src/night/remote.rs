//! Realising with remote builders.
//!
//! A build that its builder lost is not a build that failed: it is tried again with those that are left.

use std::collections::BTreeMap;

use larder_formats::store_path::StorePath;
use larder_nix::{
    database::{Database, DatabaseError},
    nix::Nix,
};

use super::{
    build::{self, BuildError, Realised, Work},
    evaluate::Evaluated,
};
use crate::{
    builders::{Builders, Shared, Watch},
    ledger::FailureKind,
};

/// What is said of a failure that another machine need not have: its disk is full, or it is not what it is said to be
/// (to 2.28, and since).
const NOT_THE_BUILDS: [&str; 4] =
    ["No space left on device", "is required to build", "Required system: ", "Required features: "];

/// Realises all these hosts, with the builders that answer, if any are configured.
pub(super) async fn realise<'a>(
    (nix, database): (&'a Nix, &'a Database),
    builders: Option<&Builders>,
    hosts: &'a [Evaluated],
    work: Work<'a>,
) -> Result<Realised, BuildError> {
    let Some(builders) = builders.filter(|_| !hosts.is_empty()) else {
        return build::realise(nix, database, hosts, work).await;
    };
    let Work { limits, guard, roots, log, observer, cancel, .. } = work;
    let mut watch = Watch::begin(builders, nix, observer, cancel).await?;
    let shared = Shared::new(observer, watch.names());
    let mut all = Realised::default();
    // Each further try has one builder less, or one that came back.
    for _ in 0..=builders.all.len() {
        let settings = watch.settings();
        let (observer, mut teller) = (&mut &shared, &shared);
        let work = Work { limits, guard, roots, log, settings: &settings, observer, cancel };
        let realised = tokio::select! {
            realised = build::realise(nix, database, hosts, work) => realised?,
            never = watch.keep(&mut teller, cancel) => never,
        };
        all = after(all, realised, database)?;
        let mut again = false;
        for (machine, by_itself) in failed_away(&all, &shared) {
            let told = watch.is_worth_another_try(&machine, by_itself, (&mut teller, cancel));
            again |= told.await && watch.has_another(&machine, limits.max_jobs > 0);
        }
        if !again || !all.unfinished.is_empty() || cancel.is_cancelled() {
            break;
        }
        watch.forgive();
    }
    let errors = std::mem::take(&mut all.errors);
    for (derivation, failed) in &mut all.failed {
        let away = shared.machine(derivation).is_some_and(|machine| !machine.is_empty());
        if away && !failed_by_itself(derivation, &failed.lines, &errors) {
            failed.kind = FailureKind::Transient;
        }
    }
    all.errors = errors;
    Ok(all)
}

/// The machines on which something failed, and whether all that failed there failed by its own doing.
fn failed_away(realised: &Realised, shared: &Shared<'_>) -> BTreeMap<String, bool> {
    let mut machines = BTreeMap::new();
    for (derivation, failed) in &realised.failed {
        if let Some(machine) = shared.machine(derivation).filter(|machine| !machine.is_empty()) {
            let by_itself = failed_by_itself(derivation, &failed.lines, &realised.errors);
            machines.entry(machine).and_modify(|all| *all &= by_itself).or_insert(by_itself);
        }
    }
    machines
}

/// Nix says of a build that ran to its end on another machine, `build of '…' on '…' failed: …`. (By these words since
/// 2.4; where they are others, a build that failed is tried once more for each builder.)
fn failed_by_itself(derivation: &StorePath, lines: &[String], errors: &[String]) -> bool {
    let of = format!("{derivation}' on '");
    let mut said = errors.iter().filter(|error| error.contains(&of) && error.contains("failed"));
    let excused = |text: &String| NOT_THE_BUILDS.iter().any(|words| text.contains(words));
    said.next().is_some_and(|said| !excused(said)) && !lines.iter().any(excused)
}

/// What both came to: failed is what still is not there.
fn after(before: Realised, now: Realised, database: &Database) -> Result<Realised, DatabaseError> {
    let retries = before.retries.into_iter().chain(now.retries).collect();
    let (built, fetched) = (before.built + now.built, before.fetched + now.fetched);
    let mut all = Realised { built, fetched, retries, ..now };
    for (derivation, failed) in before.failed {
        let mut outputs = database.outputs(&derivation)?.into_values();
        let valid = outputs.try_fold(true, |all, output| Ok(all && database.is_valid(&output)?))?;
        if !valid {
            all.failed.entry(derivation).or_insert(failed);
        }
    }
    Ok(all)
}
