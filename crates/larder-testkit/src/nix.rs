//! The real Nix versions tests run against, and the one way their commands are called.
//!
//! Where the versions come from is `./dev setup`'s business; here they are only found.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::process::{Finished, Program, path_with};

/// A Nix that is there to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NixVersion {
    /// 2.8, the oldest we promise to work with.
    V2_8,
    /// 2.26.
    V2_26,
    /// 2.34, the newest.
    V2_34,
    /// Whatever this machine has installed itself.
    Installed,
}

impl NixVersion {
    /// The three versions every client test runs with, oldest first.
    #[must_use]
    pub const fn all() -> [Self; 3] {
        [Self::V2_8, Self::V2_26, Self::V2_34]
    }

    /// The two versions that build; 2.8 is a client only.
    #[must_use]
    pub const fn builders() -> [Self; 2] {
        [Self::V2_26, Self::V2_34]
    }

    /// What a demonstration uses: the machine's own Nix where that is recent enough to build (2.18), 2.34
    /// otherwise.
    #[must_use]
    pub fn for_demo() -> Self {
        let asked = crate::process::locate("nix")
            .map(|command| Program::new(command).arg("--version").run().stdout);
        let number = asked.as_deref().and_then(|said| said.lines().next()?.split(' ').next_back());
        let mut parts = number.unwrap_or_default().split('.').map(|part| part.parse::<u32>().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) if (major, minor) >= (2, 18) => Self::Installed,
            _ => Self::V2_34,
        }
    }

    /// The folder that holds its commands.
    ///
    /// # Panics
    /// When this version is not here; the message says how to get it.
    #[must_use]
    pub fn bin_dir(self) -> PathBuf {
        let dir = match self {
            Self::V2_8 => cache_dir().join("nix/2.8/bin"),
            Self::V2_26 => cache_dir().join("nix/2.26/bin"),
            Self::V2_34 => cache_dir().join("nix/2.34/bin"),
            Self::Installed => {
                let command = crate::process::find_program("nix-store");
                let command = command.canonicalize().unwrap_or(command);
                command.parent().map(Path::to_owned).unwrap_or_default()
            }
        };
        assert!(dir.join("nix-store").exists(), "Nix {self} is not in {dir:?}: run ./dev setup");
        dir
    }

    /// One of its commands, `nix-store` say.
    ///
    /// # Panics
    /// When this version is not here.
    #[must_use]
    pub fn bin(self, command: &str) -> PathBuf {
        self.bin_dir().join(command)
    }

    /// A program of this version which sees no Nix settings but those that are given to it.
    #[must_use]
    pub fn program(self, command: &str) -> Program {
        let program = Program::new(self.bin(command)).env("PATH", path_with(&self.bin_dir()));
        without_settings(program)
    }
}

/// Removes what the caller's own environment says about Nix.
pub(crate) fn without_settings(program: Program) -> Program {
    let names = [
        "NIX_REMOTE",
        "NIX_PATH",
        "NIX_STORE_DIR",
        "NIX_STATE_DIR",
        "NIX_LOG_DIR",
        "NIX_CONF_DIR",
        "NIX_CONFIG",
        "NIX_USER_CONF_FILES",
        "NIX_STORE",
        "NIX_PROFILES",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
    ];
    names.iter().fold(program, |program, name| program.without_env(name))
}

impl fmt::Display for NixVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2_8 => "2.8",
            Self::V2_26 => "2.26",
            Self::V2_34 => "2.34",
            Self::Installed => "as installed",
        })
    }
}

/// What Nix's commands can be run in: a store, or a machine.
pub trait Nix {
    /// One of Nix's commands, settings made, arguments to be added.
    fn program(&self, command: &str) -> Program;

    /// Runs one of Nix's commands: `["nix-store", "-qR", path]`.
    ///
    /// # Panics
    /// When it can't be started or does not end.
    fn nix<S: AsRef<str>>(&self, words: &[S]) -> Finished {
        let mut words = words.iter().map(AsRef::as_ref);
        let command = words.next().expect("a command's name comes first");
        self.program(command).args(words).run()
    }

    /// Builds a Nix expression with `nix-build` and returns its outputs, as full store paths.
    ///
    /// # Panics
    /// When it does not build.
    fn build_expr(&self, expression: &str) -> Vec<String> {
        self.nix(&["nix-build", "--no-out-link", "-E", expression]).success().lines()
    }

    /// The closure of a path, references before what refers to them, itself last.
    ///
    /// # Panics
    /// When the path is not valid.
    fn closure(&self, path: &str) -> Vec<String> {
        self.nix(&["nix-store", "-qR", path]).success().lines()
    }

    /// The paths that were built here rather than downloaded or added, by Nix's own record ("ultimate").
    ///
    /// # Panics
    /// When Nix does not say.
    fn built_here(&self) -> BTreeSet<String> {
        let ask = ["nix", "path-info", "--json", "--all", "--json-format", "1"];
        // Since 2.33 the format is to be named; versions before know no such option.
        let (before, _) = ask.split_at(4);
        let said = Some(self.nix(&ask)).filter(Finished::ok);
        let said = said.unwrap_or_else(|| self.nix(before).success());
        let all: Value = serde_json::from_str(&said.stdout).expect("path-info --json prints JSON");
        // A list before 2.19, an object by path since.
        let entries: Vec<(Option<&String>, &Value)> = match &all {
            Value::Array(list) => list.iter().map(|entry| (None, entry)).collect(),
            Value::Object(map) => map.iter().map(|(path, entry)| (Some(path), entry)).collect(),
            other => panic!("path-info --json printed {other}"),
        };
        let built = entries.iter().filter(|(_, entry)| entry["ultimate"] == true);
        let path = |(key, entry): &(Option<&String>, &Value)| match (key, &entry["path"]) {
            (Some(key), _) => (*key).clone(),
            (None, path) => path.as_str().expect("an entry has its path").to_owned(),
        };
        built.map(path).collect()
    }

    /// Whether a path is valid: registered, not just there.
    fn is_valid(&self, path: &str) -> bool {
        self.nix(&["nix-store", "--check-validity", path]).ok()
    }
}

/// Settings for a store of its own: flakes on, nothing substituted, nothing asked of the internet.
/// A later line of `extra` overrides an earlier one.
#[must_use]
pub fn nix_conf(registry: &Path, extra: &str) -> String {
    format!(
        "experimental-features = nix-command flakes\n\
         build-users-group =\n\
         sandbox = false\n\
         sandbox-paths = /bin/sh={busybox}\n\
         substituters =\n\
         flake-registry = {registry}\n\
         warn-dirty = false\n\
         fsync-metadata = false\n\
         {extra}\n",
        busybox = busybox().display(),
        registry = registry.display(),
    )
}

/// An empty flake registry, in the form every version reads.
pub const EMPTY_REGISTRY: &str = "{\"version\":2,\"flakes\":[]}\n";

/// The static busybox: `/bin/sh` of Nix's sandbox and the builder of every sample.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn busybox() -> PathBuf {
    let path = cache_dir().join("tools/busybox");
    assert!(path.exists(), "no static busybox at {path:?}: run ./dev setup");
    path
}

/// The workspace's root.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the workspace these tests were built in is gone")
}

/// `"x86_64-linux"` and the like: this machine's, as Nix calls it.
#[must_use]
pub fn system() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}

fn cache_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| workspace_root().join(".cache"))
}
