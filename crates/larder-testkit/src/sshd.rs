//! A real sshd with keys of its own, which lets the current user in and nobody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::machine::Machine;
use crate::nginx::{free_port, free_port_at};
use crate::process::{Background, Program, find_program};
use crate::scratch::scratch;
use crate::tree::{make_dir, write};

/// A running sshd and the means to reach it; gone on drop.
#[derive(Debug)]
pub struct Sshd {
    host: String,
    port: u16,
    dir: TempDir,
    server: Background,
}

impl Sshd {
    /// On a loopback port of this machine. Commands run through it get `environment`.
    #[must_use]
    pub fn on_loopback(environment: &[(&str, &str)]) -> Self {
        let port = free_port();
        Self::start(("127.0.0.1", port), environment, "", |program| program)
    }

    /// The same on a loopback address of its own, `127.0.0.2` say, and with more lines for its configuration.
    #[must_use]
    pub fn at(address: &str, environment: &[(&str, &str)], more: &str) -> Self {
        Self::start((address, free_port_at(address)), environment, more, |program| program)
    }

    /// On port 22 of a machine of its own; its commands find that machine's Nix.
    #[must_use]
    pub fn on_machine(machine: &Machine, environment: &[(&str, &str)]) -> Self {
        let _ = machine.sh("mkdir -p /run/sshd").success();
        let own = machine.environment();
        let all: Vec<(&str, &str)> = own
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(environment.iter().copied())
            .collect();
        Self::start((machine.address(), 22), &all, "", |program| machine.inside(program))
    }

    /// `Host NAME` and all it takes to connect without a question: for `ssh -F`, or to be included.
    #[must_use]
    pub fn ssh_config(&self, name: &str) -> String {
        format!(
            "Host {name}\n  HostName {host}\n  Port {port}\n  User {user}\n  IdentityFile {key}\n  \
             IdentitiesOnly yes\n  BatchMode yes\n  StrictHostKeyChecking yes\n  UserKnownHostsFile {known}\n  \
             ConnectTimeout 5\n",
            host = self.host,
            port = self.port,
            user = current_user(),
            key = self.dir.path().join("client").display(),
            known = self.dir.path().join("known_hosts").display(),
        )
    }

    /// The same written to a file, which `ssh -F` and `NIX_SSHOPTS="-F …"` take.
    #[must_use]
    pub fn ssh_config_file(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(format!("config-{name}"));
        write(&path, self.ssh_config(name));
        path
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection at this end, as a crash of it would; new ones are welcome.
    ///
    /// # Panics
    /// When there is none.
    pub fn break_connections(&self) {
        let parent = self.server.pid().to_string();
        let ends = Program::new("pgrep").args(["-P", &parent]).run().success().lines();
        for end in ends {
            // One may just have ended by itself.
            let _ = Program::new("kill").args(["-9", &end]).run();
        }
    }

    /// The private key that opens it.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.dir.path().join("client")
    }

    /// The address it listens on.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The public key it shows, as a line of a file.
    ///
    /// # Panics
    /// When the file is gone.
    #[must_use]
    pub fn host_key(&self) -> String {
        let key = fs::read_to_string(self.dir.path().join("host.pub"));
        key.expect("ssh-keygen wrote it").trim().to_owned()
    }

    /// Crashes, with every connection: what ran for them is ended as well, as when the power goes.
    pub fn crash(&mut self) {
        self.stop_sessions("-9");
        self.server.kill();
    }

    /// Falls silent, with every connection: each stays, and nothing comes.
    pub fn hang(&self) {
        self.stop_sessions("-STOP");
        let _ = Program::new("kill").args(["-STOP", &self.server.pid().to_string()]).run();
    }

    /// Starts again after a crash, where it was.
    pub fn restart(&mut self) {
        let sshd = Program::new(find_program("sshd")).args(["-D", "-e", "-f"]);
        self.server = sshd.arg(self.dir.path().join("sshd_config")).spawn();
        self.server.wait_for_line("Server listening");
    }

    fn stop_sessions(&self, signal: &str) {
        let parent = self.server.pid().to_string();
        let mut ends = vec![parent.clone()];
        let mut index = 0;
        while let Some(parent) = ends.get(index).cloned() {
            ends.extend(Program::new("pgrep").args(["-P", &parent]).run().lines());
            index += 1;
        }
        for end in ends.iter().filter(|end| **end != parent) {
            // One may just have ended by itself.
            let _ = Program::new("kill").args([signal, end]).run();
        }
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.output()
    }

    fn start(
        (host, port): (&str, u16),
        environment: &[(&str, &str)],
        more: &str,
        wrap: impl FnOnce(Program) -> Program,
    ) -> Self {
        let dir = scratch("sshd");
        write_files(dir.path(), (host, port), environment, more);
        if rustix::process::geteuid().is_root() {
            // Where Debian's sshd separates privileges; it refuses to start without.
            make_dir(Path::new("/run/sshd"));
        }
        let sshd = Program::new(find_program("sshd")).args(["-D", "-e", "-f"]);
        let mut server = wrap(sshd.arg(dir.path().join("sshd_config"))).spawn();
        server.wait_for_line("Server listening");
        Self { host: host.to_owned(), port, dir, server }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // They are process groups of their own, and may be stopped.
        self.stop_sessions("-9");
    }
}

fn write_files(dir: &Path, (host, port): (&str, u16), environment: &[(&str, &str)], more: &str) {
    for key in ["host", "client"] {
        let keygen =
            Program::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]);
        let _ = keygen.arg(dir.join(key)).run().success();
    }
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect("ssh-keygen wrote it");
    write(&dir.join("authorized_keys"), read("client.pub"));
    write(
        &dir.join("known_hosts"),
        format!("[{host}]:{port} {key}{host} {key}", key = read("host.pub")),
    );
    let variables: Vec<String> =
        environment.iter().map(|(name, value)| format!("\"{name}={value}\"")).collect();
    let set_env = match variables.as_slice() {
        [] => String::new(),
        some => format!("SetEnv {}\n", some.join(" ")),
    };
    let conf = format!(
        "ListenAddress {host}:{port}\nHostKey {d}/host\nAuthorizedKeysFile {d}/authorized_keys\n\
         PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n\
         Subsystem sftp internal-sftp\n{set_env}{more}\n",
        d = dir.display(),
    );
    write(&dir.join("sshd_config"), conf);
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir, open).expect("one's own folder can be opened");
}

fn current_user() -> String {
    Program::new("id").arg("-un").run().success().text().to_owned()
}
