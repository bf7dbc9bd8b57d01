//! What is too big to be built beside anything else, by what it took in the runs before.
//!
//! What it needs is built first, as usual; then it has the machine for itself, with all cores that are allowed.

use std::collections::BTreeSet;

use larder_formats::{package_name::PackageName, store_path::StorePath};
use larder_nix::{
    database::{Database, DatabaseError},
    derivations,
    nix::Nix,
};

use super::{
    Limits,
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
pub(super) fn rounds(
    wanted: &Wanted<'_>,
    guard: &Guard,
    limits: Limits,
) -> Result<Vec<Big>, DatabaseError> {
    let to_build: BTreeSet<&StorePath> = wanted
        .hosts
        .iter()
        .filter_map(|host| host.plan.as_ref())
        .flat_map(|plan| &plan.build)
        .collect();
    let mut big: Vec<(usize, &StorePath)> = Vec::new();
    for path in to_build.iter().filter(|path| guard.is_big(PackageName::of(path).name)) {
        // The plan is of when the host was evaluated.
        if wanted.database.is_built(path)? != Some(true) {
            big.push((wanted.database.closure(path)?.len(), path));
        }
    }
    // What another of them needs has the smaller closure.
    big.sort();
    let mut all = Vec::new();
    for (_, path) in big {
        let read = derivations::read(wanted.nix.layout(), path);
        let inputs = read.map(|derivation| derivation.input_derivations).unwrap_or_default();
        let mut needs = BTreeSet::new();
        for input in inputs.into_keys().filter(|input| to_build.contains(input)) {
            if wanted.database.is_built(&input)? != Some(true) {
                needs.insert(input);
            }
        }
        let mut rounds = Vec::new();
        if !needs.is_empty() {
            rounds.push(Round { what: What::Only(needs), limits, ..Round::default() });
        }
        let alone = Limits { max_jobs: limits.max_jobs.min(1), ..limits };
        let only = What::Only([path.clone()].into());
        rounds.push(Round { what: only, limits: alone, ..Round::default() });
        all.push(Big { of: path.clone(), rounds });
    }
    Ok(all)
}
