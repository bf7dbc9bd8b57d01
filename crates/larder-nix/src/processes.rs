//! The processes that build, and what memory each build has.
//!
//! A build's processes are told from its sandbox, whose root folder is named after the derivation, or from their
//! environment, which names the outputs. What they start belongs to the same build. Memory is what `/proc` calls
//! resident, so that pages which two processes share count twice, and files on a tmpfs that nobody has mapped not
//! at all.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use larder_formats::store_path::StorePath;

/// The processes looked at in one go, so that a build which forks without end costs no more than this.
const MOST: usize = 20_000;

/// What a build takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that its processes have now, added up.
    pub resident: u64,
    /// The most bytes that one of them ever had.
    pub largest: u64,
    /// Their numbers.
    pub processes: Vec<u32>,
}

/// What runs below a process.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// Each build.
    pub builds: BTreeMap<StorePath, Taken>,
    /// Everything, that process included.
    pub all: Taken,
}

/// By which names a build is known: those of its derivation and its outputs.
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<String, StorePath>);

impl Names {
    /// A build has these outputs.
    pub fn add(&mut self, derivation: &StorePath, outputs: impl IntoIterator<Item = StorePath>) {
        for path in outputs.into_iter().chain([derivation.clone()]) {
            self.0.insert(path.to_string(), derivation.clone());
        }
    }

    /// It has ended. What uses it now names its outputs, too, and is another build.
    pub fn remove(&mut self, derivation: &StorePath) {
        self.0.retain(|_, of| of != derivation);
    }

    /// The build whose sandbox has this root, as `/proc/PID/mountinfo` shows it.
    fn in_sandbox(&self, mounts: &str) -> Option<&StorePath> {
        let root = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(3);
            let (root, place) = (fields.next()?, fields.next()?);
            (place == "/").then_some(root)
        })?;
        root.split('/').find_map(|part| self.0.get(part.strip_suffix(".chroot")?))
    }

    /// The build whose outputs such an environment names.
    fn in_environment(&self, environment: &[u8]) -> Option<&StorePath> {
        let variables = environment.split(|byte| *byte == 0);
        // A dependency's outputs are named, too, but are not being built.
        variables.filter_map(|variable| std::str::from_utf8(variable).ok()).find_map(|variable| {
            let (_, value) = variable.split_once('=')?;
            self.0.get(Path::new(value).file_name()?.to_str()?)
        })
    }

    fn of(&self, pid: u32) -> Option<&StorePath> {
        if self.0.is_empty() {
            return None;
        }
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        self.in_sandbox(&mounts).or_else(|| {
            self.in_environment(&fs::read(format!("/proc/{pid}/environ")).unwrap_or_default())
        })
    }
}

/// Looks at a process and all below it.
pub fn below(root: u32, names: &Names) -> Running {
    let mut running = Running::default();
    let mut pending = vec![(root, None)];
    while let Some((pid, build)) = pending.pop() {
        if running.all.processes.len() >= MOST {
            break;
        }
        let build: Option<&StorePath> = build.or_else(|| names.of(pid));
        let Some((resident, largest)) = memory(pid) else { continue };
        running.all.add(pid, resident, largest);
        if let Some(build) = build {
            let taken = running.builds.entry(build.clone()).or_default();
            taken.add(pid, resident, largest);
        }
        pending.extend(children(pid).into_iter().map(|child| (child, build)));
    }
    running
}

impl Taken {
    fn add(&mut self, pid: u32, resident: u64, largest: u64) {
        self.resident += resident;
        self.largest = self.largest.max(largest);
        self.processes.push(pid);
    }

    /// The most that is known to have been taken: a process that has ended or shrunk in between was seen before.
    pub fn peak(&self) -> u64 {
        self.resident.max(self.largest)
    }
}

/// What it has, and the most it ever had. Nothing, if it is no more.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let size = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    // One that has ended and was not waited for has none.
    let bytes = |key| size(key).unwrap_or(0).saturating_mul(1024);
    Some((bytes("VmRSS:"), bytes("VmHWM:")))
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let mut found = Vec::new();
    for text in texts {
        found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRV: &str = "00000000000000000000000000000000-linux.drv";
    const OUT: &str = "11111111111111111111111111111111-linux";

    fn names() -> Names {
        let mut names = Names::default();
        names.add(&DRV.parse().unwrap(), [OUT.parse().unwrap()]);
        names
    }

    #[test]
    fn a_build_is_known_by_the_root_of_its_sandbox_in_every_version() {
        for end in ["", "/root"] {
            let mounts = format!(
                "22 28 0:20 / /proc rw - proc proc rw\n\
                 30 1 8:1 /nix/store/{DRV}.chroot{end} / rw - ext4 /dev/vda rw\n"
            );
            assert_eq!(names().in_sandbox(&mounts), Some(&DRV.parse().unwrap()));
        }
        assert_eq!(names().in_sandbox("30 1 8:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn without_a_sandbox_it_is_known_by_its_outputs() {
        let environment = format!("PATH=/x\0deps=/nix/store/{DRV} x\0out=/nix/store/{OUT}\0");
        assert_eq!(names().in_environment(environment.as_bytes()), Some(&DRV.parse().unwrap()));
        assert_eq!(names().in_environment(b"out=/nix/store/other\0\xff=\xff"), None);
    }

    #[test]
    fn what_has_ended_is_not_taken_for_what_uses_it() {
        let mut names = names();
        let user = DRV.replace("linux", "system").parse().unwrap();
        let out = OUT.replace("linux", "system");
        names.add(&user, [out.parse().unwrap()]);
        let environment = format!("kernel=/nix/store/{OUT}\0out=/nix/store/{out}\0");
        names.remove(&DRV.parse().unwrap());
        assert_eq!(names.in_environment(environment.as_bytes()), Some(&user));
    }

    #[test]
    fn this_process_is_seen_with_what_it_started() {
        let running = below(std::process::id(), &names());
        assert!(running.builds.is_empty());
        assert!(running.all.resident > 0 && running.all.peak() >= running.all.resident);
        assert_eq!(running.all.processes[0], std::process::id());
    }
}
