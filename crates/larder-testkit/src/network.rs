//! A network of its own: a switch in a network namespace, to which machines are plugged in.
//!
//! The switch, its address range and every cable live and die with one holder process, which ends when
//! the test does, however that ends. So nothing has to be swept, and parallel tests can't meet.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::process::{Group, Program};

/// A switch and its address range, which reaches this machine too.
#[derive(Debug)]
pub struct Network {
    holder: Holder,
    prefix: String,
    host_side: String,
    plugged: AtomicU32,
    names: Mutex<Vec<(String, String)>>,
}

impl Network {
    /// A new network, nothing plugged in but this machine, as the first address of its range.
    ///
    /// # Panics
    /// When network namespaces can't be made: it takes root.
    #[must_use]
    pub fn new() -> Self {
        let holder = Holder::start(
            &["--net"],
            "ip link set lo up && ip link add switch type bridge && ip link set switch up",
        );
        let (number, host_side) = take_range(&holder);
        let prefix = format!("10.{}.{}", 64 + number / 256, number % 256);
        let network =
            Self { holder, prefix, host_side, plugged: AtomicU32::new(0), names: Mutex::default() };
        network.settle_host();
        network
    }

    /// This machine's address in the network: from here, and to here, the machines are reached.
    #[must_use]
    pub fn host_address(&self) -> String {
        format!("{}.1", self.prefix)
    }

    /// Runs a command among the switch's own devices: `["ip", "link", …]`.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, args: &[&str]) {
        let _ = self.holder.enter(&["--net"], Program::new("ip").args(args)).run().success();
    }

    /// Plugs in a machine's namespace; returns its address and its port's name at the switch.
    pub(crate) fn plug(&self, name: &str, holder: u32) -> (String, String) {
        let number = 2 + self.plugged.fetch_add(1, Ordering::Relaxed);
        let (address, port) = (format!("{}.{number}", self.prefix), format!("port{number}"));
        let pid = holder.to_string();
        self.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        self.ip(&["link", "set", &port, "master", "switch", "up"]);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.push((address.clone(), name.to_owned()));
        (address, port)
    }

    /// Lines of /etc/hosts for all that was plugged in so far.
    pub(crate) fn hosts(&self) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().map(|(address, name)| format!("{address} {name}\n")).collect()
    }

    fn settle_host(&self) {
        let ip = |args: &[&str]| drop(Program::new("ip").args(args).run().success());
        let side = self.host_side.as_str();
        ip(&["address", "add", &format!("{}/24", self.host_address()), "dev", side]);
        ip(&["link", "set", side, "up"]);
        self.ip(&["link", "set", "host", "master", "switch", "up"]);
    }
}

/// Plugs this machine in, by a device named for the address range: since no two devices have one name, no
/// two networks have one range. It vanishes with the namespace that its other end is given to.
fn take_range(holder: &Holder) -> (u32, String) {
    let pid = holder.pid().to_string();
    let mut refused = String::new();
    for attempt in 0..64 {
        let number = (std::process::id() * 8 + attempt) % (128 * 256);
        let side = format!("larder{number}");
        let link = ["link", "add", &side, "type", "veth", "peer", "name", "host", "netns", &pid];
        let made = Program::new("ip").args(link).run();
        if made.ok() {
            return (number, side);
        }
        refused = made.stderr;
    }
    panic!("no network device can be made: {refused}")
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

/// A process that does nothing but hold namespaces, until its input is closed: by its owner's drop, or
/// by the end of the whole test process. Then it kills whatever else lives in them.
#[derive(Debug)]
pub(crate) struct Holder {
    group: Group,
}

impl Holder {
    /// `kinds` are options of unshare; `prepare` is a shell script run inside first.
    pub(crate) fn start(kinds: &[&str], prepare: &str) -> Self {
        let script = format!(
            "set -e\n{prepare}\nset +e\necho held\ncat\n\
             own=$(readlink /proc/$$/ns/net)\n\
             for process in /proc/[0-9]*; do\n\
             [ \"${{process#/proc/}}\" = $$ ] || [ \"$(readlink $process/ns/net)\" != \"$own\" ] || kill -9 ${{process#/proc/}}\n\
             done 2>/dev/null\n"
        );
        let program = Program::new("unshare").args(kinds).args(["--", "/bin/sh", "-c", &script]);
        let path = crate::process::path_with(std::path::Path::new("/usr/bin"));
        let (mut group, what) = program.env("PATH", path).spawn_with_pipes();
        let mut first = [0; 5];
        let said =
            group.child.stdout.as_mut().map(|pipe| std::io::Read::read_exact(pipe, &mut first));
        if !matches!(said, Some(Ok(()))) || &first != b"held\n" {
            drop(group.child.stdin.take());
            let mut error = String::new();
            let _ = group
                .child
                .stderr
                .as_mut()
                .map(|pipe| std::io::Read::read_to_string(pipe, &mut error));
            panic!("namespaces can't be made, which takes root: {error}\n{what}");
        }
        Self { group }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.group.child.id()
    }

    /// The same program, run within the namespaces of these kinds (options of nsenter).
    pub(crate) fn enter(&self, kinds: &[&str], program: Program) -> Program {
        let pid = self.pid().to_string();
        program.behind("nsenter", &[&["--target", &pid], kinds, &["--"]].concat())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its script ends the others first; the group's own drop would not let it.
        drop(self.group.child.stdin.take());
        let _ = self.group.child.wait();
    }
}
