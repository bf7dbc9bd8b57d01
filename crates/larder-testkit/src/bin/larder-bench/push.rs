//! Pushes of a whole closure: to a folder, beside Nix, and to another machine, beside scp.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use larder_testkit::{
    Nix,
    process::{Program, built_program, find_program, path_with},
    scratch::scratch,
    sshd::Sshd,
};
use tempfile::TempDir;

use crate::packages::Packages;

/// A push takes longer than most programs may.
const LIMIT: Duration = Duration::from_secs(900);

/// How a NAR lies in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As `larder push` does it when nobody says anything: zstd at level 3, looked through for secrets.
    Default,
    /// As by default, but not looked through: what Nix does.
    Private,
    /// As it is, and not looked through: what is left is the transfer.
    Plain,
}

/// What pushes, from where, and the machine it pushes to, which is this one.
pub(crate) struct Pushes {
    pub(crate) packages: Packages,
    sshd: Sshd,
    folder: TempDir,
}

impl Pushes {
    pub(crate) fn new() -> Self {
        Self { packages: Packages::new(), sshd: Sshd::on_loopback(&[]), folder: scratch("push") }
    }

    /// The folder of that name.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty folder of that name.
    pub(crate) fn empty(&self, name: &str) -> PathBuf {
        let folder = self.folder(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        folder
    }

    /// Seconds that Nix takes to copy all to an empty folder.
    pub(crate) fn nix_to_folder(&self, folder: &Path, settings: &str) -> f64 {
        let to = format!("file://{}?{settings}", folder.display());
        let Packages { store, top, .. } = &self.packages;
        timed(store.program("nix").args(["copy", "--to", &to, top]))
    }

    /// Seconds that Larder takes to push all to an empty folder.
    pub(crate) fn larder_to_folder(&self, folder: &Path, packing: Packing) -> f64 {
        timed(self.larder(&format!("file://{}", folder.display()), packing))
    }

    /// The same to a folder of another machine.
    pub(crate) fn larder_over_ssh(&self, folder: &Path, packing: Packing) -> f64 {
        timed(self.larder(&format!("sftp://box{}", folder.display()), packing))
    }

    /// Seconds that scp takes for the same bytes as one file after the other.
    pub(crate) fn scp(&self, from: &Path, to: &Path) -> f64 {
        let to = format!("box:{}", to.display());
        let config = self.sshd.ssh_config_file("box");
        let scp = Program::new(find_program("scp")).args(["-q", "-r", "-F"]).arg(config);
        timed(scp.arg(from).arg(to))
    }

    /// A push that is not begun yet.
    pub(crate) fn larder(&self, to: &str, packing: Packing) -> Program {
        self.larder_by(to, packing, self.sshd.port())
    }

    /// The same, that reaches the other machine by another port.
    pub(crate) fn larder_by(&self, to: &str, packing: Packing, port: u16) -> Program {
        let Packages { store, top, .. } = &self.packages;
        let config = self.folder.path().join("larder.toml");
        let settings = match packing {
            // The sources of cryptography are full of keys for tests. All of it is looked through still.
            Packing::Default => "allow-secrets = [\"path *-*.*.*\"]\n",
            Packing::Private => "readable-by-others = false\n",
            Packing::Plain => "compression = \"none\"\nreadable-by-others = false\n",
        };
        let text = format!(
            "state-dir = {:?}\n[serve]\nstore = {:?}\n[push]\ntrusted-upstreams = []\n\
             [[cache]]\nname = \"target\"\nurl = {to:?}\n{settings}",
            self.folder.path().join("state"),
            store.uri(),
        );
        fs::write(&config, text).expect("the configuration can be written");
        let larder = Program::new(built_program("larder"));
        let larder = larder.arg("--config").arg(&config).args(["push", "--to", "target", top]);
        let environment = store.environment().into_iter();
        environment
            .fold(larder, |larder, (name, value)| larder.env(name, value))
            .env("PATH", path_with(&self.tools(port)))
    }

    pub(crate) fn ssh_port(&self) -> u16 {
        self.sshd.port()
    }

    /// A folder with an ssh that knows the other machine; ssh looks for its configuration in a home that no
    /// variable moves.
    fn tools(&self, port: u16) -> PathBuf {
        let tools = self.folder.path().join("tools");
        fs::create_dir_all(&tools).expect("a folder can be made");
        let script = format!(
            "#!/bin/sh\nexec {ssh} -F {config} -o Port={port} -o HostKeyAlias=127.0.0.1 \"$@\"\n",
            ssh = find_program("ssh").display(),
            config = self.sshd.ssh_config_file("box").display(),
        );
        let file = tools.join("ssh");
        fs::write(&file, script).expect("a script can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
        tools
    }
}

fn timed(program: Program) -> f64 {
    // What was written before is not to be paid for by who comes next.
    rustix::fs::sync();
    let start = Instant::now();
    let _ = program.timeout(LIMIT).run().success();
    start.elapsed().as_secs_f64()
}

/// Bytes of the files that lie in a folder itself.
pub(crate) fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok());
    files.filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}
