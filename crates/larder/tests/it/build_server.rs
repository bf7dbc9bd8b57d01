//! A build server to test: a store with its Nix, a configuration, and a fleet small enough to build
//! in a moment.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
};

use larder_fleet::{ledger::Ledger, night::ledger_file, revision::Revision};
use larder_testkit::{
    Finished, Nix, NixVersion, Program, TestStore,
    git::GitRepo,
    nix::{busybox, system},
    process::{find_program, path_with},
};

/// A store, and a configuration of `larder build` for it.
pub(crate) struct BuildServer {
    pub(crate) store: TestStore,
    flake: String,
}

impl BuildServer {
    /// A server with a fleet key that builds nothing yet: see [`BuildServer::configure`].
    pub(crate) fn new(version: NixVersion) -> Self {
        let server = Self { store: TestStore::new(version), flake: String::new() };
        fs::create_dir_all(server.gate()).unwrap();
        let shell = busybox();
        server.store.configure(&format!(
            "sandbox-paths = /bin/sh={shell} {shell} {gate}",
            shell = shell.display(),
            gate = server.gate().display()
        ));
        // A Nix that is installed has a database, if an empty one.
        let _ = server.store.nix(&["nix-store", "--init"]).success();
        let key = server.fleet_key().display().to_string();
        let _ = server.larder(&["key", "generate", "fleet-1", "--output", &key]).run().success();
        server
    }

    /// Writes the configuration: this flake, and more lines for `[build]`.
    pub(crate) fn configure(&mut self, flake: &str, build: &str) {
        flake.clone_into(&mut self.flake);
        let text = format!(
            "state-dir = {state:?}\n[serve]\nstore = {store:?}\n[build]\nflake = {flake:?}\n\
             rev-dir = {rev:?}\nfleet-key = {key:?}\n{build}\n",
            state = self.state_dir(),
            store = self.store.root(),
            rev = self.rev_dir(),
            key = self.fleet_key(),
        );
        fs::write(self.config(), text).unwrap();
    }

    /// The same flake with other lines for `[build]`.
    pub(crate) fn set(&mut self, build: &str) {
        let flake = self.flake.clone();
        self.configure(&flake, build);
    }

    /// More lines for `[serve]`, until the configuration is written again.
    pub(crate) fn serve(&self, serve: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        let text = text.replacen("[serve]\n", &format!("[serve]\n{serve}\n"), 1);
        fs::write(self.config(), text).unwrap();
    }

    /// More lines at the end of the configuration, until it is written again.
    pub(crate) fn also(&self, sections: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), format!("{text}\n{sections}\n")).unwrap();
    }

    /// The program, with this server's configuration and Nix.
    pub(crate) fn larder(&self, arguments: &[&str]) -> Program {
        self.store
            .program(env!("CARGO_BIN_EXE_larder"))
            .env("LARDER_CONFIG", self.config())
            .args(arguments)
    }

    /// A PATH in which one program is this shell script; `$REAL` in it is the real one.
    pub(crate) fn path_where(&self, command: &str, script: &str) -> OsString {
        let folder = self.store.work_dir().join(format!("instead-of-{command}"));
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(self.store.version().bin_dir()).unwrap().flatten() {
            symlink(entry.path(), folder.join(entry.file_name())).unwrap();
        }
        let real = folder.join(command);
        let real = fs::canonicalize(&real).unwrap_or_else(|_| find_program(command));
        let _ = fs::remove_file(folder.join(command));
        // Nix is one program that goes by its name.
        let script =
            format!("#!/bin/bash\nREAL='exec -a {command} {}'\n{script}\n", real.display());
        fs::write(folder.join(command), script).unwrap();
        fs::set_permissions(folder.join(command), fs::Permissions::from_mode(0o755)).unwrap();
        path_with(&folder)
    }

    /// A program to be named by arguments, with this server's configuration and Nix, for which mounts
    /// are made that nobody else sees.
    pub(crate) fn inside_mount_namespace(&self) -> Program {
        let program = self.store.program("/usr/bin/env").env("LARDER_CONFIG", self.config());
        program.args(["unshare", "--mount", "--propagation", "private"])
    }

    /// `larder build` with these arguments, to its end.
    pub(crate) fn build(&self, arguments: &[&str]) -> Finished {
        self.larder(&["build"]).args(arguments).run()
    }

    /// The report that `larder build --json` or `larder check --json` printed.
    pub(crate) fn report(finished: &Finished) -> serde_json::Value {
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.store.work_dir().join("larder.toml")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.store.work_dir().join("state")
    }

    pub(crate) fn rev_dir(&self) -> PathBuf {
        self.store.work_dir().join("rev")
    }

    pub(crate) fn fleet_key(&self) -> PathBuf {
        self.store.work_dir().join("fleet.key")
    }

    /// A folder that builds see under the same name, and may write to.
    pub(crate) fn gate(&self) -> PathBuf {
        self.store.work_dir().join("gate")
    }

    /// Lets every build go on that waits at the gate, now and later.
    pub(crate) fn open_gate(&self) {
        fs::write(self.gate().join("open"), "").unwrap();
    }

    /// What a host's `.rev` file says; `None` without one.
    pub(crate) fn rev(&self, host: &str) -> Option<String> {
        fs::read_to_string(self.rev_dir().join(format!("{host}.rev"))).ok()
    }

    /// The newest revision of a host.
    pub(crate) fn latest(&self, host: &str) -> Option<Revision> {
        let ledger = Ledger::read(&ledger_file(&self.state_dir())).unwrap()?;
        ledger.latest(&host.parse().unwrap()).unwrap()
    }

    /// A host's newest system, as a full store path.
    pub(crate) fn system(&self, host: &str) -> String {
        let revision = self.latest(host).unwrap_or_else(|| panic!("{host} has no revision"));
        format!("/nix/store/{}", revision.store_path)
    }

    /// Runs the garbage collector.
    pub(crate) fn collect_garbage(&self) {
        let _ = self.store.nix(&["nix-store", "--gc"]).success();
    }

    /// The processes that work for this server: those whose environment names its folder.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let marker = self.store.work_dir();
        let marker = marker.parent().unwrap().as_os_str().as_encoded_bytes();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let names_it = environment.windows(marker.len()).any(|window| window == marker);
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            names_it.then(|| (pid, String::from_utf8_lossy(&command).replace('\0', " ")))
        })
        .collect()
    }
}

/// A configuration whose systems are a shell script each, and an input that plays nixpkgs.
pub(crate) struct SmallFleet {
    pub(crate) nixpkgs: GitRepo,
    pub(crate) config: GitRepo,
}

/// What plays nixpkgs: a function that makes derivations. Each names its server's folder, so that no
/// two tests share a store path.
const MAKE: &str = r#"{
  outputs = _: {
    make = name: script: derivation {
      inherit name;
      system = "@system@";
      builder = "@busybox@";
      args = [ "sh" "-euc" script ];
      gate = "@gate@";
      generation = builtins.readFile ./generation;
    };
  };
}
"#;

const CONFIG: &str = r#"{
  inputs.nixpkgs.url = "@nixpkgs@";
  outputs = { self, nixpkgs }: {
    nixosConfigurations = builtins.mapAttrs
      (host: system: { config.system.build.toplevel = system; })
      (import ./hosts.nix nixpkgs.make);
  };
}
"#;

/// A script's part that tells of itself, and waits until the gate is opened.
pub(crate) const WAIT: &str =
    "echo > $gate/waiting; while [ ! -e $gate/open ]; do $builder sleep 0.02; done; ";

impl SmallFleet {
    /// Three hosts: alpha, beta, gamma. There is no lock file yet.
    pub(crate) fn new(server: &BuildServer) -> Self {
        let dir = server.store.work_dir();
        let fleet = Self {
            nixpkgs: GitRepo::init(&dir.join("nixpkgs")),
            config: GitRepo::init(&dir.join("config")),
        };
        let make = MAKE
            .replace("@system@", &system())
            .replace("@busybox@", &busybox().display().to_string())
            .replace("@gate@", &server.gate().display().to_string());
        fleet.nixpkgs.write("flake.nix", make);
        let _ = fleet.move_nixpkgs("1");
        fleet.config.write("flake.nix", CONFIG.replace("@nixpkgs@", &fleet.nixpkgs.flake_url()));
        let _ = fleet.set_hosts(&[("alpha", ""), ("beta", ""), ("gamma", "")]);
        fleet
    }

    /// A server and its small fleet, configured.
    pub(crate) fn with_server(version: NixVersion, build: &str) -> (BuildServer, Self) {
        let mut server = BuildServer::new(version);
        let fleet = Self::new(&server);
        server.configure(&fleet.config.dir().display().to_string(), build);
        (server, fleet)
    }

    /// Replaces all hosts, each by its name and the script that makes its system, before its name is
    /// written there. Returns the commit.
    pub(crate) fn set_hosts(&self, hosts: &[(&str, &str)]) -> String {
        let host = |(name, script): &(&str, &str)| {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
            format!(
                "  \"{name}\" = make \"nixos-system\" ''{script}\n    echo \"{name}\" > $out\n  '';\n"
            )
        };
        let hosts: String = hosts.iter().map(host).collect();
        self.write_hosts(&hosts)
    }

    /// Replaces all hosts by Nix's own words; `make NAME SCRIPT` makes a system. Returns the commit.
    pub(crate) fn write_hosts(&self, attributes: &str) -> String {
        self.config.write("hosts.nix", format!("make: {{\n{attributes}}}\n"));
        self.config.commit("hosts")
    }

    /// Moves nixpkgs on, so that every system changes. Returns the commit.
    pub(crate) fn move_nixpkgs(&self, generation: &str) -> String {
        self.nixpkgs.write("generation", generation);
        self.nixpkgs.commit("generation")
    }

    /// Somebody else's clone of the repository that the server fetches from.
    pub(crate) fn clone_config(&self, to: &std::path::Path, from: &std::path::Path) -> GitRepo {
        let (from, to_text) = (from.display().to_string(), to.display().to_string());
        let _ = self.config.git(&["clone", "--quiet", &from, &to_text]);
        GitRepo::open(to)
    }

    /// Makes the lock file and commits it.
    pub(crate) fn lock(&self, store: &TestStore) {
        let dir = self.config.dir().display().to_string();
        let _ = store.nix(&["nix", "flake", "lock", &dir]).success();
        let _ = self.config.commit("lock");
    }
}
