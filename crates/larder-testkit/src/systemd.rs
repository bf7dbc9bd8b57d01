//! A machine whose services are run by the real systemd, as its first process.
//!
//! It has processes and control groups of its own, so that a systemd of the machine below is not met. Of the
//! machine's services none is started but its journal.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::process::{Background, Finished, Program};

/// Where it lies: on Debian, on NixOS.
const PROGRAMS: [&str; 2] =
    ["/lib/systemd/systemd", "/run/current-system/systemd/lib/systemd/systemd"];

/// What it starts with.
const TARGET: &str = "[Unit]\nWants=systemd-journald.service\nAfter=systemd-journald.service\n";

/// Makes a tree of control groups that begins here, waits in a group of it where it is in nobody's way, and begins
/// other namespaces.
const OUTSIDE: &str = "mkdir \"$1\" \"$1/outside\"; echo $$ >\"$1/cgroup.procs\"
exec unshare --cgroup /bin/sh -euc '
echo $$ >\"$1/outside/cgroup.procs\"
exec unshare --mount --pid --ipc --fork --kill-child /bin/sh -euc \"$3\" sh \"$2\"' sh \"$@\"";

/// Makes a root of its own, as systemd expects it in a container, and becomes systemd.
const INSIDE: &str = "
mkdir /run/root
mount --rbind / /run/root
cd /run/root
groups=$(stat --file-system --format=%T sys/fs/cgroup)
mount -t proc proc proc
for folder in run tmp var/tmp; do mount -t tmpfs tmpfs $folder; done
if [ $groups = cgroup2fs ]; then
  umount sys/fs/cgroup
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  echo 0 >sys/fs/cgroup/cgroup.procs
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
  echo 0 >sys/fs/cgroup/systemd/cgroup.procs
fi
pivot_root . .
umount --lazy .
mount --make-rshared /
exec env container=larder \"$1\" --system --unit=first.target";

/// It runs; gone on drop, with all that it started.
#[derive(Debug)]
pub struct Systemd {
    process: Option<Background>,
    pid: String,
    group: PathBuf,
    path: String,
}

impl Systemd {
    /// Has systemd run this machine.
    ///
    /// # Panics
    /// When there is no systemd here, or it does not start.
    #[must_use]
    pub fn of(machine: &Machine) -> Self {
        let program = PROGRAMS.into_iter().find(|program| Path::new(program).exists());
        let program = program.expect("systemd is not installed here");
        let group = groups().join(format!("larder-test-{}", machine.holder_pid()));
        machine.write("/etc/systemd/system/first.target", TARGET);
        machine.write("/etc/machine-id", format!("{:032x}\n", machine.holder_pid()));
        let outer = machine.command("/bin/sh").args(["-euc", OUTSIDE, "sh"]).arg(&group);
        let mut process = outer.arg(program).arg(INSIDE).spawn();
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        let pid = process.wait_for("first process", Duration::from_secs(30), |_| {
            let children = std::fs::read_to_string(&children).ok()?;
            let pid = children.split_whitespace().next()?;
            // Before that it is one of the programs that prepare it.
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name.trim_end() == "systemd").then(|| pid.to_owned())
        });
        let (_, path) = machine.environment().swap_remove(0);
        let systemd = Self { process: Some(process), pid, group, path };
        systemd.wait_for("end of the start", || {
            let state = systemd.ctl(&["is-system-running"]);
            let units = || systemd.ctl(&["--no-pager", "--failed", "status"]);
            assert!(state.text() != "degraded", "{}", units());
            state.text() == "running"
        });
        systemd
    }

    /// A program that it might have started itself.
    #[must_use]
    pub fn program(&self, name: &str) -> Program {
        let namespaces = ["--mount", "--pid", "--ipc", "--cgroup", "--uts", "--net"];
        let entered = Program::new("nsenter").args(["--target", &self.pid]).args(namespaces);
        entered.args(["--root", "--wd", "--", name]).env("PATH", &self.path).env("HOME", "/root")
    }

    /// `systemctl` with these words.
    pub fn ctl(&self, words: &[&str]) -> Finished {
        self.program("systemctl").args(words).run()
    }

    /// One property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.ctl(&["show", "--value", "--property", name, unit]).success().text().to_owned()
    }

    /// What a unit said so far.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        self.program("journalctl").args(["--no-pager", "--unit", unit]).run().stdout
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// When it is not within a minute.
    pub fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "no {what} within a minute");
            sleep(Duration::from_millis(100));
        }
    }
}

/// Where control groups are made: in the only tree, or in systemd's own of version 1.
fn groups() -> PathBuf {
    let old = PathBuf::from("/sys/fs/cgroup/systemd");
    if old.is_dir() { old } else { PathBuf::from("/sys/fs/cgroup") }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With the first process all others end; their groups are empty then.
        drop(self.process.take());
        let group = self.group.display().to_string();
        let end = Instant::now() + Duration::from_secs(10);
        while self.group.exists() && Instant::now() < end {
            let _ = Program::new("find")
                .args([&group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                .run();
            sleep(Duration::from_millis(20));
        }
    }
}
