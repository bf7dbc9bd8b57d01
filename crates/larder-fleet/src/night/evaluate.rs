//! Finding the hosts, and evaluating each to its derivation.

use std::{borrow::Cow, path::Path};

use larder_formats::store_path::StorePath;
use larder_nix::{
    command::{CancellationToken, CommandError, Invocation},
    derivations::{self, DerivationFileError},
    nix::{Nix, NixError},
};

use super::{
    guard::{Exceeded, Guard},
    source::WorkTree,
};
use crate::{build_plan::BuildPlan, host::HostName};

/// What is asked of a host. Its system type is that of the machine it is for, which is not the
/// derivation's where a host is cross-compiled.
const SYSTEM: &str = "host: let top = host.config.system.build.toplevel; in { \
    derivation = top.drvPath; \
    system = host.pkgs.stdenv.hostPlatform.system or host.config.nixpkgs.hostPlatform.system or top.system; }";

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
    /// What Nix would do to build it, where Nix could say.
    pub plan: Option<BuildPlan>,
}

/// Which hosts are wanted.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Every host of the flake.
    All,
    /// These, as configured: one that is gone from the flake does not stop the others.
    Configured(Vec<HostName>),
    /// These, as configured for a part of the runs.
    Part(Vec<HostName>),
    /// These, as somebody has just named them: one that is not there is a mistake.
    Named(Vec<HostName>),
    /// The first, but for the second.
    Without(Box<Self>, Box<Self>),
}

impl Wanted {
    /// Whether it is all that is ever built.
    pub(super) fn is_everybody(&self) -> bool {
        match self {
            Self::All | Self::Configured(_) => true,
            Self::Part(_) | Self::Named(_) => false,
            Self::Without(wanted, others) => {
                let nobody = matches!(&**others, Self::Part(it) | Self::Named(it) if it.is_empty());
                nobody && wanted.is_everybody()
            }
        }
    }
}

/// The hosts of a flake.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// Those to build, in order of name.
    pub hosts: Vec<HostName>,
    /// Those nothing can be done about.
    pub left_out: Vec<LeftOut>,
    /// Those that are in the flake and not wanted this time.
    pub others: Vec<HostName>,
}

/// A host that nothing could be done about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why, to stand behind the name.
    pub reason: Cow<'static, str>,
}

impl Hosts {
    fn leave_out(&mut self, name: String, reason: &'static str) {
        self.left_out.push(LeftOut { name, reason: reason.into() });
    }
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
    wanted: &Wanted,
    cancel: &CancellationToken,
) -> Result<Hosts, HostsError> {
    let answer = nix
        .command("nix")
        .args(["eval", "--json", "--no-write-lock-file", "--apply", "builtins.attrNames"])
        .arg(format!("{}#nixosConfigurations", tree.reference))
        .output(cancel)
        .await?;
    let names: Vec<String> = serde_json::from_slice(&answer.stdout)?;
    if names.is_empty() {
        return Err(HostsError::None);
    }
    let mut found = select(&names, wanted)?;
    let others = names.iter().filter_map(|name| name.parse().ok());
    found.others = others.filter(|name| !found.hosts.contains(name)).collect();
    Ok(found)
}

/// Those of a flake's hosts that are wanted.
fn select(names: &[String], wanted: &Wanted) -> Result<Hosts, HostsError> {
    let mut found = Hosts::default();
    let is_there = |host: &HostName| names.iter().any(|name| name == host.as_str());
    match wanted {
        Wanted::All => {
            for name in names {
                match name.parse() {
                    Ok(host) => found.hosts.push(host),
                    Err(_) => found.leave_out(name.clone(), "cannot be a host's name: rename it"),
                }
            }
        }
        Wanted::Configured(hosts) | Wanted::Part(hosts) => {
            for host in hosts {
                if is_there(host) {
                    found.hosts.push(host.clone());
                } else {
                    found.leave_out(host.to_string(), "is configured, but not in the flake");
                }
            }
        }
        Wanted::Named(hosts) => match hosts.iter().find(|host| !is_there(host)) {
            Some(host) => {
                let (wanted, known) = (host.clone(), names.to_vec());
                return Err(HostsError::Unknown { wanted, known });
            }
            None => found.hosts.clone_from(hosts),
        },
        Wanted::Without(wanted, others) => {
            let others = select(names, others)?.hosts;
            found = select(names, wanted)?;
            found.hosts.retain(|host| !others.contains(host));
        }
    }
    found.hosts.sort();
    found.hosts.dedup();
    Ok(found)
}

/// A host could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub(super) enum EvaluationError {
    /// Nix could not do it.
    #[error(transparent)]
    Nix(#[from] NixError),
    /// The run's own limits ended it.
    #[error(transparent)]
    Bounds(#[from] Exceeded),
    /// Its derivation is not there, or is none.
    #[error(transparent)]
    Derivation(#[from] DerivationFileError),
    /// What it makes cannot be asked for before it is built.
    #[error(
        "where its system will lie in the store is known only once it is built, since it, or something it is built \
         with, is content-addressed. Larder publishes hosts whose paths are known beforehand: remove \
         `__contentAddressed`, or nixpkgs' `contentAddressedByDefault`"
    )]
    ContentAddressed,
}

impl From<CommandError> for EvaluationError {
    fn from(error: CommandError) -> Self {
        Self::Nix(error.into())
    }
}

/// Evaluates one host to its derivation, purely, as `nix build` would; within the bounds of a run, where it is
/// one's.
pub(super) async fn host(
    nix: &Nix,
    tree: &WorkTree,
    (host, guard): (&HostName, Option<&Guard>),
    cancel: &CancellationToken,
) -> Result<Evaluated, EvaluationError> {
    // A name's characters are such that quotes keep it one attribute.
    let command = nix
        .command("nix")
        .args(["eval", "--json", "--no-write-lock-file", "--apply", SYSTEM])
        .arg(format!("{}#nixosConfigurations.\"{host}\"", tree.reference));
    let output = match guard {
        Some(guard) => guard.evaluate(&command, host, cancel).await??,
        None => command.output(cancel).await?,
    };
    let found: Found =
        serde_json::from_slice(&output.stdout).map_err(|_| answer(&command, &output.text()))?;
    let store_dir = &nix.layout().store_dir;
    let parse = |path: &str| store_dir.parse(path).map_err(|_| answer(&command, path));
    let derivation = parse(&found.derivation)?;
    // A system of nixpkgs has no other output than `out`.
    let mut outputs = derivations::read(nix.layout(), &derivation)?.outputs;
    let output = outputs.remove("out").or_else(|| outputs.pop_first().map(|(_, other)| other));
    let path = output.and_then(|output| output.path);
    let output = path.ok_or(EvaluationError::ContentAddressed)?;
    Ok(Evaluated { host: host.clone(), derivation, output, system: found.system, plan: None })
}

/// What [`SYSTEM`] answers.
#[derive(serde::Deserialize)]
struct Found {
    derivation: String,
    system: String,
}

/// Makes a derivation safe from the collector. (`nix eval` cannot.)
pub(crate) async fn root(
    nix: &Nix,
    derivation: &StorePath,
    link: &Path,
    cancel: &CancellationToken,
) -> Result<(), NixError> {
    let command = nix
        .command("nix-instantiate")
        .args(["--expr", "{ derivation }: import derivation", "--argstr", "derivation"])
        .arg(nix.layout().store_dir.display(derivation))
        .args(["--indirect", "--add-root"])
        .arg(link);
    command.output(cancel).await?;
    Ok(())
}

/// Why a host could not be evaluated: what Nix said, without our command line before it.
pub(super) fn reason(error: &EvaluationError) -> String {
    match error {
        EvaluationError::Nix(NixError::Command(CommandError::Failed { message, .. })) => {
            message.clone()
        }
        other => other.to_string(),
    }
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
