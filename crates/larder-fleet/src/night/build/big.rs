//! What is too big to be built beside anything else, by what it took in the runs before.
//!
//! What it needs is built first, as usual; then it has the machine for itself, with all cores that are allowed.

use std::collections::BTreeSet;

use larder_formats::{package_name::PackageName, store_path::StorePath};
use larder_nix::{command::CancellationToken, database::Database, derivations, nix::Nix};

use super::{
    BuildError, Limits,
    plan::plan,
    rounds::{Round, What},
};
use crate::night::{evaluate::Evaluated, guard::Guard};

/// Whose derivations are meant.
pub(super) struct Wanted<'a> {
    pub nix: &'a Nix,
    pub database: &'a Database,
    pub hosts: &'a [Evaluated],
}

/// One that is too big, and its rounds: what it needs, and then itself.
pub(super) struct Big {
    pub of: StorePath,
    pub rounds: Vec<Round>,
}

/// What is too big, in the order in which they need one another.
pub(super) async fn rounds(
    wanted: &Wanted<'_>,
    guard: &Guard,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<Vec<Big>, BuildError> {
    let mut to_build = BTreeSet::new();
    for host in wanted.hosts {
        to_build.extend(plan(wanted.nix, &host.derivation, cancel).await?.build);
    }
    let is_big = |path: &&StorePath| {
        let peak = guard.remembered(PackageName::of(path).name);
        peak.is_some_and(|bytes| guard.is_big(bytes))
    };
    let mut big: Vec<(usize, &StorePath)> = Vec::new();
    for path in to_build.iter().filter(is_big) {
        big.push((wanted.database.closure(path)?.len(), path));
    }
    // What another of them needs has the smaller closure.
    big.sort();
    let big = big.into_iter().map(|(_, path)| {
        let needs = derivations::read(wanted.nix.layout(), path)
            .map(|derivation| derivation.input_derivations.into_keys().collect::<BTreeSet<_>>())
            .unwrap_or_default();
        let needs: BTreeSet<StorePath> = needs.intersection(&to_build).cloned().collect();
        let mut rounds = Vec::new();
        if !needs.is_empty() {
            rounds.push(Round { what: What::Only(needs), limits, ..Round::default() });
        }
        let alone = Limits { max_jobs: limits.max_jobs.min(1), ..limits };
        let only = What::Only([path.clone()].into());
        rounds.push(Round { what: only, limits: alone, ..Round::default() });
        Big { of: path.clone(), rounds }
    });
    Ok(big.collect())
}
