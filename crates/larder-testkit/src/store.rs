//! A Nix store of its own, in a temporary folder, driven by a real Nix of a chosen version.
//!
//! It is a chroot store: its paths say `/nix/store/…`, its files lie below a temporary folder. So two of
//! them can substitute from one another, and none touches the machine's own `/nix`.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::nix::{EMPTY_REGISTRY, Nix, NixVersion, busybox, nix_conf, system};
use crate::process::Program;
use crate::scratch::scratch;
use crate::tree::{Tree, make_dir, make_writable, random_bytes, write};

/// A throw-away store.
#[derive(Debug)]
pub struct TestStore {
    version: NixVersion,
    dir: TempDir,
}

impl TestStore {
    /// An empty store, driven by this version.
    #[must_use]
    pub fn new(version: NixVersion) -> Self {
        Self::with_config(version, "")
    }

    /// The same with more lines for nix.conf, which win over those that are there
    /// (`"substituters = http://…\ntrusted-public-keys = …"`).
    #[must_use]
    pub fn with_config(version: NixVersion, extra: &str) -> Self {
        let dir = scratch("store");
        let store = Self { version, dir };
        for folder in ["root", "home", "work"] {
            make_dir(&store.dir.path().join(folder));
        }
        let tools = store.dir.path().join("tools");
        make_dir(&tools);
        std::fs::copy(busybox(), tools.join("busybox")).expect("busybox can be copied");
        write(&store.dir.path().join("conf/registry.json"), EMPTY_REGISTRY);
        store.configure(extra);
        store
    }

    /// Replaces the extra lines of nix.conf.
    pub fn configure(&self, extra: &str) {
        let registry = self.dir.path().join("conf/registry.json");
        write(&self.dir.path().join("conf/nix.conf"), nix_conf(&registry, extra));
    }

    /// The version that drives it.
    #[must_use]
    pub fn version(&self) -> NixVersion {
        self.version
    }

    /// The folder that plays `/`: the store URI of a chroot store, as `--store` takes it.
    #[must_use]
    pub fn uri(&self) -> String {
        self.root().display().to_string()
    }

    /// The folder that plays `/`.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Where the store's files really lie.
    #[must_use]
    pub fn real_store_dir(&self) -> PathBuf {
        self.root().join("nix/store")
    }

    /// Where a store path's file or folder really lies.
    ///
    /// # Panics
    /// When it is not below `/nix/store/`.
    #[must_use]
    pub fn real_path(&self, store_path: &str) -> PathBuf {
        let base = store_path.strip_prefix("/nix/store/").expect("a full store path");
        self.real_store_dir().join(base)
    }

    /// `nix/var/nix` below the root: the database is `db/db.sqlite` in it, roots are in `gcroots`.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.root().join("nix/var/nix")
    }

    /// A folder for a test's own files, gone with the store.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The variables of the environment which make a Nix command work on this store.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("NIX_REMOTE", self.root()),
            ("NIX_CONF_DIR", self.dir.path().join("conf")),
            ("NIX_USER_CONF_FILES", PathBuf::from("/dev/null")),
            ("HOME", self.dir.path().join("home")),
        ]
    }

    /// A path with this content, as a build's output: it needs a signature to be substituted.
    #[must_use]
    pub fn add_tree(&self, name: &str, tree: &Tree) -> String {
        self.build_tree(name, tree, &[])
    }

    /// The same, referring to these paths (which must be in this store) and to itself.
    #[must_use]
    pub fn add_tree_referring(&self, name: &str, tree: &Tree, to: &[String]) -> String {
        self.build_tree(name, tree, to)
    }

    /// A chain of `depth` paths of `size` bytes each, every one referring to the one before and to
    /// itself; the last is the top of the closure.
    #[must_use]
    pub fn add_closure(&self, name: &str, depth: usize, size: usize) -> Vec<String> {
        let mut paths: Vec<String> = Vec::new();
        for n in 0..depth {
            let seed = name.bytes().fold(n as u64, |seed, byte| seed * 31 + u64::from(byte));
            let tree = Tree::new().file("content", random_bytes(seed, size));
            let before = paths.last().cloned();
            paths.push(self.add_tree_referring(&format!("{name}-{n}"), &tree, before.as_slice()));
        }
        paths
    }

    /// A path with this content by `nix-store --add`: content-addressed, valid without a signature.
    #[must_use]
    pub fn add_source(&self, name: &str, tree: &Tree) -> String {
        let dir = self.content_dir(name, tree);
        let path = dir.display().to_string();
        self.nix(&["nix-store", "--add", &path]).success().text().to_owned()
    }

    fn build_tree(&self, name: &str, tree: &Tree, references: &[String]) -> String {
        let source = self.content_dir(name, tree);
        let quoted: Vec<String> =
            references.iter().map(|path| format!("(builtins.storePath {path})")).collect();
        let refer = if references.is_empty() {
            ""
        } else {
            "echo \"$references\" > $out/references; echo \"$out\" > $out/itself;"
        };
        let expression = format!(
            "derivation {{ name = \"{name}\"; system = \"{system}\"; builder = \"${{{tools}}}/busybox\"; \
             source = builtins.path {{ path = {source}; name = \"{name}-source\"; }}; \
             references = [ {references} ]; \
             args = [ \"sh\" \"-c\" \"$builder cp -RP $source $out; {refer}\" ]; }}",
            system = system(),
            tools = self.dir.path().join("tools").display(),
            source = source.display(),
            references = quoted.join(" "),
            refer = if refer.is_empty() {
                String::new()
            } else {
                format!("$builder chmod u+w $out; {}", refer.replace('"', "\\\""))
            },
        );
        let outputs = self.build_expr(&expression);
        outputs.into_iter().next().expect("a derivation has an output")
    }

    fn content_dir(&self, name: &str, tree: &Tree) -> PathBuf {
        let dir = self.work_dir().join("content").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        tree.write(&dir);
        dir
    }
}

impl Nix for TestStore {
    fn program(&self, command: &str) -> Program {
        let program = self.version.program(command).dir(self.work_dir());
        self.environment()
            .into_iter()
            .fold(program, |program, (name, value)| program.env(name, value))
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        make_writable(Path::new(self.dir.path()));
    }
}
