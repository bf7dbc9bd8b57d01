//! Real git repositories, whose commits are the same in every run.
//!
//! Authors and dates are fixed and the user's own settings are not read, so that the same content gives
//! the same commit ids.

use std::fs;
use std::path::{Path, PathBuf};

use crate::machine::Machine;
use crate::process::{Background, Finished, Program};
use crate::tree::{make_dir, write};

/// A repository with a work tree.
#[derive(Debug)]
pub struct GitRepo {
    dir: PathBuf,
}

impl GitRepo {
    /// A new repository in this folder, which is made; its branch is `main`.
    #[must_use]
    pub fn init(dir: &Path) -> Self {
        make_dir(dir);
        let repo = Self { dir: dir.to_owned() };
        let _ = repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// A repository that is there already.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The folder of the work tree.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The URL by which a flake names it: `git+file:///…`.
    #[must_use]
    pub fn flake_url(&self) -> String {
        format!("git+file://{}", self.dir.display())
    }

    /// Writes a file of the work tree, not yet committed.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&self.dir.join(path), content);
    }

    /// Reads a file of the work tree.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Commits everything there is and returns the commit's id. Nothing changed is a commit as well.
    pub fn commit(&self, message: &str) -> String {
        let _ = self.git(&["add", "--all"]);
        let _ = self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.rev()
    }

    /// The id of the newest commit.
    #[must_use]
    pub fn rev(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).text().to_owned()
    }

    /// A bare clone in this folder, as a forge keeps it; pushed to with `push`.
    pub fn bare_clone(&self, to: &Path) {
        let _ = self.git(&["clone", "--quiet", "--bare", ".", &to.display().to_string()]);
    }

    /// Pushes `main` to a repository by path or URL.
    pub fn push(&self, to: &str) {
        let _ = self.git(&["push", "--quiet", to, "main"]);
    }

    /// Any git command, which must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn git(&self, args: &[&str]) -> Finished {
        // A minute later with each commit: Nix takes the time of a flake's inputs from it.
        let counted =
            Program::new("git").dir(&self.dir).args(["rev-list", "--count", "--all"]).run();
        let commits: u64 = counted.text().parse().unwrap_or(0);
        let date = format!("{} +0000", 1_700_000_000 + 60 * commits);
        let program = Program::new("git").dir(&self.dir).args(args);
        let program = program.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        isolated(program).run().success()
    }
}

/// A forge: git's own server, which lets everyone on the network read the repositories of one folder.
#[derive(Debug)]
pub struct Forge {
    name: String,
    server: Background,
}

impl Forge {
    /// On a machine of its own; `dir` is the folder of the repositories.
    #[must_use]
    pub fn on_machine(machine: &Machine, dir: &Path) -> Self {
        let options = ["daemon", "--verbose", "--export-all", "--reuseaddr"];
        let base = format!("--base-path={}", dir.display());
        let daemon = isolated(machine.command("git").args(options).arg(base));
        let mut server = daemon.spawn();
        server.wait_for_line("Ready to rumble");
        Self { name: machine.name().to_owned(), server }
    }

    /// The URL of the repository in this folder: `git://forge/nixpkgs`.
    #[must_use]
    pub fn url(&self, repository: &str) -> String {
        format!("git://{}/{repository}", self.name)
    }

    /// What it was asked for so far: its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.output()
    }
}

fn isolated(program: Program) -> Program {
    let unset = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"];
    unset
        .iter()
        .fold(program, |program, name| program.without_env(name))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Sample")
        .env("GIT_AUTHOR_EMAIL", "sample@example.org")
        .env("GIT_COMMITTER_NAME", "Sample")
        .env("GIT_COMMITTER_EMAIL", "sample@example.org")
        .env("GIT_TERMINAL_PROMPT", "0")
}
