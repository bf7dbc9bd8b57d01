//! Which paths the derivations that are built here need, and which derivation makes a path.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::{derivation::Derivation, store_path::StorePath};
use larder_nix::{
    derivations::{self, DerivationFileError},
    layout::StoreLayout,
};

/// What must be there before these derivations are built: the outputs they use of all others. What is only
/// known by building it is left out.
pub(super) fn of(
    layout: &StoreLayout,
    build: &BTreeSet<StorePath>,
) -> Result<BTreeSet<StorePath>, DerivationFileError> {
    let mut wanted = BTreeMap::<StorePath, BTreeSet<String>>::new();
    for path in build {
        for (input, names) in derivations::read(layout, path)?.input_derivations {
            if !build.contains(&input) {
                wanted.entry(input).or_default().extend(names);
            }
        }
    }
    let mut paths = BTreeSet::new();
    for (path, names) in wanted {
        paths.extend(outputs(&derivations::read(layout, &path)?, |name| names.contains(name)));
    }
    Ok(paths)
}

/// What must be there for the outputs of a derivation to be there: they themselves, or, if it is built, what
/// everything that is built needs.
pub(super) fn to_have(
    layout: &StoreLayout,
    derivation: &StorePath,
    build: &BTreeSet<StorePath>,
) -> Result<BTreeSet<StorePath>, DerivationFileError> {
    let mut paths = of(layout, build)?;
    if !build.contains(derivation) {
        paths.extend(outputs(&derivations::read(layout, derivation)?, |_| true));
    }
    Ok(paths)
}

/// The derivations, among all that one is made from, that make these paths.
pub(super) fn makers(
    layout: &StoreLayout,
    derivation: &StorePath,
    paths: &BTreeSet<StorePath>,
) -> Result<BTreeSet<StorePath>, DerivationFileError> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::from([derivation.clone()]);
    let mut pending = vec![derivation.clone()];
    while let Some(path) = pending.pop() {
        let derivation = derivations::read(layout, &path)?;
        if outputs(&derivation, |_| true).any(|output| paths.contains(&output)) {
            found.insert(path);
        }
        for input in derivation.input_derivations.into_keys() {
            if seen.insert(input.clone()) {
                pending.push(input);
            }
        }
    }
    Ok(found)
}

fn outputs(
    derivation: &Derivation,
    wanted: impl Fn(&String) -> bool,
) -> impl Iterator<Item = StorePath> {
    let outputs = derivation.outputs.iter().filter(move |(name, _)| wanted(name));
    outputs.filter_map(|(_, output)| output.path.clone())
}
