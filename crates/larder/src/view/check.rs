//! What a check found, and what a repair does about it.

use larder_cache::gc::{
    check::Found,
    repair::{Remedies, Repaired, Stays},
};

use super::{
    gc,
    text::{count, size},
};

/// What was found.
pub(crate) fn found(cache: &str, found: &Found) -> String {
    let mut lines: Vec<String> = found.broken.values().map(ToString::to_string).collect();
    let used = |reason: &&String| !lines.iter().any(|line| line.contains(reason.as_str()));
    let damaged = found.damaged.iter().filter(|(_, reason)| used(reason));
    let damaged: Vec<String> =
        damaged.map(|(file, reason)| format!("{}: {reason}", file.url())).collect();
    lines.extend(damaged);
    lines.extend(found.unsure.iter().map(|it| format!("not known: {it}")));
    let foreign = found.foreign.iter().take(gc::NAMED).map(|key| format!("{key}: no cache's file"));
    lines.extend(foreign);
    if found.foreign.len() > gc::NAMED {
        lines.push(format!("{} more files are no cache's", found.foreign.len() - gc::NAMED));
    }
    if !found.orphans.is_empty() {
        let bytes = found.orphans.iter().map(|nar| nar.size).sum();
        lines.push(format!(
            "{} ({}) without a narinfo; `larder gc` removes them when they are old enough",
            count(found.orphans.len(), "NAR file"),
            size(bytes)
        ));
    }
    let wrong = match found.broken.len() {
        0 if found.is_well() => "nothing is wrong".to_owned(),
        broken => format!(
            "{} wrong, {} not known",
            count(broken, "path"),
            count(found.unsure.len(), "thing")
        ),
    };
    let read = if found.read > 0 { format!(", {} read", found.read) } else { String::new() };
    lines.push(format!(
        "{cache}: {}, {}{read}: {wrong}",
        count(found.paths, "path"),
        count(found.nars, "NAR file")
    ));
    lines.join("\n")
}

/// What a repair would do.
pub(crate) fn remedies(cache: &str, remedies: &Remedies) -> String {
    let mut lines = Vec::new();
    for info in remedies.send.iter().flat_map(|plan| &plan.send) {
        lines.push(format!("{}: would be sent again", info.store_path));
    }
    let findings = remedies.secrets.iter().flat_map(|path| &path.findings);
    lines.extend(
        findings.map(|finding| format!("would not be sent, since others can read it: {finding}")),
    );
    let removals = remedies.remove.paths.iter().chain(&remedies.remove.nars);
    lines.extend(removals.map(|it| format!("{}: would be removed: {}", it.what, it.reason)));
    lines.extend(remedies.stays.iter().map(|it| stays(cache, it)));
    if lines.is_empty() {
        lines.push(format!("{cache}: nothing to do"));
    }
    lines.join("\n")
}

/// What a repair did.
pub(crate) fn repaired(cache: &str, repaired: &Repaired) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(repaired.sent.failures.iter().map(ToString::to_string));
    let findings = repaired.secrets.iter().flat_map(|path| &path.findings);
    lines.extend(findings.map(|finding| format!("not sent, since others can read it: {finding}")));
    let removals = repaired.plan.paths.iter().chain(&repaired.plan.nars);
    lines.extend(removals.map(|it| format!("{}: {}", it.what, it.reason)));
    lines.extend(repaired.stays.iter().map(|it| stays(cache, it)));
    lines.extend(repaired.unsure.iter().map(|it| format!("not known: {it}")));
    lines.push(format!("{cache}: {} sent again", count(repaired.mended, "path")));
    lines.push(gc::outcome(cache, &repaired.removed));
    lines.join("\n")
}

fn stays(cache: &str, stays: &Stays) -> String {
    let broken = &stays.broken;
    if stays.pins.is_empty() {
        return format!(
            "{broken}. Somebody works with it: repair again when that has ended, in some hours at most"
        );
    }
    let names: Vec<&str> = stays.pins.iter().map(larder_cache::record::Name::as_str).collect();
    format!(
        "{broken}. Pinned by {}, so it stays: repair on a machine whose store has it, or remove the pin \
         (`larder pin remove {} --in {cache}`) and repair again",
        names.join(", "),
        names[0],
    )
}
