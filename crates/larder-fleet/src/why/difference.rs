//! How two derivations differ: in what their authors wrote, or only in what they are made from.
//!
//! Promise: pure, and symmetric but for who is who. Store paths inside of texts are compared without their hashes:
//! what they lead to is compared where it is made.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::{derivation::Derivation, package_name::PackageName, store_path::StorePath};
use serde::Serialize;

/// Characters of a value that are shown around the first difference.
const SHOWN: usize = 60;

/// One thing in which two derivations differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Difference {
    /// An attribute (a variable of its environment) has another value, around here; none where it is missing.
    Attribute {
        /// Its name; `builder`, `system` and `args` are no variables.
        name: String,
        /// Its value here.
        here: Option<String>,
        /// The server's.
        there: Option<String>,
    },
    /// A file or folder that is taken as it is has another content, or one of both does not take it.
    Source {
        /// Its name.
        name: String,
        /// The one here.
        here: Option<StorePath>,
        /// The server's.
        there: Option<StorePath>,
    },
    /// A derivation that only one of both is made from.
    Input {
        /// The one here.
        here: Option<StorePath>,
        /// The server's.
        there: Option<StorePath>,
    },
}

/// All in which two derivations differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// What is their own.
    pub own: Vec<Difference>,
    /// What they are both made from, by name, and is not the same derivation.
    pub inputs: Vec<(StorePath, StorePath)>,
}

/// Compares two derivations.
pub fn between(here: &Derivation, there: &Derivation) -> Differences {
    let mut found = Differences::default();
    let inputs = |it: &Derivation| it.input_derivations.keys().cloned().collect();
    let (pairs, alone) = matched(inputs(here), inputs(there));
    found.inputs = pairs;
    found.own.extend(sources(here, there));
    found.own.extend(attributes(here, there, &|text| without_hashes(text)));
    found.own.extend(alone.into_iter().map(|(here, there)| Difference::Input { here, there }));
    if found.own.is_empty() && found.inputs.is_empty() {
        // Nothing that they are made from explains the paths in their texts.
        found.own = attributes(here, there, &str::to_owned);
        let outputs: BTreeSet<&String> = here.outputs.keys().chain(there.outputs.keys()).collect();
        found.own.retain(|difference| match difference {
            // Where it will be follows from all else.
            Difference::Attribute { name, .. } => !outputs.contains(name),
            _ => true,
        });
    }
    found
}

/// Whether two derivations make the same, as far as that is known before: then it does not matter how.
pub fn make_the_same(here: &Derivation, there: &Derivation) -> bool {
    let paths = |it: &Derivation| -> Option<BTreeMap<String, StorePath>> {
        let each = it.outputs.iter();
        each.map(|(name, output)| Some((name.clone(), output.path.clone()?))).collect()
    };
    matches!((paths(here), paths(there)), (Some(here), Some(there)) if here == there)
}

fn sources(here: &Derivation, there: &Derivation) -> Vec<Difference> {
    let (pairs, alone) = matched(here.input_sources.clone(), there.input_sources.clone());
    let pairs = pairs.into_iter().map(|(here, there)| (Some(here), Some(there)));
    let source = |(here, there): (Option<StorePath>, Option<StorePath>)| {
        let name = here.as_ref().or(there.as_ref()).map(|path| path.name().to_owned());
        Difference::Source { name: name.unwrap_or_default(), here, there }
    };
    pairs.chain(alone).map(source).collect()
}

fn attributes(
    here: &Derivation,
    there: &Derivation,
    plain: &dyn Fn(&str) -> String,
) -> Vec<Difference> {
    let all = |it: &Derivation| {
        let mut all: BTreeMap<String, String> =
            it.variables.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
        // Repeated among the variables usually; then they are told once.
        all.insert("system".to_owned(), it.system.clone());
        all.insert("builder".to_owned(), plain(&it.builder));
        all.insert("args".to_owned(), plain(&it.arguments.join(" ")));
        all
    };
    let (here, there) = (all(here), all(there));
    let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let differing = names.into_iter().filter(|name| here.get(*name) != there.get(*name));
    differing
        .map(|name| {
            let (here, there) = excerpts(here.get(name), there.get(name));
            Difference::Attribute { name: name.clone(), here, there }
        })
        .collect()
}

type Pairs = Vec<(StorePath, StorePath)>;
type Alone = Vec<(Option<StorePath>, Option<StorePath>)>;

/// Pairs those that are called the same, with their versions or else without; the others are alone.
fn matched(here: BTreeSet<StorePath>, there: BTreeSet<StorePath>) -> (Pairs, Alone) {
    let mut ours: Vec<StorePath> = here.difference(&there).cloned().collect();
    let mut theirs: Vec<StorePath> = there.difference(&here).cloned().collect();
    let mut pairs = Vec::new();
    let wholly = |path: &StorePath| path.name().to_owned();
    let package = |path: &StorePath| PackageName::of(path).name.to_owned();
    for name in [&wholly as &dyn Fn(&StorePath) -> String, &package] {
        ours.retain(|path| match theirs.iter().position(|other| name(other) == name(path)) {
            Some(at) => {
                pairs.push((path.clone(), theirs.remove(at)));
                false
            }
            None => true,
        });
    }
    let ours = ours.into_iter().map(|path| (Some(path), None));
    let theirs = theirs.into_iter().map(|path| (None, Some(path)));
    (pairs, ours.chain(theirs).collect())
}

/// The text without the hashes of store paths.
fn without_hashes(text: &str) -> String {
    const HASH: usize = 32;
    let is_hash =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, after) = rest.split_at(at + 1);
        plain.push_str(before);
        rest = match after.split_at_checked(HASH) {
            Some((hash, after)) if after.starts_with('-') && is_hash(hash) => {
                plain.push('…');
                after
            }
            _ => after,
        };
    }
    plain.push_str(rest);
    plain
}

/// The place where both differ first, with something around it.
fn excerpts(here: Option<&String>, there: Option<&String>) -> (Option<String>, Option<String>) {
    let common = match (here, there) {
        (Some(here), Some(there)) => {
            here.chars().zip(there.chars()).take_while(|(a, b)| a == b).count()
        }
        _ => 0,
    };
    let from = common.saturating_sub(SHOWN / 2);
    let cut = |text: &String| {
        let mut part: String = text.chars().skip(from).take(SHOWN).collect();
        if from > 0 {
            part.insert(0, '…');
        }
        if text.chars().nth(from + SHOWN).is_some() {
            part.push('…');
        }
        part
    };
    (here.map(cut), there.map(cut))
}
