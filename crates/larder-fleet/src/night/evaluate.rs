//! Finding the hosts, and evaluating each to its derivation.

use std::path::Path;

use larder_formats::store_path::StorePath;
use larder_nix::{
    command::{CancellationToken, CommandError, Invocation},
    nix::{Nix, NixError},
};

use super::source::WorkTree;
use crate::host::HostName;

/// The names come in as arguments, so no host's name is ever read as Nix.
const HOSTS: &str =
    "{ flake }: builtins.attrNames ((builtins.getFlake flake).nixosConfigurations or { })";

const TOPLEVEL: &str = "{ flake, host }: \
    (builtins.getFlake flake).nixosConfigurations.${host}.config.system.build.toplevel";

/// A host's system, not built yet.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The host.
    pub host: HostName,
    /// Its derivation, in the store and rooted for the length of the run.
    pub derivation: StorePath,
    /// What it builds.
    pub output: StorePath,
    /// The system type.
    pub system: String,
}

/// The hosts of a flake.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Those to build, in order of name.
    pub hosts: Vec<HostName>,
    /// Names that no host can have.
    pub unusable: Vec<String>,
}

/// The hosts cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// Nix failed.
    #[error("cannot read the flake's nixosConfigurations: {0}")]
    Command(#[from] CommandError),
    /// Nix answered something else than a list of names.
    #[error("the flake's nixosConfigurations cannot be listed: {0}")]
    Answer(#[from] serde_json::Error),
    /// There are none.
    #[error("the flake has no nixosConfigurations, so there is nothing to build")]
    None,
    /// A host was asked for that is not there.
    #[error("the flake has no host `{wanted}`: it has {}", .known.join(", "))]
    Unknown {
        /// The host asked for.
        wanted: HostName,
        /// Those there are.
        known: Vec<String>,
    },
}

/// The flake's hosts, narrowed to those wanted where any are named.
pub(super) async fn hosts(
    nix: &Nix,
    tree: &WorkTree,
    wanted: &[HostName],
    cancel: &CancellationToken,
) -> Result<Hosts, HostsError> {
    let answer =
        instantiate(nix, tree, HOSTS).args(["--eval", "--strict", "--json"]).output(cancel).await?;
    let names: Vec<String> = serde_json::from_slice(&answer.stdout)?;
    if names.is_empty() {
        return Err(HostsError::None);
    }
    if let Some(missing) =
        wanted.iter().find(|host| !names.iter().any(|name| name == host.as_str()))
    {
        return Err(HostsError::Unknown { wanted: missing.clone(), known: names });
    }
    let mut hosts = wanted.to_vec();
    let mut unusable = Vec::new();
    if wanted.is_empty() {
        for name in names {
            match name.parse() {
                Ok(host) => hosts.push(host),
                Err(_) => unusable.push(name),
            }
        }
    }
    hosts.sort();
    hosts.dedup();
    Ok(Hosts { hosts, unusable })
}

/// Evaluates one host to its derivation. `link` becomes a root for it.
pub(super) async fn host(
    nix: &Nix,
    tree: &WorkTree,
    host: &HostName,
    link: &Path,
    cancel: &CancellationToken,
) -> Result<Evaluated, NixError> {
    let command = instantiate(nix, tree, TOPLEVEL)
        .args(["--argstr", "host", host.as_str(), "--indirect", "--add-root"])
        .arg(link);
    command.output(cancel).await?;
    let target = std::fs::read_link(link)
        .map_err(|source| CommandError::Io { program: command.program(), source })?;
    let derivation = nix
        .layout()
        .store_dir
        .parse(&target.to_string_lossy())
        .map_err(|_| answer(&command, &target.to_string_lossy()))?;
    let output = ask(nix, &derivation, &["--outputs"], cancel).await?;
    // The first output is `out`; a system has no other.
    let output = output.lines().next().unwrap_or_default();
    let output = nix.layout().store_dir.parse(output).map_err(|_| answer(&command, output))?;
    let system = ask(nix, &derivation, &["--binding", "system"], cancel).await?;
    Ok(Evaluated { host: host.clone(), derivation, output, system })
}

/// Why a host could not be evaluated: what Nix said, without our command line before it.
pub(super) fn reason(error: &NixError) -> String {
    match error {
        NixError::Command(CommandError::Failed { message, .. }) => message.clone(),
        other => other.to_string(),
    }
}

fn instantiate(nix: &Nix, tree: &WorkTree, expression: &str) -> Invocation {
    nix.command("nix-instantiate")
        .args(["--expr", expression, "--argstr", "flake"])
        .arg(&tree.reference)
}

async fn ask(
    nix: &Nix,
    derivation: &StorePath,
    question: &[&str],
    cancel: &CancellationToken,
) -> Result<String, NixError> {
    let full = nix.layout().store_dir.display(derivation);
    let command = nix.command("nix-store").arg("--query").args(question).arg(full);
    Ok(command.output(cancel).await?.text())
}

fn answer(command: &Invocation, answer: &str) -> NixError {
    NixError::Answer { command: command.to_string(), answer: answer.to_owned() }
}

/// Fetches every locked input's source into the store, and names them.
pub(super) async fn input_sources(
    nix: &Nix,
    tree: &WorkTree,
    cancel: &CancellationToken,
) -> Result<Vec<StorePath>, NixError> {
    let command = nix.command("nix").args(["flake", "archive", "--json", &tree.reference]);
    let output = command.output(cancel).await?;
    let archive: Archive =
        serde_json::from_slice(&output.stdout).map_err(|_| answer(&command, &output.text()))?;
    let mut paths = Vec::new();
    let mut pending: Vec<&Archive> = archive.inputs.values().collect();
    while let Some(input) = pending.pop() {
        if let Some(path) = &input.path {
            let path = nix.layout().store_dir.parse(path).map_err(|_| answer(&command, path))?;
            paths.push(path);
        }
        pending.extend(input.inputs.values());
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// What `nix flake archive --json` answers: each input's source, and its own inputs.
#[derive(serde::Deserialize)]
struct Archive {
    path: Option<String>,
    #[serde(default)]
    inputs: std::collections::BTreeMap<String, Archive>,
}
