//! Which paths the derivations that are built here need, and which derivation makes a path.
//!
//! A derivation that cannot be read is passed over: nothing can be fetched ahead for it.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::{derivation::Derivation, store_path::StorePath};
use larder_nix::{derivations, layout::StoreLayout};

use super::plan::{self, Class};

/// What must be there before these derivations are built: the outputs they use of all others. What is only
/// known by building it is left out.
pub(super) fn of(layout: &StoreLayout, build: &BTreeSet<StorePath>) -> BTreeSet<StorePath> {
    let mut wanted = BTreeMap::<StorePath, BTreeSet<String>>::new();
    let inputs = build.iter().filter_map(|path| read(layout, path));
    for (input, names) in inputs.flat_map(|derivation| derivation.input_derivations) {
        if !build.contains(&input) {
            wanted.entry(input).or_default().extend(names);
        }
    }
    let mut paths = BTreeSet::new();
    for (path, names) in wanted {
        if let Some(derivation) = read(layout, &path) {
            paths.extend(outputs(&derivation, |name| names.contains(name)));
        }
    }
    paths
}

/// What must be there for the outputs of a derivation to be there: they themselves, or, if it is built, what
/// everything that is built needs.
pub(super) fn to_have(
    layout: &StoreLayout,
    derivation: &StorePath,
    build: &BTreeSet<StorePath>,
) -> BTreeSet<StorePath> {
    let mut paths = of(layout, build);
    if !build.contains(derivation) {
        let derivation = read(layout, derivation);
        paths.extend(derivation.iter().flat_map(|derivation| outputs(derivation, |_| true)));
    }
    paths
}

/// What building a derivation of this store means.
pub fn class_of(layout: &StoreLayout, derivation: &Derivation) -> Class {
    let code = match plan::may_name_code(derivation) {
        true => code(layout, derivation),
        false => BTreeSet::new(),
    };
    Class::of(Some(derivation), &code)
}

/// The inputs of a derivation that may be somebody's code: what is fetched, and what its source is a folder of.
pub(super) fn code(layout: &StoreLayout, derivation: &Derivation) -> BTreeSet<StorePath> {
    let sources = plan::sources(derivation);
    let is_folder = |path: &&StorePath| {
        let below = layout.store_dir.display(path);
        let mut inside = sources.iter().filter_map(|source| source.strip_prefix(&below));
        inside.any(|rest| layout.real_path(path).join(rest.trim_start_matches('/')).is_dir())
    };
    let folders = derivation.input_sources.iter().filter(is_folder).cloned();
    let inputs = derivation.input_derivations.keys().filter_map(|path| read(layout, path));
    let fetched = inputs.filter(Derivation::is_fixed_output);
    let fetched = fetched.flat_map(|input| outputs(&input, |_| true).collect::<Vec<_>>());
    folders.chain(fetched).collect()
}

/// The derivations, among all that one is made from, that make these paths.
pub(super) fn makers(
    layout: &StoreLayout,
    derivation: &StorePath,
    paths: &BTreeSet<StorePath>,
) -> BTreeSet<StorePath> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::from([derivation.clone()]);
    let mut pending = vec![derivation.clone()];
    while let Some(path) = pending.pop() {
        let Some(derivation) = read(layout, &path) else { continue };
        if outputs(&derivation, |_| true).any(|output| paths.contains(&output)) {
            found.insert(path);
        }
        for input in derivation.input_derivations.into_keys() {
            if seen.insert(input.clone()) {
                pending.push(input);
            }
        }
    }
    found
}

fn read(layout: &StoreLayout, path: &StorePath) -> Option<Derivation> {
    let read = derivations::read(layout, path);
    read.inspect_err(|error| tracing::warn!(%error, "nothing is fetched ahead for it")).ok()
}

fn outputs(
    derivation: &Derivation,
    wanted: impl Fn(&String) -> bool,
) -> impl Iterator<Item = StorePath> {
    let outputs = derivation.outputs.iter().filter(move |(name, _)| wanted(name));
    outputs.filter_map(|(_, output)| output.path.clone())
}
