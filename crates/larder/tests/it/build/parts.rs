//! A fleet with several inputs, each of which can be moved, broken and mended by itself.

use std::{fs, path::PathBuf};

use larder_testkit::{Finished, NixVersion, git::GitRepo};
use serde_json::Value;

use crate::build_server::{BuildServer, SmallFleet};

/// Beside nixpkgs. Every host is made of `tools`; alpha has `theme` besides, beta `games`.
pub(crate) const PARTS: [&str; 3] = ["games", "theme", "tools"];

/// A script that comes to nothing.
pub(crate) const FAIL: &str = "echo 'no such function' >&2; exit 1";

const FLAKE: &str = r#"{
  inputs.nixpkgs.url = "@nixpkgs@";
@inputs@
  outputs = inputs: {
    nixosConfigurations = builtins.mapAttrs
      (host: system: { config.system.build.toplevel = system; })
      (import ./hosts.nix inputs.nixpkgs.make inputs);
  };
}
"#;

/// An input: the script that makes its part, or nothing that can be evaluated.
const PART: &str = r#"{
  outputs = _: {
    script = let script = builtins.readFile ./script; in
      if builtins.substring 0 6 script == "throws" then throw script else script;
  };
}
"#;

/// `more` is what a host does besides, for tests to change.
const HOSTS: &str = r#"make: inputs: let
  part = name: make name ''
    echo ${name} >> $gate/built
    ${inputs.${name}.script}
    $builder cat ${builtins.toFile "script" inputs.${name}.script} > $out
    echo $out >> $gate/outputs
  '';
  host = name: parts: more: make "nixos-system" ''
    echo ${name} >> $gate/built
    ${more}
    echo ${name} ${builtins.concatStringsSep " " (map part parts)} > $out
    echo $out >> $gate/outputs
  '';
in {
  alpha = host "alpha" [ "tools" "theme" ] ''@alpha@'';
  beta = host "beta" [ "tools" "games" ] ''@beta@'';
  gamma = host "gamma" [ "tools" ] ''@gamma@'';
}
"#;

pub(crate) struct Parts {
    pub(crate) server: BuildServer,
    pub(crate) small: SmallFleet,
    /// The repository that the server fetches from, as a forge keeps it.
    pub(crate) forge: PathBuf,
    parts: Vec<(&'static str, GitRepo)>,
}

impl Parts {
    /// Built once with everything in order, from a repository whose lock is complete.
    pub(crate) fn new(version: NixVersion, build: &str) -> Self {
        let mut server = BuildServer::new(version);
        let small = SmallFleet::new(&server);
        let dir = server.store.work_dir();
        let parts = PARTS.map(|name| (name, GitRepo::init(&dir.join(name))));
        let line = |(name, repo): &(&str, GitRepo)| {
            format!("  inputs.{name}.url = \"{}\";\n", repo.flake_url())
        };
        let inputs: String = parts.iter().map(line).collect();
        let flake =
            FLAKE.replace("@nixpkgs@", &small.nixpkgs.flake_url()).replace("@inputs@\n", &inputs);
        small.config.write("flake.nix", flake);
        let forge = dir.join("forge.git");
        small.config.bare_clone(&forge);
        server.configure(&format!("git+file://{}?ref=main", forge.display()), build);
        let parts = Self { server, small, forge, parts: parts.into() };
        for name in PARTS {
            parts.repo(name).write("flake.nix", PART);
            let _ = parts.set(name, "true");
        }
        parts.set_hosts([""; 3]);
        parts.small.lock(&parts.server.store);
        parts.publish_config();
        let _ = parts.server.build(&[]).success();
        parts
    }

    /// What each host does besides: alpha, beta, gamma. Pushed.
    pub(crate) fn set_hosts(&self, more: [&str; 3]) {
        let names = ["@alpha@", "@beta@", "@gamma@"];
        let text = names
            .iter()
            .zip(more)
            .fold(HOSTS.to_owned(), |text, (name, more)| text.replace(name, more));
        self.small.config.write("hosts.nix", text);
        let _ = self.small.config.commit("hosts");
        self.publish_config();
    }

    /// Moves an input: its part is made by this script from now on. Returns the commit.
    pub(crate) fn set(&self, input: &str, script: &str) -> String {
        let repo = self.repo(input);
        repo.write("script", script);
        repo.commit(script)
    }

    pub(crate) fn repo(&self, input: &str) -> &GitRepo {
        &self.parts.iter().find(|(name, _)| *name == input).unwrap().1
    }

    /// Brings what people committed to the forge, on top of what is there.
    pub(crate) fn publish_config(&self) {
        let forge = self.forge.display().to_string();
        let _ = self.small.config.git(&["pull", "--quiet", "--rebase", &forge, "main"]);
        self.small.config.push(&forge);
    }

    /// A night: `larder build --update --json`. Returns its report.
    pub(crate) fn night(&self) -> Value {
        BuildServer::report(&self.update())
    }

    pub(crate) fn update(&self) -> Finished {
        self.server.build(&["--update", "--json"])
    }

    /// The parts and hosts that were tried to be built since this was asked last, in order of name.
    pub(crate) fn built(&self) -> Vec<String> {
        let file = self.server.gate().join("built");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        let mut built: Vec<String> = text.lines().map(str::to_owned).collect();
        built.sort();
        built
    }

    /// The outputs whose build came to its end since this was asked last.
    pub(crate) fn outputs(&self) -> Vec<String> {
        let file = self.server.gate().join("outputs");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        text.lines().map(str::to_owned).collect()
    }

    /// The commit that a host's newest revision has of an input.
    pub(crate) fn locked(&self, host: &str, input: &str) -> String {
        let revision = self.server.latest(host).unwrap();
        revision.inputs[input].rev.clone().unwrap()
    }

    /// Git in the forge.
    pub(crate) fn forge(&self, arguments: &[&str]) -> Finished {
        GitRepo::open(&self.forge).git(arguments)
    }

    /// The commit of an input in the lock that a branch of the forge has.
    pub(crate) fn at_home(&self, branch: &str, input: &str) -> String {
        let lock = self.forge(&["show", &format!("{branch}:flake.lock")]).stdout;
        let lock = larder_formats::lock_file::LockFile::parse(&lock).unwrap();
        lock.root_inputs()[input].rev.clone().unwrap()
    }
}

/// The hosts' outcomes in a report: alpha's, beta's and gamma's.
pub(crate) fn outcomes(report: &Value) -> [&str; 3] {
    [0, 1, 2].map(|index| report["hosts"][index]["outcome"]["outcome"].as_str().unwrap())
}

/// The inputs that a report says are held.
pub(crate) fn held(report: &Value) -> Vec<&str> {
    report["held"].as_array().unwrap().iter().map(|held| held["input"].as_str().unwrap()).collect()
}
