//! The sample fleet: three hosts, their configuration in one git repository, and another that plays
//! nixpkgs, with real software of this machine in it.
//!
//! Both are ordinary flakes, so whatever builds NixOS systems builds these. A system has the files NixOS
//! has, and its `switch-to-configuration` really switches, telling what it did in `/run/larder-sample`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::git::GitRepo;
use crate::nix::{Nix, busybox, system};
use crate::software::{Package, collect, collect_few};
use crate::tree::{make_dir, write};

/// The hosts of the sample fleet.
pub const HOSTS: [&str; 3] = ["pc", "nuc", "hp"];

const NIXPKGS: [(&str, &str); 7] = [
    ("flake.nix", include_str!("../fleet/nixpkgs/flake.nix")),
    ("default.nix", include_str!("../fleet/nixpkgs/default.nix")),
    ("nixos/default.nix", include_str!("../fleet/nixpkgs/nixos/default.nix")),
    ("nixos/path.nix", include_str!("../fleet/nixpkgs/nixos/path.nix")),
    ("nixos/etc.nix", include_str!("../fleet/nixpkgs/nixos/etc.nix")),
    ("nixos/toplevel.nix", include_str!("../fleet/nixpkgs/nixos/toplevel.nix")),
    (
        "nixos/switch-to-configuration.sh",
        include_str!("../fleet/nixpkgs/nixos/switch-to-configuration.sh"),
    ),
];

/// The two repositories and what is in them.
#[derive(Debug)]
pub struct SampleFleet {
    /// The repository that plays nixpkgs.
    pub nixpkgs: GitRepo,
    /// The fleet's configuration, whose input `nixpkgs` is the other one.
    pub config: GitRepo,
    packages: BTreeMap<String, Package>,
}

impl SampleFleet {
    /// Makes both repositories, in `dir/nixpkgs` and `dir/config`, from this machine's software.
    ///
    /// The configuration has no lock file yet; see [`SampleFleet::lock`].
    ///
    /// # Panics
    /// When a program it takes is missing; `./dev setup` installs them all.
    #[must_use]
    pub fn create(dir: &Path) -> Self {
        Self::of(dir, collect())
    }

    /// The same with a few packages only, made and built in a moment.
    ///
    /// # Panics
    /// As [`SampleFleet::create`] does.
    #[must_use]
    pub fn small(dir: &Path) -> Self {
        Self::of(dir, collect_few())
    }

    fn of(dir: &Path, packages: BTreeMap<String, Package>) -> Self {
        let fleet = Self {
            nixpkgs: GitRepo::init(&dir.join("nixpkgs")),
            config: GitRepo::init(&dir.join("config")),
            packages,
        };
        // Programs hardly compress: storing them as they are makes commits quick.
        for repo in [&fleet.nixpkgs, &fleet.config] {
            let _ = repo.git(&["config", "core.compression", "0"]);
            let _ = repo.git(&["config", "gc.auto", "0"]);
        }
        fleet.write_nixpkgs();
        let _ = fleet.nixpkgs.commit("Package the software of this machine");
        fleet.set_nixpkgs_url(&fleet.nixpkgs.flake_url());
        HOSTS.iter().for_each(|host| fleet.write_host(host, ""));
        let _ = fleet.config.commit("Three hosts");
        fleet
    }

    /// All packages, by name.
    #[must_use]
    pub fn packages(&self) -> &BTreeMap<String, Package> {
        &self.packages
    }

    /// Names the packages that a host's configuration lists; what they need comes with them.
    #[must_use]
    pub fn programs_of(&self, host: &str) -> Vec<&str> {
        let programs = self.packages.values().filter(|package| package.is_program());
        let (turn, of) = match host {
            "pc" => (0, 1),
            "nuc" => (0, 2),
            _ => (1, 2),
        };
        let chosen = programs.enumerate().filter(|(n, p)| n % of == turn || p.name == "bash");
        chosen.map(|(_, package)| package.name.as_str()).collect()
    }

    /// The packages that change when this one does, itself included.
    #[must_use]
    pub fn dependents(&self, package: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([package.to_owned()]);
        loop {
            let needs_one = |p: &&Package| p.needs.iter().any(|need| found.contains(need));
            let more: BTreeSet<String> =
                self.packages.values().filter(needs_one).map(|p| p.name.clone()).collect();
            let before = found.len();
            found.extend(more);
            if found.len() == before {
                return found;
            }
        }
    }

    /// A library to move: its change touches every host, some packages of each, and not most of them.
    ///
    /// # Panics
    /// When no library reaches every host, which bash's own always do.
    #[must_use]
    pub fn shared_library(&self) -> String {
        let libraries = self.packages.values().filter(|p| !p.is_program() && !p.is_loader());
        let reach = |package: &Package| {
            let dependents = self.dependents(&package.name);
            let touches =
                |host: &&str| self.programs_of(host).iter().any(|p| dependents.contains(*p));
            HOSTS.iter().all(touches).then(|| (dependents.len(), package.name.clone()))
        };
        let mut candidates: Vec<(usize, String)> = libraries.filter_map(reach).collect();
        candidates.sort();
        let some = candidates.iter().find(|(dependents, _)| *dependents >= 8).or(candidates.last());
        some.expect("bash needs a library, and every host has bash").1.clone()
    }

    /// Moves nixpkgs: a new version of one package, with other content. Returns the commit.
    ///
    /// # Panics
    /// When there is no such package.
    pub fn bump(&mut self, name: &str) -> String {
        let package = self.packages.get_mut(name).unwrap_or_else(|| panic!("no package {name}"));
        let (rest, last) = package.version.rsplit_once('.').unwrap_or((&package.version, "0"));
        package.version = format!("{rest}.{}", last.parse::<u64>().unwrap_or(0) + 1);
        let version = package.version.clone();
        let file = self.nixpkgs.dir().join("payload").join(name).join(&package.file);
        // What follows the sections of an ELF file is not read when it runs.
        let mut bytes = fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        bytes.extend_from_slice(format!("\nversion {version} of {name}\n").as_bytes());
        write(&file, bytes);
        self.write_manifest();
        self.nixpkgs.commit(&format!("{name}: {version}"))
    }

    /// Gives the configuration another URL for its nixpkgs: in `flake.nix`, not yet committed.
    pub fn set_nixpkgs_url(&self, url: &str) {
        let flake = include_str!("../fleet/config/flake.nix");
        self.config
            .write("flake.nix", flake.replace("@nixpkgs@", url).replace("@system@", &system()));
    }

    /// Brings the lock file up to nixpkgs' newest commit and commits it; returns the commit.
    ///
    /// # Panics
    /// When Nix refuses.
    pub fn lock(&self, nix: &impl Nix) -> String {
        let dir = self.config.dir().display().to_string();
        let lock =
            nix.program("nix").args(["flake", "lock", "--update-input", "nixpkgs"]).arg(&dir);
        let locked = lock.run();
        if !locked.ok() {
            // Since 2.19 one input is updated by another verb.
            let _ = nix.nix(&["nix", "flake", "update", "nixpkgs", "--flake", &dir]).success();
        }
        self.config.commit("Update the lock file")
    }

    /// Builds a host's system from the configuration's newest commit, and returns its store path.
    ///
    /// # Panics
    /// When it does not evaluate or build.
    #[must_use]
    pub fn build(&self, nix: &impl Nix, host: &str) -> String {
        let drv = self.evaluate(nix, host);
        nix.nix(&["nix-store", "--realise", &drv]).success().text().to_owned()
    }

    /// Evaluates a host's system from the configuration's newest commit to its `.drv`.
    ///
    /// # Panics
    /// When it does not evaluate.
    #[must_use]
    pub fn evaluate(&self, nix: &impl Nix, host: &str) -> String {
        let attribute = format!("nixosConfigurations.{host}.config.system.build.toplevel.drvPath");
        let flake = format!("{}#{attribute}", self.config.flake_url());
        nix.nix(&["nix", "eval", "--raw", &flake]).success().text().to_owned()
    }

    /// Makes a host's evaluation fail, commits, and returns the commit.
    pub fn break_evaluation(&self, host: &str) -> String {
        self.write_host(
            host,
            "environment.etc.\"broken\".text = throw \"this host does not evaluate\";",
        );
        self.config.commit(&format!("{host}: break evaluation"))
    }

    /// Makes a host's build fail, in a package `broken-HOST` which prints some lines first; commits.
    pub fn break_build(&self, host: &str) -> String {
        let line = format!("system.extraDependencies = [ (pkgs.failing \"broken-{host}\") ];");
        self.write_host(host, &line);
        self.config.commit(&format!("{host}: break the build"))
    }

    /// Undoes what was broken or edited of a host, commits, and returns the commit.
    pub fn mend(&self, host: &str) -> String {
        self.write_host(host, "");
        self.config.commit(&format!("{host}: as it was"))
    }

    /// Clones the configuration's repository, as a person with a local edit has it.
    #[must_use]
    pub fn clone_config(&self, to: &Path) -> GitRepo {
        let _ = self.config.git(&["clone", "--quiet", ".", &to.display().to_string()]);
        GitRepo::open(to)
    }

    fn write_host(&self, host: &str, extra: &str) {
        let packages = self.programs_of(host).join("\n    ");
        self.config.write(
            &format!("hosts/{host}.nix"),
            format!(
                "{{ pkgs, ... }}:\n{{\n  environment.systemPackages = with pkgs; [\n    busybox\n    \
                 {packages}\n  ];\n  environment.etc.\"motd\".text = \"This is {host}.\";\n  \
                 environment.etc.\"hostname\".text = \"{host}\";\n  {extra}\n}}\n",
            ),
        );
    }

    fn write_nixpkgs(&self) {
        let dir = self.nixpkgs.dir();
        NIXPKGS.iter().for_each(|(path, text)| self.nixpkgs.write(path, text));
        copy(&busybox(), &dir.join("bootstrap/busybox"));
        for package in self.packages.values() {
            copy(&package.source, &dir.join("payload").join(&package.name).join(&package.file));
        }
        self.write_manifest();
    }

    fn write_manifest(&self) {
        let loader = self.packages.values().find(|package| package.is_loader());
        let entry = |package: &Package| -> Value {
            let program = package.file.strip_prefix("libexec/");
            json!({
                "version": package.version,
                "needs": package.needs,
                "programs": program.into_iter().collect::<Vec<_>>(),
                "loader": program.and(loader).map(|loader| &loader.name),
                "loaderFile": program.and(loader).and_then(|l| l.file.strip_prefix("lib/")),
            })
        };
        let all: BTreeMap<&str, Value> =
            self.packages.iter().map(|(name, package)| (name.as_str(), entry(package))).collect();
        self.nixpkgs.write("packages.json", format!("{:#}\n", json!(all)));
    }
}

/// A local edit: another text for a host's `/etc/motd`, in any work tree of the configuration. Touches no package.
///
/// # Panics
/// When the folder is no such work tree.
pub fn edit_motd(work_tree: &Path, host: &str, text: &str) {
    let path: PathBuf = work_tree.join("hosts").join(format!("{host}.nix"));
    let before = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let line = |line: &str| match line.contains("\"motd\"") {
        true => format!("  environment.etc.\"motd\".text = \"{text}\";\n"),
        false => format!("{line}\n"),
    };
    write(&path, before.lines().map(line).collect::<String>());
}

fn copy(from: &Path, to: &Path) {
    to.parent().into_iter().for_each(make_dir);
    fs::copy(from, to).unwrap_or_else(|error| panic!("{from:?}: {error}"));
    // Readable by all, and by the owner to be changed: some of a system's own files are neither.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(to, mode).unwrap_or_else(|error| panic!("{to:?}: {error}"));
}
