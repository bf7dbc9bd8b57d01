//! What an upgrade shows: what it will do, and what is another in the system it came to.

use std::collections::BTreeSet;

use larder_cache::words;
use larder_fleet::{
    host::HostName,
    upgrade::plan::{Builds, Package, PackageDiff, Partition, Plan, Refused},
};
use larder_formats::store_path::StorePath;
use serde::Serialize;

use super::{
    lines,
    text::{count, size},
};

/// Things that are named one by one; of more, only so many.
const NAMED: usize = 20;

/// Lines of what Nix said that are told.
const SAID: usize = 5;

/// Packages that a command line to copy allows by name; more are allowed all at once.
const ALLOWED_BY_NAME: usize = 4;

/// What will be downloaded and built, and what that is against the running system.
pub fn plan(plan: &Plan) -> String {
    let mut text = vec![work(plan)];
    for from in &plan.downloads.caches {
        let paths = count(from.paths, "path");
        text.push(format!("  {paths} from {} ({})", from.cache, size(from.bytes)));
    }
    let Builds { configuration, packages, sources } = &plan.builds;
    for (what, paths) in
        [("configuration", configuration), ("packages", packages), ("sources to fetch", sources)]
    {
        if !paths.is_empty() {
            text.push(format!("  {what}: {}", names(paths)));
        }
    }
    if !plan.downloads.unknown.is_empty() {
        text.push("nobody has:".to_owned());
        text.extend(plan.downloads.unknown.iter().map(|path| format!("  {path}")));
    }
    if plan.changes.is_some() {
        text.push(changes(plan));
    } else if plan.running.is_some() && plan.downloads.paths > 0 {
        text.push("the downloads, against the running system:".to_owned());
        text.extend(differences(&plan.downloads.packages));
    }
    text.join("\n")
}

/// What is another in the new system than in the one that runs.
pub fn changes(plan: &Plan) -> String {
    let Some(changes) = &plan.changes else { return reboot(plan).unwrap_or_default() };
    let mut text = Vec::new();
    match changes.closure_before {
        None => text.push(format!("the new system takes {}", size(changes.closure_after))),
        Some(before) => {
            text.push("the new system, against the running one:".to_owned());
            text.extend(differences(&changes.packages));
            let after = changes.closure_after;
            let more = match after.checked_sub(before) {
                Some(more) => format!("+{}", size(more)),
                None => format!("-{}", size(before - after)),
            };
            text.push(format!("  closure: {} → {} ({more})", size(before), size(after)));
        }
    }
    text.extend(reboot(plan));
    text.join("\n")
}

/// Whether a reboot is due, and for what.
pub fn reboot(plan: &Plan) -> Option<String> {
    let reboot = plan.reboot.as_ref().filter(|reboot| !reboot.changed.is_empty())?;
    Some(format!("a reboot is due: another {}", reboot.changed.join(", another ")))
}

/// What may not be built here, why it would have to be, and what can be done.
pub fn refused(refused: &[Refused]) -> String {
    let what = count(refused.len(), "package");
    let first = format!(
        "{what} would have to be built here, which may take long, so nothing was downloaded, built or switched:"
    );
    reasons(first, refused)
}

/// What could not be downloaded, why, and what can be done.
pub fn not_fetched(missing: &[Refused], said: &[String]) -> String {
    let what = count(missing.len(), "store path");
    let first =
        format!("{what} could not be downloaded, so nothing was built and nothing was switched:");
    let mut text = reasons(first, missing);
    // A disk that is full, say, is no cache's fault.
    let last = &said[said.len().saturating_sub(SAID)..];
    if !last.is_empty() {
        text.push_str("\nThe last that Nix said of it:");
        text.extend(
            last.iter().map(|line| format!("\n  {}", line.trim_end().replace('\n', "\n  "))),
        );
    }
    text
}

fn reasons(first: String, refused: &[Refused]) -> String {
    let mut text = vec![first];
    text.extend(refused.iter().take(NAMED).map(|one| {
        let package = package(&one.name, &one.version);
        format!("  {package}: {}", one.reason)
    }));
    if refused.len() > NAMED {
        text.push(format!("  and {} more, which `--json` lists", refused.len() - NAMED));
    }
    if let Some(first) = refused.first() {
        text.push(format!("`larder why {}` says more, and what would help.", first.path));
    }
    let names: BTreeSet<&str> = refused.iter().map(|one| one.name.as_str()).collect();
    let allow = match names.len() {
        0..=ALLOWED_BY_NAME => {
            let options: Vec<String> =
                names.iter().map(|name| format!("--allow-build {name}")).collect();
            format!("`{}`, or `--allow-builds` for all", options.join(" "))
        }
        _ => "`--allow-builds`, or `--allow-build NAME` for some".to_owned(),
    };
    text.push(format!(
        "Wait until the server has built and serves them; build them here ({allow}); or take the server's system \
         as it is (`--prebuilt`)."
    ));
    text.join("\n")
}

/// Which partitions are too small, and what can be done.
pub fn short(plan: &Plan) -> String {
    let mut text = Vec::new();
    for room in plan.short() {
        let (what, remedy) = match room.partition {
            Partition::Store => (
                "the store",
                "`nix-collect-garbage --delete-older-than 14d` removes old systems and what only they need",
            ),
            Partition::Boot => (
                "the new kernel",
                "remove old systems (`nix-collect-garbage --delete-older-than 14d`), then \
                 `/run/current-system/bin/switch-to-configuration boot` removes their kernels",
            ),
        };
        text.push(format!(
            "{} has not enough room for {what}: {} are needed, {} are free; {remedy}",
            room.folder.display(),
            size(room.needed),
            size(room.free)
        ));
    }
    text.join("\n")
}

/// The plan for programs; see docs/client.md.
pub fn json(host: &HostName, revision: Option<u64>, plan: &Plan) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        host: &'a HostName,
        revision: Option<u64>,
        #[serde(flatten)]
        plan: &'a Plan,
    }
    let document = Document { host, revision, plan };
    // Every key is text and every number whole, so this cannot fail.
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn work(plan: &Plan) -> String {
    let Builds { configuration, packages, sources } = &plan.builds;
    let mut builds = Vec::new();
    if !configuration.is_empty() {
        builds.push(format!("{} configuration", configuration.len()));
    }
    for (paths, what) in [(packages, "package"), (sources, "source")] {
        if !paths.is_empty() {
            builds.push(count(paths.len(), what));
        }
    }
    let mut parts = Vec::new();
    if !builds.is_empty() {
        let all = configuration.len() + packages.len() + sources.len();
        parts.push(format!("{all} to build ({})", builds.join(", ")));
    }
    let downloads = &plan.downloads;
    if downloads.paths > 0 {
        parts.push(format!(
            "{} to download ({}, {} unpacked)",
            downloads.paths,
            size(downloads.bytes),
            size(downloads.unpacked_bytes)
        ));
    }
    if !downloads.unknown.is_empty() {
        parts.push(format!("{} that no cache has", downloads.unknown.len()));
    }
    if parts.is_empty() { "everything is there".to_owned() } else { parts.join(", ") }
}

fn differences(diff: &PackageDiff) -> Vec<String> {
    let versions = |versions: &BTreeSet<String>| {
        let each: Vec<&str> = versions
            .iter()
            .map(|version| if version.is_empty() { "(no version)" } else { version })
            .collect();
        each.join(", ")
    };
    let one = |Package { name, versions }: &Package| {
        let texts: Vec<&str> =
            versions.iter().map(String::as_str).filter(|v| !v.is_empty()).collect();
        package(name, &texts.join(", "))
    };
    let mut lines: Vec<String> = Vec::new();
    lines.extend(diff.changed.iter().map(|change| {
        format!("  ~ {} {} → {}", change.name, versions(&change.before), versions(&change.after))
    }));
    lines.extend(diff.added.iter().map(|added| format!("  + {}", one(added))));
    lines.extend(diff.removed.iter().map(|removed| format!("  - {}", one(removed))));
    if diff.rebuilt > 0 {
        lines
            .push(format!("  {} at the same version, but rebuilt", count(diff.rebuilt, "package")));
    }
    if lines.is_empty() {
        lines.push("  no package is another".to_owned());
    }
    lines
}

fn names(paths: &BTreeSet<StorePath>) -> String {
    let mut names: Vec<&str> = paths.iter().map(lines::short).collect();
    names.sort_unstable();
    words::few(names, NAMED)
}

fn package(name: &str, version: &str) -> String {
    if version.is_empty() { name.to_owned() } else { format!("{name} {version}") }
}
