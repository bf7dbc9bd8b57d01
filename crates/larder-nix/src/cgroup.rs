//! Control groups, as far as memory goes: what the kernel killed in one, what it took, and groups of our own.
//!
//! Both of the kernel's versions are understood. Everything is read from files whose place is found in
//! `/proc`, and a number that is not there is not guessed.

mod own;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use own::{NoGroup, OwnGroup};

/// How deep groups below a group are looked into, where the kernel does not add them up itself.
const DEPTH: u32 = 4;

/// Where a service's own processes live that has groups for others beside them: systemd's `DelegateSubgroup=`, as it is
/// set in our unit and in that of some Nix daemons, and where nix-daemon itself goes with `use-cgroups`.
const OF_SUPERVISORS: [&str; 2] = ["/supervisor", "/nix-daemon"];

/// Where the kernel shows its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 2: one tree for everything.
    pub unified: Option<Mount>,
    /// Version 1: the tree of the memory controller.
    pub memory: Option<Mount>,
}

/// Where a tree of groups is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder.
    pub folder: PathBuf,
    /// The group that this folder is: `/`, but in some containers.
    pub root: String,
}

/// A group of processes for which the kernel counts memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    folder: PathBuf,
    version: Version,
}

/// The kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `memory.oom_control`, `memory.limit_in_bytes`, …
    One,
    /// `memory.events`, `memory.max`, …
    Two,
}

impl Hierarchies {
    /// Those of this machine.
    pub fn find() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Reads `/proc/self/mountinfo`.
    pub fn parse(mounts: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let mut place = place.split(' ').skip(3);
            let (Some(root), Some(folder)) = (place.next(), place.next()) else { continue };
            let mount = || Some(Mount { folder: unescape(folder).into(), root: unescape(root) });
            let mut kind = kind.split(' ');
            match (kind.next(), kind.nth(1)) {
                (Some("cgroup2"), _) if found.unified.is_none() => found.unified = mount(),
                (Some("cgroup"), Some(controllers))
                    if controllers.split(',').any(|one| one == "memory") =>
                {
                    found.memory = mount();
                }
                _ => {}
            }
        }
        found
    }

    /// The group in which a process's memory is counted.
    pub fn of_process(&self, pid: u32) -> Option<Group> {
        self.place(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
    }

    /// The group of the whole service that a process looks after: its own, or the one in which its own is.
    pub fn of_service(&self, pid: u32) -> Option<Group> {
        self.place_of_service(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
    }

    /// The group that `/proc/PID/cgroup` names. On machines with both versions, the one that counts memory.
    pub fn place(&self, text: &str) -> Option<Group> {
        let (mut one, mut two) = (None, None);
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let found = |mount: &Option<Mount>, version| {
                let folder = mount.as_ref()?.folder_of(path)?;
                Some(Group { folder, version }).filter(Group::counts)
            };
            if controllers.is_empty() {
                two = found(&self.unified, Version::Two);
            } else if controllers.split(',').any(|one| one == "memory") {
                one = found(&self.memory, Version::One);
            }
        }
        two.or(one)
    }

    /// The group of the service that `/proc/PID/cgroup` names.
    pub fn place_of_service(&self, text: &str) -> Option<Group> {
        let service = text.lines().map(|line| {
            OF_SUPERVISORS.iter().find_map(|end| line.strip_suffix(end)).unwrap_or(line)
        });
        self.place(&service.collect::<Vec<_>>().join("\n"))
    }
}

impl Mount {
    /// The folder of a group, which is named from the tree's own root on.
    fn folder_of(&self, path: &str) -> Option<PathBuf> {
        let below = match self.root.as_str() {
            "/" => path,
            root => path.strip_prefix(root).unwrap_or(path),
        };
        let below = Path::new(below.trim_start_matches('/'));
        // What lies outside of a container's own tree is shown with `..`.
        let inside = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        inside.then(|| self.folder.join(below))
    }
}

impl Group {
    /// A group by its folder.
    pub fn at(folder: PathBuf, version: Version) -> Self {
        Self { folder, version }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Which of the kernel's interfaces it has.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many of its processes, and of the groups below it, the kernel has killed for want of memory.
    pub fn kills(&self) -> Option<u64> {
        match self.version {
            // Adds up what is below.
            Version::Two => self.keyed("memory.events", "oom_kill"),
            Version::One => kills_below(&self.folder, DEPTH),
        }
    }

    /// The most bytes it ever took at once, with files that lie in memory only as a cache.
    pub fn peak(&self) -> Option<u64> {
        self.number(match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        })
    }

    /// Whether the kernel counts memory here.
    fn counts(&self) -> bool {
        match self.version {
            Version::One => self.folder.join("memory.oom_control").exists(),
            Version::Two => self.folder.join("memory.events").exists(),
        }
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        keyed(&fs::read_to_string(self.folder.join(file)).ok()?, key)
    }
}

/// The number behind a word at the beginning of a line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Version 1 counts for each group by itself.
fn kills_below(folder: &Path, depth: u32) -> Option<u64> {
    let text = fs::read_to_string(folder.join("memory.oom_control")).ok()?;
    let mut kills = keyed(&text, "oom_kill")?;
    if let (Some(depth), Ok(entries)) = (depth.checked_sub(1), fs::read_dir(folder)) {
        let folders = entries.flatten().filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
        kills += folders.filter_map(|it| kills_below(&it.path(), depth)).sum::<u64>();
    }
    Some(kills)
}

/// `/proc` writes blanks and the like as `\040`.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}
