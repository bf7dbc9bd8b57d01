//! Temporary folders that are removed on drop, and by a later run when this one was killed.

use std::fs;
use std::path::Path;
use std::sync::Once;

use tempfile::TempDir;

use crate::tree::make_writable;

const PREFIX: &str = "larder-test-";

/// A temporary folder whose name tells what it is for and which process made it.
///
/// # Panics
/// When none can be made.
#[must_use]
pub fn scratch(name: &str) -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    let prefix = format!("{PREFIX}{}-{name}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary folder can be made")
}

/// Removes the folders of processes that are no more: killed ones could not do it themselves. Done by itself
/// before the first folder of a process is made.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let gone = |pid: &str| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
        if owner.is_some_and(gone) {
            make_writable(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
