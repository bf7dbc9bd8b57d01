//! A machine of its own: its own `/nix`, `/etc`, `/run`, `/var/lib`, home and network.
//!
//! It is a mount and a network namespace. Programs of this machine run in it as they are; what they
//! write to those folders lies in a temporary folder, and nothing outside sees it. Processes are not
//! walled off: a program's number is the same inside and outside, so signals and exits mean what they say.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::network::{Holder, Network};
use crate::nix::{EMPTY_REGISTRY, Nix, NixVersion, nix_conf, without_settings};
use crate::process::{Background, Finished, Program, path_with};
use crate::scratch::scratch;
use crate::tree::{make_dir, make_writable, write};

/// A machine; gone on drop, with all that runs on it.
#[derive(Debug)]
pub struct Machine {
    // First, so that its processes are gone before its folders are removed.
    holder: Holder,
    name: String,
    address: String,
    port: String,
    version: NixVersion,
    dir: TempDir,
}

impl Machine {
    /// A machine with this Nix, plugged into a network, where the others know it by its name.
    ///
    /// # Panics
    /// When namespaces can't be made: it takes root.
    #[must_use]
    pub fn new(network: &Network, name: &str, version: NixVersion) -> Self {
        let dir = scratch(name);
        for folder in ["nix/store", "nix/var/nix", "run", "lib", "home", "log"] {
            make_dir(&dir.path().join(folder));
        }
        if !Path::new("/nix").exists() {
            make_dir(Path::new("/nix"));
        }
        let holder = Holder::start(
            &["--mount", "--net", "--uts", "--propagation", "private"],
            &format!(
                "{store}cp -a /etc {d}/etc\nmount --rbind {d}/nix /nix\nmount --bind {d}/etc /etc\n\
                 mount --bind {d}/run /run\nmount --bind {d}/lib /var/lib\nmount --bind {d}/log /var/log\n\
                 hostname {name}\nip link set lo up",
                d = dir.path().display(),
                store = keep_host_store(dir.path(), version),
            ),
        );
        let (address, port) = network.plug(name, holder.pid());
        let machine = Self { holder, name: name.to_owned(), address, port, version, dir };
        machine.settle(network);
        machine
    }

    /// Its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address in its network.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its Nix.
    #[must_use]
    pub fn version(&self) -> NixVersion {
        self.version
    }

    /// Puts a program into this machine; its environment is the machine's where that says something.
    #[must_use]
    pub fn inside(&self, program: Program) -> Program {
        let program =
            self.environment().into_iter().fold(program, |p, (name, value)| p.env(&name, value));
        self.holder.enter(&["--mount", "--net", "--uts"], program)
    }

    /// A program of this machine, by name or path, run as root in its own home.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Program {
        self.inside(without_settings(Program::new(program).dir(self.home())))
    }

    /// Runs a program and its arguments to the end.
    ///
    /// # Panics
    /// When it can't be started or does not end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Finished {
        let (program, args) = words.split_first().expect("a program's name comes first");
        self.command(program).args(args).run()
    }

    /// Runs a shell script.
    pub fn sh(&self, script: &str) -> Finished {
        self.run(&["/bin/sh", "-euc", script])
    }

    /// Starts a program with its arguments, and leaves it running until the value is dropped.
    #[must_use]
    pub fn spawn<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Background {
        let (program, args) = words.split_first().expect("a program's name comes first");
        self.command(program).args(args).spawn()
    }

    /// The variables its programs get: its home, and a PATH that begins with its Nix.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = path_with(&self.version.bin_dir()).to_string_lossy().into_owned();
        vec![("PATH".to_owned(), path), ("HOME".to_owned(), self.home().display().to_string())]
    }

    /// Its root's home: the same folder inside and outside.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The process that holds its namespaces, for `nsenter --target`.
    #[must_use]
    pub fn holder_pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Where one of its files is seen from outside. A link to an absolute path leads outside; read it instead.
    #[must_use]
    pub fn path_outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.pid()))
    }

    /// Writes a file of it; folders are made.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&self.path_outside(path), content);
    }

    /// Reads a file of it as text, following links as it would itself.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        self.run(&["cat", path]).success().stdout
    }

    /// Where a link of it leads in the end, as `readlink -f` says.
    #[must_use]
    pub fn resolve(&self, path: &str) -> String {
        self.run(&["readlink", "-f", path]).text().to_owned()
    }

    /// More lines for its nix.conf, which win over those that are there.
    pub fn configure_nix(&self, extra: &str) {
        let registry = PathBuf::from("/etc/nix/registry.json");
        self.write("/etc/nix/nix.conf", nix_conf(&registry, extra));
    }

    /// How many bytes came to it over its network so far, as its network card counts them.
    ///
    /// # Panics
    /// When its kernel does not say.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        let counters = self.run(&["cat", "/proc/net/dev"]).success();
        let card = counters.stdout.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let received = card.and_then(|line| line.split_whitespace().next()?.parse().ok());
        received.expect("a plugged-in machine has a network card")
    }

    /// Pulls its cable, or plugs it in again.
    pub fn set_connected(&self, network: &Network, connected: bool) {
        network.ip(&["link", "set", &self.port, if connected { "up" } else { "down" }]);
    }

    fn settle(&self, network: &Network) {
        let address = format!("{}/24", self.address);
        let _ = self.run(&["ip", "address", "add", &address, "dev", "eth0"]).success();
        let _ = self.run(&["ip", "link", "set", "eth0", "up"]).success();
        let _ =
            self.run(&["ip", "route", "add", "default", "via", &network.host_address()]).success();
        let hosts = format!("127.0.0.1 localhost\n::1 localhost\n{}", network.hosts());
        self.write("/etc/hosts", hosts);
        self.write("/etc/hostname", format!("{}\n", self.name));
        // Nobody answers questions about names here, and each would be waited for.
        self.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n");
        self.write("/etc/resolv.conf", "");
        // What the machine below is configured for is no business of this one.
        for folder in ["/etc/nix", "/etc/larder"] {
            let _ = std::fs::remove_dir_all(self.path_outside(folder));
            make_dir(&self.path_outside(folder));
        }
        self.write("/etc/nix/registry.json", EMPTY_REGISTRY);
        self.configure_nix("");
    }
}

impl Nix for Machine {
    fn program(&self, command: &str) -> Program {
        self.command(self.version.bin(command))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        make_writable(self.dir.path());
    }
}

/// On a machine whose Nix lies in `/nix/store`, and on NixOS all else too, its files stay visible below
/// those of this machine, whose own database knows nothing of them.
fn keep_host_store(dir: &Path, version: NixVersion) -> String {
    let nix = version.bin("nix-store");
    let nix = nix.canonicalize().unwrap_or(nix);
    if !nix.starts_with("/nix/store") && !Path::new("/etc/NIXOS").exists() {
        return String::new();
    }
    make_dir(&dir.join("upper"));
    make_dir(&dir.join("overlay-work"));
    format!(
        "mount -t overlay overlay -o lowerdir=/nix/store,upperdir={d}/upper,workdir={d}/overlay-work \
         {d}/nix/store\n",
        d = dir.display()
    )
}
