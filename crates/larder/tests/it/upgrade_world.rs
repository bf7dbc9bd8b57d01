//! A fleet to test upgrades with: a server that built it and serves it, and machines that upgrade.

use std::path::{Path, PathBuf};

use larder_fleet::revision::Revision;
use larder_formats::{envelope::Envelope, signature::SecretKey};
use larder_testkit::{
    Background, Finished, Machine, Network, Nix, NixVersion, Program, SampleFleet,
    fleet::edit_motd, nix::busybox, scratch::scratch,
};
use tempfile::TempDir;

/// The profile of a system.
pub(crate) const PROFILE: &str = "/nix/var/nix/profiles/system";
/// Where a client has its checkout of the configuration.
pub(crate) const CHECKOUT: &str = "/etc/nixos";
/// Where a machine's own configuration of Larder is.
const CONFIG: &str = "/etc/larder/larder.toml";

/// A network with a server in it, which has built the fleet.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) server: Machine,
    pub(crate) fleet: SampleFleet,
    pub(crate) cache_key: String,
    pub(crate) fleet_key: String,
    serving: Option<Background>,
    dir: TempDir,
}

impl World {
    /// The fleet, built and served by a server with this Nix.
    pub(crate) fn new(version: NixVersion) -> Self {
        let dir = scratch("upgrade");
        let network = Network::new();
        let server = Machine::new(&network, "server", version);
        let fleet = SampleFleet::small(dir.path());
        fleet.lock(&server);
        let generate = |name: &str, file: &str| {
            let args = ["key", "generate", name, "--output", file];
            larder(&server, &args).run().success().text().to_owned()
        };
        let cache_key = generate("cache-1", "/etc/larder/cache.key");
        let fleet_key = generate("fleet-1", "/var/lib/larder/fleet.key");
        server.write(
            CONFIG,
            format!(
                "[serve]\nsigning-keys = [\"/etc/larder/cache.key\"]\n[build]\nflake = {:?}\n",
                fleet.config.flake_url()
            ),
        );
        let serving = None;
        let mut world = Self { network, server, fleet, cache_key, fleet_key, serving, dir };
        world.build(&[]);
        world.serve();
        world
    }

    /// `larder build` on the server, which must succeed.
    pub(crate) fn build(&self, args: &[&str]) {
        let _ = larder(&self.server, &["build"]).args(args).run().success();
    }

    /// nixpkgs moves, and the server builds what it became.
    pub(crate) fn move_on(&mut self) {
        let library = self.fleet.shared_library();
        let _ = self.fleet.bump(&library);
        self.build(&["--update"]);
    }

    /// Starts `larder serve`, or starts it anew.
    pub(crate) fn serve(&mut self) {
        self.serving = None;
        let mut serving = larder(&self.server, &["serve"]).spawn();
        serving.wait_for_port(&format!("{}:5000", self.server.address()));
        self.serving = Some(serving);
    }

    /// Ends `larder serve`.
    pub(crate) fn stop_serving(&mut self) {
        self.serving = None;
    }

    /// What the server last published for a host.
    pub(crate) fn revision(&self, host: &str) -> Revision {
        let key = [self.fleet_key.parse().unwrap()];
        let envelope = Envelope::parse(&self.answer(host)).unwrap();
        let payload = envelope.verify(larder_fleet::revision::PAYLOAD_TYPE, &key).unwrap();
        serde_json::from_slice(payload).unwrap()
    }

    /// The server's whole answer for a host.
    pub(crate) fn answer(&self, host: &str) -> String {
        let url = format!("http://server:5000/fleet/{host}.json");
        self.server.run(&["curl", "-sf", &url]).success().stdout
    }

    /// The system the server last published for a host.
    pub(crate) fn system(&self, host: &str) -> String {
        format!("/nix/store/{}", self.revision(host).store_path)
    }

    /// The fleet's secret key, for tests that publish what no build would.
    pub(crate) fn secret_key(&self) -> SecretKey {
        SecretKey::parse(self.server.read("/var/lib/larder/fleet.key").trim()).unwrap()
    }

    /// A server on port 80 of the server's machine which answers for `pc` with this text.
    pub(crate) fn answering(&self, answer: &str) -> Background {
        self.server.write("/run/www/fleet/pc.json", answer);
        let busybox = busybox().display().to_string();
        let words = [&*busybox, "httpd", "-f", "-p", "80", "-h", "/run/www"];
        let mut httpd = self.server.spawn(&words);
        httpd.wait_for_port(&format!("{}:80", self.server.address()));
        httpd
    }

    /// A machine that knows the cache and the fleet's key; its checkout of the configuration, with an
    /// edit of `pc`'s motd, is not yet configured: see [`Client::configure`].
    pub(crate) fn client(&self, version: NixVersion) -> Client {
        let machine = Machine::new(&self.network, "pc", version);
        machine.configure_nix(&self.nix_conf());
        // A Nix that is installed has a database, if an empty one.
        let _ = machine.nix(&["nix-store", "--init"]).success();
        let client = Client { machine, fleet_key: self.fleet_key.clone() };
        client.configure("servers = [\"http://server:5000\"]");
        client
    }

    /// A client with a checkout of the configuration, which has an edit and builds from that.
    pub(crate) fn client_with_edit(&self, version: NixVersion) -> Client {
        let client = self.client(version);
        let url = self.fleet.config.dir().display().to_string();
        let _ = client.machine.run(&["git", "clone", "--quiet", &url, CHECKOUT]).success();
        edit_motd(&client.machine.path_outside(CHECKOUT), "pc", "edited here");
        client.configure(&format!("servers = [\"http://server:5000\"]\nflake = {CHECKOUT:?}"));
        client
    }

    /// What a client's nix.conf says of the cache.
    pub(crate) fn nix_conf(&self) -> String {
        let key = &self.cache_key;
        // An unreachable one is to fail at once.
        format!(
            "substituters = http://server:5000\ntrusted-public-keys = {key}\nconnect-timeout = 2\n\
             download-attempts = 1\n"
        )
    }

    /// Takes the forge away: both repositories.
    pub(crate) fn take_forge_away(&self) {
        for repository in ["nixpkgs", "config"] {
            let path = self.dir.path().join(repository);
            std::fs::rename(&path, self.dir.path().join(format!("gone-{repository}"))).unwrap();
        }
    }

    /// A folder for a test's own files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// A machine that upgrades.
pub(crate) struct Client {
    pub(crate) machine: Machine,
    fleet_key: String,
}

impl Client {
    /// Writes its configuration: the fleet's key, and these lines of `[client]`.
    pub(crate) fn configure(&self, client: &str) {
        let key = &self.fleet_key;
        let text = format!("[client]\nfleet-public-keys = [{key:?}]\n{client}\n");
        self.machine.write(CONFIG, text);
    }

    /// Writes its configuration as it is here.
    pub(crate) fn configure_wholly(&self, text: &str) {
        self.machine.write(CONFIG, text);
    }

    /// The program, about to be run on it.
    pub(crate) fn larder(&self, args: &[&str]) -> Program {
        larder(&self.machine, args)
    }

    /// `larder upgrade` with these arguments, to its end.
    pub(crate) fn upgrade(&self, args: &[&str]) -> Finished {
        self.larder(&["upgrade"]).args(args).run()
    }

    /// Collects what no root holds, old generations of the profile included.
    pub(crate) fn collect_garbage(&self) {
        let script = format!("nix-env -p {PROFILE} --delete-generations old && nix-store --gc");
        let _ = self.machine.sh(&script).success();
    }

    /// The system that runs; nothing before the first switch.
    pub(crate) fn current(&self) -> Option<String> {
        self.link("/run/current-system")
    }

    /// The system its profile leads to; nothing before the first switch.
    pub(crate) fn profile(&self) -> Option<String> {
        self.link(PROFILE)
    }

    fn link(&self, path: &str) -> Option<String> {
        let target = self.machine.resolve(path);
        target.starts_with("/nix/store/").then_some(target)
    }

    /// What `switch-to-configuration` was told so far: "ACTION SYSTEM" each.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.machine.run(&["cat", "/run/larder-sample/calls"]).lines()
    }

    /// How the next `switch-to-configuration` ends.
    pub(crate) fn switch_will_end_with(&self, code: u8) {
        self.machine.write("/run/larder-sample/exit-code", code.to_string());
    }

    /// The names of what was built on it, without their hashes, in order.
    pub(crate) fn built(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.machine.built_here().iter().map(|path| path[44..].to_owned()).collect();
        names.sort();
        names
    }

    /// What it remembers between upgrades.
    pub(crate) fn state(&self) -> serde_json::Value {
        serde_json::from_str(&self.machine.read("/var/lib/larder/client.json")).unwrap()
    }

    /// What upgrades left beside their state: roots and copies of flakes.
    pub(crate) fn state_of_upgrade(&self) -> String {
        let script = "cd /var/lib/larder/upgrade 2> /dev/null || exit 0; find . -mindepth 1 \
                      ! -name run.lock ! -name scratch";
        self.machine.sh(script).success().text().to_owned()
    }

    /// Its checkout as git sees it, from inside: what changed, and what the files are.
    pub(crate) fn checkout_state(&self) -> String {
        let script = format!(
            "cd {CHECKOUT}; git status --porcelain --ignored; git diff; find . -path ./.git -prune -o -type f -print \
             | sort | xargs sha256sum"
        );
        self.machine.sh(&script).success().stdout
    }
}

/// The program, on a machine.
pub(crate) fn larder(machine: &Machine, args: &[&str]) -> Program {
    machine.command(PathBuf::from(env!("CARGO_BIN_EXE_larder"))).args(args)
}

/// One test for each Nix version a client may have.
macro_rules! with_every_client {
    ($($(#[$attribute:meta])* fn $name:ident($version:ident: NixVersion) $body:block)*) => {
        $(
            mod $name {
                use super::*;

                fn proves($version: NixVersion) $body

                $(#[$attribute])*
                #[test]
                fn nix_2_8() {
                    proves(NixVersion::V2_8);
                }

                $(#[$attribute])*
                #[test]
                fn nix_2_26() {
                    proves(NixVersion::V2_26);
                }

                $(#[$attribute])*
                #[test]
                fn nix_2_34() {
                    proves(NixVersion::V2_34);
                }
            }
        )*
    };
}
pub(crate) use with_every_client;
