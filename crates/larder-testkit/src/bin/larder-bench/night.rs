//! Nights: one in which nothing changed, beside evaluation alone, and wide graphs on remote builders, beside Nix.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use larder_testkit::{
    Nix, NixVersion, Program, SampleFleet, TestStore,
    fleet::HOSTS,
    git::GitRepo,
    nix::{busybox, system},
    process::{built_program, path_with},
    sshd::Sshd,
};

/// A build of everything takes longer than most programs may.
const LIMIT: Duration = Duration::from_secs(900);

/// Builds of the wide graph, each of which takes six seconds and no processor; and how many a builder takes at once.
const JOBS: usize = 24;
const AT_ONCE: usize = 4;

/// What builds, and from where.
pub(crate) struct Nights {
    store: TestStore,
    config: PathBuf,
    flake: String,
}

impl Nights {
    /// The sample fleet, built once.
    pub(crate) fn of_the_sample_fleet() -> Self {
        let store = TestStore::new(NixVersion::V2_34);
        store.configure(&format!("sandbox-paths = /bin/sh={}", busybox().display()));
        let fleet = SampleFleet::create(&store.work_dir().join("fleet"));
        let _ = fleet.lock(&store);
        let nights = Self::new(store, &fleet.config, (2, ""));
        let _ = nights.larder(&["build", "--update"]).timeout(LIMIT).run().success();
        nights
    }

    fn new(store: TestStore, config: &GitRepo, (jobs, more): (u32, &str)) -> Self {
        let flake = config.dir().display().to_string();
        let file = store.work_dir().join("larder.toml");
        let nights = Self { store, config: file, flake };
        let (dir, root) = (nights.store.work_dir(), nights.store.root());
        let key = dir.join("fleet.key");
        let text = format!(
            "state-dir = {:?}\n[serve]\nstore = {root:?}\n[build]\nflake = {:?}\nrev-dir = {:?}\n\
             fleet-key = {key:?}\nmax-jobs = {jobs}\n{more}",
            dir.join("state"),
            nights.flake,
            dir.join("rev"),
        );
        fs::write(&nights.config, text).expect("the configuration can be written");
        let key = key.display().to_string();
        let _ = nights.larder(&["key", "generate", "fleet-1", "--output", &key]).run().success();
        let _ = nights.store.nix(&["nix-store", "--init"]).success();
        nights
    }

    fn larder(&self, arguments: &[&str]) -> Program {
        let path = path_with(&self.store.version().bin_dir());
        let larder = Program::new(built_program("larder")).arg("--config").arg(&self.config);
        let environment = self.store.environment().into_iter();
        environment
            .fold(larder, |larder, (name, value)| larder.env(name, value))
            .env("PATH", path)
            .args(arguments)
    }

    /// Seconds of a night in which nothing changed.
    pub(crate) fn night(&self) -> f64 {
        timed(|| drop(self.larder(&["build", "--update"]).timeout(LIMIT).run().success()))
    }

    /// Seconds that Nix takes to evaluate the same hosts, one after the other.
    pub(crate) fn evaluation(&self) -> f64 {
        timed(|| {
            for host in HOSTS {
                let attribute = format!(
                    "git+file://{}#nixosConfigurations.{host}.config.system.build.toplevel.drvPath",
                    self.flake
                );
                let _ = self.store.nix(&["nix", "eval", "--raw", &attribute]).success();
            }
        })
    }
}

/// A fleet whose one host needs many builds of six seconds each, and builders for it.
pub(crate) struct Wide {
    nights: Nights,
    config: GitRepo,
    builders: Vec<Builder>,
}

struct Builder {
    /// Gone with its sshd.
    _store: TestStore,
    sshd: Sshd,
}

impl Wide {
    /// With so many builders.
    pub(crate) fn new(builders: usize) -> Self {
        let store = TestStore::new(NixVersion::V2_34);
        let builders: Vec<Builder> = (0..builders).map(Builder::new).collect();
        let config = GitRepo::init(&store.work_dir().join("config"));
        let more: String = builders.iter().enumerate().map(Builder::section).collect();
        config.write("flake.nix", WIDE.replace("@busybox@", &busybox().display().to_string()));
        let nights = Nights::new(store, &config, (0, &more));
        let wide = Self { nights, config, builders };
        wide.move_on(0);
        wide
    }

    /// Makes every build another one.
    pub(crate) fn move_on(&self, generation: u64) {
        let text = format!(
            "{{ generation = \"{generation}\"; jobs = {JOBS}; system = \"{}\"; }}\n",
            system()
        );
        self.config.write("jobs.nix", text);
        let _ = self.config.commit("jobs");
    }

    /// Seconds that Larder takes for the night.
    pub(crate) fn larder(&self) -> f64 {
        timed(|| drop(self.nights.larder(&["build", "--update"]).timeout(LIMIT).run().success()))
    }

    /// Seconds that Nix takes to build the same with the same builders.
    pub(crate) fn nix(&self) -> f64 {
        let mut ssh = String::new();
        let mut machines = Vec::new();
        for (number, builder) in self.builders.iter().enumerate() {
            ssh.push_str(&builder.sshd.ssh_config(&format!("builder{number}")));
            machines.push(format!("ssh://builder{number} {} - {AT_ONCE} 1", system()));
        }
        let file = self.nights.store.work_dir().join("ssh_config");
        fs::write(&file, ssh).expect("a file can be written");
        let attribute = "nixosConfigurations.wide.config.system.build.toplevel";
        let flake = format!("git+file://{}#{attribute}", self.nights.flake);
        let build =
            self.nights.store.program("nix").args(["build", "--no-link", "--max-jobs", "0"]);
        let build = build.args(["--builders", &machines.join(" ; "), &flake]).timeout(LIMIT);
        let build = build.env("NIX_SSHOPTS", format!("-F {}", file.display()));
        timed(|| drop(build.run().success()))
    }
}

impl Builder {
    fn new(number: usize) -> Self {
        let store = TestStore::new(NixVersion::V2_34);
        store.configure(&sandbox());
        let path = path_with(&store.version().bin_dir()).to_string_lossy().into_owned();
        let mut all = vec![("PATH".to_owned(), path)];
        let text = |value: PathBuf| value.display().to_string();
        all.extend(
            store.environment().into_iter().map(|(name, value)| (name.to_owned(), text(value))),
        );
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (&**name, &**value)).collect();
        let sshd = Sshd::at(&format!("127.0.0.{}", 2 + number), &all, "");
        Self { _store: store, sshd }
    }

    fn section((number, builder): (usize, &Self)) -> String {
        let mut section =
            format!("[[builder]]\nname = \"builder{number}\"\nsystems = [\"{}\"]\n", system());
        let Self { sshd, .. } = builder;
        let _ = write!(
            section,
            "host = \"{}\"\nport = {}\nkey = {:?}\nhost-key = \"{}\"\nmax-jobs = {AT_ONCE}\n",
            sshd.host(),
            sshd.port(),
            sshd.client_key(),
            sshd.host_key(),
        );
        section
    }
}

fn sandbox() -> String {
    let shell = busybox();
    format!("sandbox-paths = /bin/sh={shell} {shell}", shell = shell.display())
}

const WIDE: &str = r#"{
  outputs = _:
    let
      inherit (import ./jobs.nix) generation jobs system;
      make = name: script: derivation {
        inherit name system generation;
        builder = "@busybox@";
        args = [ "sh" "-euc" script ];
      };
      job = number: make "job-${toString number}" "$builder sleep 6; echo ${toString number} > $out";
    in {
      nixosConfigurations.wide.config.system.build.toplevel =
        make "nixos-system" "echo ${toString (builtins.genList job jobs)} > $out";
    };
}
"#;

fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}
