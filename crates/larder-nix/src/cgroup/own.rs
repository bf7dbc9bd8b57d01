//! A group of our own, which a run of Nix and all that it builds are put into.
//!
//! It is made for one run and removed after it. One that a killed run left is removed by the next.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use super::{Group, Hierarchies, Version};

/// What the names of our groups begin with; this process's number follows, and one of its own.
const PREFIX: &str = "larder-run-";

/// How often, and with which pause, a group is removed whose last processes are just ending.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// A group that was made here, and is removed when it is dropped.
#[derive(Debug)]
pub struct OwnGroup {
    group: Group,
}

/// There can be no group of our own.
#[derive(Debug, thiserror::Error)]
pub enum NoGroup {
    /// The kernel shows none.
    #[error("this kernel shows no control group in which memory is counted")]
    Absent,
    /// It may not be made, or not be used.
    #[error("{path}: {source}")]
    Refused {
        /// The folder or file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl OwnGroup {
    /// Makes one, in which no more than so many bytes may be used, swap included.
    pub fn create(hierarchies: &Hierarchies, limit: Option<u64>) -> Result<Self, NoGroup> {
        let parent = parent_for_ours(hierarchies)?;
        sweep(&parent.folder);
        Self::create_in(&parent, limit)
    }

    /// Makes one below this group.
    pub fn create_in(parent: &Group, limit: Option<u64>) -> Result<Self, NoGroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let group = Group { folder: parent.folder.join(name), version: parent.version };
        fs::create_dir(&group.folder).map_err(refused(&group.folder))?;
        let own = Self { group };
        own.limit(limit)?;
        Ok(own)
    }

    /// The group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The file that a process is moved in by, when it writes its number to it.
    pub fn door(&self) -> PathBuf {
        self.group.folder.join("cgroup.procs")
    }

    /// Sets the limits. That of swap is set where the kernel has it: without, a run could go on for days in it.
    fn limit(&self, limit: Option<u64>) -> Result<(), NoGroup> {
        let Some(limit) = limit else { return Ok(()) };
        let (memory, swap, most_swap) = match self.group.version {
            // In version 1 it is the sum of both that is limited.
            Version::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit),
            Version::Two => ("memory.max", "memory.swap.max", 0),
        };
        write(&self.group.folder.join(memory), limit)?;
        let swap = self.group.folder.join(swap);
        if swap.exists() { write(&swap, most_swap) } else { Ok(()) }
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            if remove(&self.group.folder) {
                return;
            }
            thread::sleep(PAUSE);
        }
        tracing::debug!(folder = ?self.group.folder, "the next run removes this group");
    }
}

/// The group below which ours can be made.
fn parent_for_ours(hierarchies: &Hierarchies) -> Result<Group, NoGroup> {
    let own = hierarchies.of_process(std::process::id());
    let service = hierarchies.of_service(std::process::id());
    // In version 2 a group has either processes or groups that are limited. So we live in one of several
    // (as `DelegateSubgroup=supervisor` has it), or move into one where nobody else is disturbed.
    let parent = match (own, service) {
        (Some(own), _) if own.version == Version::One => return Ok(own),
        (own, Some(service)) if own.as_ref() != Some(&service) => service,
        (Some(own), _) if is_alone(&own.folder) => {
            move_into_subgroup(&own.folder)?;
            own
        }
        _ => top(hierarchies)?,
    };
    let control = parent.folder.join("cgroup.subtree_control");
    if !names_memory(&control) {
        write(&control, "+memory")?;
    }
    Ok(parent)
}

/// Root's last resort: beside what systemd looks after, which leaves alone what it did not make.
fn top(hierarchies: &Hierarchies) -> Result<Group, NoGroup> {
    let folder = hierarchies.unified.as_ref().map(|mount| mount.folder.clone());
    let folder = folder.filter(|folder| names_memory(&folder.join("cgroup.controllers")));
    Ok(Group { folder: folder.ok_or(NoGroup::Absent)?, version: Version::Two })
}

/// Whether memory is among the controllers that a file lists.
fn names_memory(file: &Path) -> bool {
    fs::read_to_string(file)
        .is_ok_and(|text| text.split_ascii_whitespace().any(|one| one == "memory"))
}

/// Whether this process is the only one there.
fn is_alone(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.procs"))
        .is_ok_and(|text| text.trim() == std::process::id().to_string())
}

fn move_into_subgroup(folder: &Path) -> Result<(), NoGroup> {
    let below = folder.join("supervisor");
    match fs::create_dir(&below) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(refused(&below)(error)),
        _ => write(&below.join("cgroup.procs"), std::process::id()),
    }
}

/// Removes the groups that runs left which are no more.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // One whose processes live on stays until they are gone.
            remove(&entry.path());
        }
    }
}

/// Removes a group that has no processes.
fn remove(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn write(file: &Path, value: impl ToString) -> Result<(), NoGroup> {
    fs::write(file, value.to_string()).map_err(refused(file))
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> NoGroup {
    let path = path.to_owned();
    move |source| NoGroup::Refused { path, source }
}
