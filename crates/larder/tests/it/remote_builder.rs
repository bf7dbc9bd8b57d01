//! Remote builders to test with: each a store with its Nix, behind an sshd on a loopback address of its own.

use std::{fs, path::PathBuf};

use larder_testkit::{NixVersion, TestStore, nix::busybox, process::path_with, sshd::Sshd};

use crate::build_server::{BuildServer, SmallFleet};

/// A system that no machine here has.
pub(crate) const FOREIGN: &str = "riscv64-linux";

/// A builder that runs.
pub(crate) struct RemoteBuilder {
    pub(crate) name: String,
    pub(crate) store: TestStore,
    pub(crate) sshd: Sshd,
}

impl RemoteBuilder {
    /// One that builds for [`FOREIGN`] besides its own system, and can reach a server's gate.
    pub(crate) fn new(server: &BuildServer, version: NixVersion, number: u8) -> Self {
        Self::with(server, (version, number), |_| String::new())
    }

    /// The same with more lines for its sshd.
    pub(crate) fn with(
        server: &BuildServer,
        (version, number): (NixVersion, u8),
        sshd: impl Fn(&TestStore) -> String,
    ) -> Self {
        let store = TestStore::new(version);
        let name = format!("builder{number}");
        let who = store.work_dir().join("who");
        fs::create_dir_all(&who).unwrap();
        fs::write(who.join("name"), &name).unwrap();
        store.configure(&format!("{}\nextra-platforms = {FOREIGN}", sandbox(server, &who)));
        let text = |path: &std::ffi::OsStr| path.to_str().unwrap().to_owned();
        let own = store.environment().into_iter().map(|(n, v)| (n.to_owned(), text(v.as_os_str())));
        let path = ("PATH".to_owned(), text(&path_with(&version.bin_dir())));
        let all: Vec<(String, String)> = own.chain([path]).collect();
        let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let sshd = Sshd::at(&format!("127.0.0.{}", 1 + number), &all, &sshd(&store));
        Self { name, store, sshd }
    }

    /// Its `[[builder]]`, with more lines.
    pub(crate) fn section(&self, more: &str) -> String {
        format!(
            "[[builder]]\nname = \"{name}\"\nhost = \"{host}\"\nport = {port}\nkey = {key:?}\n\
             host-key = \"{host_key}\"\n{more}\n",
            name = self.name,
            host = self.sshd.host(),
            port = self.sshd.port(),
            key = self.sshd.client_key(),
            host_key = self.sshd.host_key(),
        )
    }

    /// What was built here, a line each.
    pub(crate) fn built(&self) -> Vec<String> {
        let log = fs::read_to_string(self.store.work_dir().join("who/log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// What builds of a store may see: the gate, and where they are built.
fn sandbox(server: &BuildServer, who: &std::path::Path) -> String {
    format!(
        "sandbox-paths = /bin/sh={shell} {shell} {gate} /who={who}",
        shell = busybox().display(),
        gate = server.gate().display(),
        who = who.display(),
    )
}

/// What was built by the server itself, a line each.
pub(crate) fn built_here(server: &BuildServer) -> Vec<String> {
    let log = fs::read_to_string(here(server).join("log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

fn here(server: &BuildServer) -> PathBuf {
    server.store.work_dir().join("who")
}

/// A server whose nix.conf has these lines more, and a fleet for it.
pub(crate) fn server(version: NixVersion, nix_conf: &str) -> (BuildServer, SmallFleet) {
    let mut server = BuildServer::new(version);
    fs::create_dir_all(here(&server)).unwrap();
    fs::write(here(&server).join("name"), "here").unwrap();
    server.store.configure(&format!("{}\n{nix_conf}", sandbox(&server, &here(&server))));
    let fleet = SmallFleet::new(&server);
    server.configure(&fleet.config.dir().display().to_string(), "");
    (server, fleet)
}

/// A derivation for a system, in Nix's words, which tells where it is built.
pub(crate) fn job(server: &BuildServer, (name, system): (&str, &str), script: &str) -> String {
    format!(
        "(derivation {{ name = \"{name}\"; system = \"{system}\"; builder = \"{busybox}\"; \
         gate = \"{gate}\"; args = [ \"sh\" \"-euc\" \
         ''$builder echo {name} >> /who/log; {script} $builder echo {name} > $out'' ]; }})",
        busybox = busybox().display(),
        gate = server.gate().display(),
    )
}
