//! What is meant by what was written on the command line.

use std::{
    collections::BTreeMap,
    io::{BufRead, stdin},
    path::{Path, PathBuf},
};

use larder_formats::store_path::{StoreDir, StorePath};
use larder_nix::nix::Nix;

use crate::{config::Config, context::Context, report::Error, wiring};

/// The store paths that were named. Installables are built, if they are not; only for them Nix has to be there.
pub(crate) async fn find(
    context: &Context,
    config: &Config,
    named: Vec<String>,
) -> Result<Vec<StorePath>, Error> {
    let store_dir = wiring::layout(config)?.store_dir;
    let mut roots = Vec::new();
    let mut installables = Vec::new();
    for name in named {
        match store_path(&store_dir, &name)? {
            Some(path) => roots.push(path),
            None => installables.push(name),
        }
    }
    if !installables.is_empty() {
        let nix = wiring::nix(config, &context.cancel).await?;
        roots.extend(built(context, &nix, &installables).await?);
    }
    roots.sort();
    roots.dedup();
    Ok(roots)
}

/// The lines of standard input that say something.
pub(crate) fn from_standard_input() -> Result<Vec<String>, Error> {
    let mut named = Vec::new();
    for line in stdin().lock().lines() {
        let line = line.map_err(|source| Error::Io { path: "standard input".into(), source })?;
        named.extend(Some(line.trim().to_owned()).filter(|line| !line.is_empty()));
    }
    Ok(named)
}

/// A store path, or a path or link into one; nothing for what must be an installable.
pub(crate) fn store_path(store_dir: &StoreDir, name: &str) -> Result<Option<StorePath>, Error> {
    let in_store = |path: &Path| {
        let below = path.strip_prefix(store_dir.as_str()).ok()?;
        let base = below.components().next()?.as_os_str().to_str()?;
        base.parse().ok()
    };
    if let Some(path) = in_store(Path::new(name)) {
        return Ok(Some(path));
    }
    if name.contains(['#', ':', '^']) {
        return Ok(None);
    }
    let looks_like_path = name.starts_with(['/', '.']) || Path::new(name).exists();
    // What a store that lies elsewhere calls /nix/store is not there to be looked at.
    let target = links(Path::new(name)).find_map(|path| in_store(&path));
    match target {
        Some(path) => Ok(Some(path)),
        None if looks_like_path && !Path::new(name).join("flake.nix").exists() => {
            Err(Error::Path(format!(
                "{name} is not in {store_dir}: name a store path, a link to one, or an installable such as \
                 .#hello"
            )))
        }
        None => Ok(None),
    }
}

/// Where a link leads, step by step.
fn links(start: &Path) -> impl Iterator<Item = PathBuf> {
    const LONGEST: usize = 40;
    let next = |path: &PathBuf| {
        let target = std::fs::read_link(path).ok()?;
        Some(path.parent().map_or(target.clone(), |folder| folder.join(target)))
    };
    std::iter::successors(Some(start.to_owned()), next).take(LONGEST)
}

async fn built(
    context: &Context,
    nix: &Nix,
    installables: &[String],
) -> Result<Vec<StorePath>, Error> {
    // Nix 2.8 does not know `--print-out-paths`.
    let command = nix.command("nix").args(["build", "--no-link", "--json", "--"]);
    let output = command.args(installables).output(&context.cancel).await?;
    let built: Vec<Built> = serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Path(format!("`nix build --json` answered otherwise: {error}")))?;
    let paths = built.into_iter().flat_map(|it| it.outputs.into_values());
    parsed(nix, &paths.collect::<Vec<_>>().join("\n"))
}

/// What `nix build --json` answers for each installable.
#[derive(serde::Deserialize)]
struct Built {
    outputs: BTreeMap<String, String>,
}

/// The outputs of everything that was needed to build these, as far as they are in the store.
pub(crate) async fn built_with(
    context: &Context,
    config: &Config,
    roots: &[StorePath],
) -> Result<Vec<StorePath>, Error> {
    let nix = &wiring::nix(config, &context.cancel).await?;
    let full: Vec<String> = roots.iter().map(|path| nix.layout().store_dir.display(path)).collect();
    let query = |arguments: &[&str], paths: &[String]| {
        let command = nix.command("nix-store").arg("--query").args(arguments).args(paths);
        let cancel = context.cancel.clone();
        async move { command.output(&cancel).await }
    };
    let derivers = query(&["--deriver"], &full).await?.text();
    let known: Vec<String> = derivers
        .lines()
        .filter(|line| nix.layout().store_dir.parse(line).is_ok_and(|path| exists(nix, &path)))
        .map(str::to_owned)
        .collect();
    if known.is_empty() {
        return Err(Error::NoDerivers);
    }
    let all = query(&["--requisites", "--include-outputs"], &known).await?.text();
    let mut paths = parsed(nix, &all)?;
    // Whoever evaluates makes the derivations again.
    paths.retain(|path| !path.is_derivation() && exists(nix, path));
    Ok(paths)
}

fn exists(nix: &Nix, path: &StorePath) -> bool {
    nix.layout().real_path(path).symlink_metadata().is_ok()
}

fn parsed(nix: &Nix, lines: &str) -> Result<Vec<StorePath>, Error> {
    let parse = |line: &str| {
        nix.layout().store_dir.parse(line).map_err(|error| Error::Path(format!("{line}: {error}")))
    };
    lines.lines().filter(|line| !line.is_empty()).map(parse).collect()
}
