//! The links that keep published systems, and what they were built from, safe from the garbage
//! collector.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use larder_formats::store_path::StorePath;

use crate::host::HostName;

/// The links that are a host's roots.
pub(super) fn folder(state_dir: &Path, host: &HostName) -> PathBuf {
    state_dir.join("gcroots/hosts").join(host.as_str())
}

/// The links that are the roots of locked inputs' sources.
pub(super) fn sources_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("gcroots/sources")
}

/// Removes the links in a folder that lead to none of these paths.
pub(super) fn prune(folder: &Path, kept: &BTreeSet<StorePath>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_kept = name
            .to_str()
            .and_then(|name| name.parse::<StorePath>().ok())
            .is_some_and(|path| kept.contains(&path));
        if !is_kept && entry.file_type()?.is_symlink() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
