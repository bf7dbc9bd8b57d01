//! Temporary folders that are removed on drop, and by a later run when this one was killed.

use std::fs;
use std::path::Path;
use std::sync::Once;

use tempfile::TempDir;

use crate::tree::make_writable;

const PREFIX: &str = "larder-test-";

/// A file system in memory, where the machine has one.
const MEMORY: &str = "/dev/shm";

/// Containers often give less than this to it, in bytes.
const ROOM: u64 = 1 << 30;

/// A temporary folder whose name tells what it is for and which process made it.
///
/// # Panics
/// When none can be made.
#[must_use]
pub fn scratch(name: &str) -> TempDir {
    scratch_below(&std::env::temp_dir(), name)
}

/// The same in memory, when there is a gigabyte of room for it: for what a disk's pace would disturb.
///
/// # Panics
/// When none can be made.
#[must_use]
pub fn scratch_in_memory(name: &str) -> TempDir {
    let memory = rustix::fs::statvfs(MEMORY);
    if memory.is_ok_and(|memory| memory.f_bavail * memory.f_frsize >= ROOM) {
        scratch_below(Path::new(MEMORY), name)
    } else {
        scratch(name)
    }
}

fn scratch_below(folder: &Path, name: &str) -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    let prefix = format!("{PREFIX}{}-{name}-", std::process::id());
    let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(folder);
    made.expect("a temporary folder can be made")
}

/// Removes the folders of processes that are no more: killed ones could not do it themselves. Done by itself
/// before the first folder of a process is made.
pub fn sweep() {
    let folders = [std::env::temp_dir(), Path::new(MEMORY).to_owned()];
    for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let gone = |pid: &str| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
        if owner.is_some_and(gone) {
            make_writable(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
