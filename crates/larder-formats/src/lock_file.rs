//! `flake.lock`: which revision of every input a flake is built from.
//!
//! Promise: `follows` are resolved as Nix resolves them, circles among them are errors, and the
//! original text is kept, so that what is passed on is exactly what was read. Versions 5 to 7, the
//! ones Nix from 2.4 on writes. Whether an input can still be fetched is not known here.

mod hold;
mod resolve;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::{HashError, Sha256};
pub use hold::moved;
use resolve::Resolver;

/// A lock file, read and resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockFile {
    text: String,
    root_inputs: BTreeMap<String, LockedInput>,
    nodes: BTreeMap<String, LockedInput>,
}

/// One input, as it is locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockedInput {
    /// The name of its node in the lock file, such as `nixpkgs_2`.
    pub node: String,
    /// The commit, where it has one: 40 (or 64) hexadecimal digits.
    pub rev: Option<String>,
    /// The hash of its tree's NAR, by which caches are asked for it.
    pub nar_hash: Option<Sha256>,
    /// When it was committed or made, in seconds since 1970.
    pub last_modified: Option<i64>,
    /// The kind of fetcher, Nix's `type`: `github`, `git`, `path`, `tarball` and so on.
    /// `self` for an input that follows the flake itself.
    pub kind: String,
    /// A text for people, like a flake reference: `github:owner/repo/rev`, `git+url?rev=…`.
    pub description: String,
}

/// What became of one input between two lock files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputChange {
    /// The input's name in the flake.
    pub name: String,
    /// What it was; `None` when it is new.
    pub from: Option<LockedInput>,
    /// What it is; `None` when it was removed.
    pub to: Option<LockedInput>,
}

/// Why a text is not a usable lock file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockFileError {
    /// It is not the JSON of a lock file.
    #[error("not a flake.lock: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A version this program does not know.
    #[error("flake.lock has version {0}; versions 5 to 7 are understood")]
    Version(u64),
    /// A node is named that is not there.
    #[error("flake.lock: node {0:?} is named, but is not there")]
    NoNode(String),
    /// A `follows` leads to an input that is not there.
    #[error("flake.lock: input {input:?} of node {node:?} is followed, but is not there")]
    NoInput {
        /// The node that should have the input.
        node: String,
        /// The input's name.
        input: String,
    },
    /// A `follows` leads back to itself.
    #[error("flake.lock: input {input:?} of node {node:?} follows itself, in a circle")]
    Circle {
        /// The node that has the input.
        node: String,
        /// The input's name.
        input: String,
    },
    /// A chain of `follows` longer than any real one.
    #[error("flake.lock: input {input:?} of node {node:?} follows others more than {limit} deep")]
    TooDeep {
        /// The node that has the input.
        node: String,
        /// The input's name.
        input: String,
        /// How many are followed.
        limit: usize,
    },
    /// A node's hash can't be read.
    #[error("flake.lock: node {node:?}: {source}")]
    NarHash {
        /// The node.
        node: String,
        /// What is wrong with its `narHash`.
        source: HashError,
    },
    /// The flake has no input named `nixpkgs`.
    #[error("the flake has no input named nixpkgs (it has: {0})")]
    NoNixpkgs(String),
}

impl LockFile {
    /// Reads a lock file and resolves its `follows`.
    ///
    /// # Errors
    /// [`LockFileError`].
    pub fn parse(text: &str) -> Result<Self, LockFileError> {
        // The version first: a later one may have another shape altogether.
        let VersionOnly { version } = serde_json::from_str(text)?;
        if !(5..=7).contains(&version) {
            return Err(LockFileError::Version(version));
        }
        let graph: Graph = serde_json::from_str(text)?;
        let root = graph.node(&graph.root)?;
        let mut nodes = BTreeMap::new();
        for (name, node) in &graph.nodes {
            if *name != graph.root {
                nodes.insert(name.clone(), locked_input(name, node)?);
            }
        }
        let mut resolver = Resolver::new(&graph);
        let mut root_inputs = BTreeMap::new();
        for input in root.inputs.keys() {
            let node = resolver.input(&graph.root, input)?;
            let locked = match nodes.get(node) {
                Some(locked) => locked.clone(),
                None => locked_input(node, graph.node(node)?)?,
            };
            root_inputs.insert(input.clone(), locked);
        }
        Ok(Self { text: text.to_owned(), root_inputs, nodes })
    }

    /// The text that was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The flake's own inputs by name, `follows` resolved.
    #[must_use]
    pub const fn root_inputs(&self) -> &BTreeMap<String, LockedInput> {
        &self.root_inputs
    }

    /// Every node but the flake itself, by its name in the lock file: everything that must be had
    /// to evaluate the flake.
    #[must_use]
    pub const fn all_nodes(&self) -> &BTreeMap<String, LockedInput> {
        &self.nodes
    }

    /// The flake's input named `nixpkgs`.
    ///
    /// # Errors
    /// [`LockFileError::NoNixpkgs`], which names the inputs there are.
    pub fn nixpkgs(&self) -> Result<LockedInput, LockFileError> {
        self.root_inputs.get("nixpkgs").cloned().ok_or_else(|| {
            let names: Vec<_> = self.root_inputs.keys().map(String::as_str).collect();
            LockFileError::NoNixpkgs(names.join(", "))
        })
    }
}

/// Which of the flake's own inputs differ, by name. A node that was only renamed has not changed.
#[must_use]
pub fn changes(old: &LockFile, new: &LockFile) -> Vec<InputChange> {
    let (before, after) = (&old.root_inputs, &new.root_inputs);
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| {
        let (from, to) = (before.get(name), after.get(name));
        let same = match (from, to) {
            (Some(from), Some(to)) => from.is_same_content(to),
            _ => false,
        };
        (!same).then(|| InputChange { name: name.clone(), from: from.cloned(), to: to.cloned() })
    };
    names.into_iter().filter_map(change).collect()
}

impl LockedInput {
    fn is_same_content(&self, other: &Self) -> bool {
        let renamed = Self { node: other.node.clone(), ..self.clone() };
        renamed == *other
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

#[derive(Deserialize)]
struct Graph {
    root: String,
    nodes: BTreeMap<String, Node>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    inputs: BTreeMap<String, Input>,
    locked: Option<Locked>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    /// The name of a node.
    Node(String),
    /// `follows`: names of inputs, beginning at the root.
    Follows(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Locked {
    #[serde(rename = "type")]
    kind: String,
    rev: Option<String>,
    nar_hash: Option<String>,
    last_modified: Option<i64>,
    owner: Option<String>,
    repo: Option<String>,
    url: Option<String>,
    path: Option<String>,
    dir: Option<String>,
    id: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

impl Graph {
    fn node(&self, name: &str) -> Result<&Node, LockFileError> {
        self.nodes.get(name).ok_or_else(|| LockFileError::NoNode(name.to_owned()))
    }
}

fn locked_input(name: &str, node: &Node) -> Result<LockedInput, LockFileError> {
    let Some(locked) = &node.locked else {
        // Only the flake itself is not locked.
        return Ok(LockedInput {
            node: name.to_owned(),
            rev: None,
            nar_hash: None,
            last_modified: None,
            kind: "self".to_owned(),
            description: "the flake itself".to_owned(),
        });
    };
    let nar_hash = locked.nar_hash.as_deref().map(str::parse).transpose();
    Ok(LockedInput {
        node: name.to_owned(),
        rev: locked.rev.clone(),
        nar_hash: nar_hash
            .map_err(|source| LockFileError::NarHash { node: name.to_owned(), source })?,
        last_modified: locked.last_modified,
        kind: locked.kind.clone(),
        description: describe(locked),
    })
}

fn describe(locked: &Locked) -> String {
    let url = locked.url.as_deref().unwrap_or("?");
    let rev_or_ref = locked.rev.as_deref().or(locked.reference.as_deref());
    let (base, rev_in_query) = match locked.kind.as_str() {
        forge @ ("github" | "gitlab" | "sourcehut") => {
            let part = |part: &Option<String>| part.as_deref().unwrap_or("?").to_owned();
            let rev = rev_or_ref.map(|rev| format!("/{rev}")).unwrap_or_default();
            (format!("{forge}:{}/{}{rev}", part(&locked.owner), part(&locked.repo)), false)
        }
        scm @ ("git" | "hg") => (format!("{scm}+{url}"), true),
        "path" => (format!("path:{}", locked.path.as_deref().unwrap_or("?")), true),
        "tarball" => (url.to_owned(), false),
        "indirect" => (format!("flake:{}", locked.id.as_deref().unwrap_or("?")), true),
        other => (format!("{other}+{url}"), false),
    };
    let mut text = base;
    let mut query = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            let sign = if text.contains('?') { '&' } else { '?' };
            text = format!("{text}{sign}{key}={value}");
        }
    };
    query("dir", locked.dir.as_deref());
    if rev_in_query {
        match &locked.rev {
            Some(rev) => query("rev", Some(rev)),
            None => query("ref", locked.reference.as_deref()),
        }
    }
    text
}
