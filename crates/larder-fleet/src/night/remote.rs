//! Realising with remote builders.
//!
//! A build that its builder lost is not a build that failed: it is tried again, as is what nobody was left for, while
//! somebody goes or comes. Hosts for which something failed by itself are left out of that.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::store_path::StorePath;
use larder_nix::{
    command::{CancellationToken, CommandError},
    database::{Database, DatabaseError},
    derivations,
    nix::Nix,
};

use super::{
    build::{self, BuildError, Realised, Work},
    evaluate::Evaluated,
    progress::Observer,
};
use crate::{
    builders::{Roster, Shared},
    ledger::FailureKind,
};

/// What is said where nobody is there, or a machine is not what it is said to be (to 2.28, and since).
const NOBODY: [&str; 3] = ["is required to build", "Required system: ", "Required features: "];

/// What is said of a failure that another machine need not have, besides.
const FULL: &str = "No space left on device";

/// Realises all these hosts, with the builders that answer, if any are configured.
pub(super) async fn realise<'a>(
    (nix, database): (&'a Nix, &'a Database),
    roster: Option<&mut Roster<'_>>,
    hosts: &'a [Evaluated],
    work: Work<'a>,
) -> Result<Realised, BuildError> {
    let Some(roster) = roster else {
        return build::realise(nix, database, hosts, work).await;
    };
    let Work { limits, guard, roots, log, observer, cancel, .. } = work;
    roster.refresh((observer, cancel)).await;
    let shared = Shared::new(observer, roster.names());
    let (mut all, mut open, mut emulates) = (Realised::default(), hosts.to_vec(), false);
    for _ in 0..roster.most_tries() {
        roster.begin_try();
        let settings = roster.settings(emulates);
        let (observer, mut teller) = (&mut &shared, &shared);
        let work = Work { limits, guard, roots, log, settings: &settings, observer, cancel };
        let realised = tokio::select! {
            realised = build::realise(nix, database, &open, work) => realised?,
            never = roster.keep(&mut teller, cancel) => never,
        };
        let machines = losers(&realised, &shared);
        let lacked_somebody = realised.errors.iter().any(|error| names_nobody(error));
        all = all.and(realised, database)?;
        open = still_open(open, &all, &shared, database)?;
        if open.is_empty() || all.stopped.is_some() {
            break;
        }
        let lost = all.failed.keys().filter(|path| is_lost(path, &all, &shared));
        let needed = || systems_needed((nix, database), &open, lost.cloned());
        let here = limits.max_jobs > 0;
        let meeting = meet(roster, &machines, (here, needed), (&mut teller, cancel));
        tokio::select! {
            met = meeting => met?,
            () = guard.over() => {
                all.end_for(&open, &guard.too_late());
                break;
            }
            () = cancel.cancelled() => {
                return Err(CommandError::Cancelled { program: "nix-store".to_owned() }.into());
            }
        }
        let has_another = |machine: &String| roster.has_another(machine, here);
        if roster.has_changed() || machines.keys().any(has_another) {
            continue;
        }
        // At last, what a native is there for and does not build.
        if emulates || !lacked_somebody || roster.settings(true) == settings {
            break;
        }
        emulates = true;
    }
    let lost = all.failed.keys().filter(|path| is_lost(path, &all, &shared));
    for path in lost.cloned().collect::<Vec<_>>() {
        all.failed.entry(path).and_modify(|failed| failed.kind = FailureKind::Transient);
    }
    Ok(all)
}

/// Between two tries: who is still there is found out, and who was lost is waited for where something is left for it.
async fn meet(
    roster: &mut Roster<'_>,
    losers: &BTreeMap<String, bool>,
    (here, needed): (bool, impl FnOnce() -> Result<BTreeSet<String>, DatabaseError>),
    (teller, cancel): (&mut dyn Observer, &CancellationToken),
) -> Result<(), DatabaseError> {
    roster.take_stock(losers, (&mut *teller, cancel)).await;
    if roster.has_lost() {
        roster.wait(&needed()?, here, (teller, cancel)).await;
    }
    Ok(())
}

/// The machines on which builds were lost, and whether by what they are.
fn losers(realised: &Realised, shared: &Shared<'_>) -> BTreeMap<String, bool> {
    let mut machines = BTreeMap::new();
    for derivation in realised.failed.keys().filter(|path| is_lost(path, realised, shared)) {
        let spoiled = sayings(derivation, realised).any(|text| is_excused(text));
        *machines.entry(shared.machine(derivation).unwrap_or_default()).or_insert(false) |= spoiled;
    }
    machines
}

/// The hosts that may still come to be: nothing that they need failed by itself, and their time is not over.
fn still_open(
    hosts: Vec<Evaluated>,
    realised: &Realised,
    shared: &Shared<'_>,
    database: &Database,
) -> Result<Vec<Evaluated>, DatabaseError> {
    let by_itself = realised.failed.keys().filter(|path| !is_lost(path, realised, shared));
    let by_itself: BTreeSet<&StorePath> = by_itself.collect();
    let mut open = Vec::new();
    for host in hosts {
        let needed = database.closure(&host.derivation)?;
        let is_open = !realised.unfinished.contains_key(&host.host)
            && !needed.iter().any(|path| by_itself.contains(path));
        if is_open && !database.is_valid(&host.output)? {
            open.push(host);
        }
    }
    Ok(open)
}

/// The systems of what is still to be built for these hosts: of what was planned, and of what was lost.
fn systems_needed(
    (nix, database): (&Nix, &Database),
    hosts: &[Evaluated],
    lost: impl Iterator<Item = StorePath>,
) -> Result<BTreeSet<String>, DatabaseError> {
    let mut to_build: BTreeSet<StorePath> = lost.collect();
    for host in hosts {
        match &host.plan {
            Some(plan) => to_build.extend(plan.build.iter().cloned()),
            None => to_build.extend(database.closure(&host.derivation)?),
        }
    }
    let mut systems = BTreeSet::new();
    for path in to_build.iter().filter(|path| path.is_derivation()) {
        if database.is_built(path)? != Some(true) {
            let read = derivations::read(nix.layout(), path);
            systems.extend(read.map(|derivation| derivation.system));
        }
    }
    Ok(systems)
}

/// Whether a derivation failed on another machine, and not by its own doing: of one that ran to its end there, Nix says
/// `build of '…' on '…' failed: …`. (By these words since 2.4; where they are others, a build that failed is tried again
/// elsewhere.)
fn is_lost(derivation: &StorePath, realised: &Realised, shared: &Shared<'_>) -> bool {
    let is_away = shared.machine(derivation).is_some_and(|machine| !machine.is_empty());
    let of = format!("{derivation}' on '");
    let ran_to_its_end =
        |error: &String| error.contains(&of) && error.contains("failed") && !is_excused(error);
    let lines = realised.failed.get(derivation).into_iter().flat_map(|failed| &failed.lines);
    let is_by_itself =
        realised.errors.iter().any(ran_to_its_end) && !lines.into_iter().any(|it| is_excused(it));
    is_away && !is_by_itself
}

/// All that was said of a derivation's failure.
fn sayings<'a>(derivation: &StorePath, realised: &'a Realised) -> impl Iterator<Item = &'a String> {
    let name = derivation.to_string();
    let lines = realised.failed.get(derivation).into_iter().flat_map(|failed| &failed.lines);
    realised.errors.iter().filter(move |error| error.contains(&name)).chain(lines)
}

fn is_excused(text: &str) -> bool {
    names_nobody(text) || text.contains(FULL)
}

fn names_nobody(text: &str) -> bool {
    NOBODY.iter().any(|words| text.contains(words))
}
