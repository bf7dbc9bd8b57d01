//! The one place that reads the environment (but for what clap reads of its own options).

use std::path::{Path, PathBuf};

use larder_nix::layout::NixEnvironment;

use crate::report::Error;

/// The variables that move Nix's folders.
#[expect(clippy::disallowed_methods, reason = "this is the one home of the environment")]
pub(crate) fn nix() -> NixEnvironment {
    let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    NixEnvironment {
        store_dir: text("NIX_STORE_DIR"),
        state_dir: text("NIX_STATE_DIR").map(Into::into),
        log_dir: text("NIX_LOG_DIR").map(Into::into),
        remote: text("NIX_REMOTE"),
    }
}

/// What the user has ssh told whenever Nix calls it.
#[expect(clippy::disallowed_methods, reason = "this is the one home of the environment")]
pub(crate) fn nix_ssh_options() -> String {
    std::env::var("NIX_SSHOPTS").unwrap_or_default()
}

/// What Nix tells its post-build-hook.
pub(crate) struct Built {
    /// `OUT_PATHS`: the outputs' store paths, with spaces between. Nix 2.8 leaves it empty.
    pub(crate) outputs: String,
    /// `DRV_PATH`.
    pub(crate) derivation: String,
}

/// What Nix has built, as it tells its post-build-hook.
#[expect(clippy::disallowed_methods, reason = "this is the one home of the environment")]
pub(crate) fn built() -> Built {
    let text = |name| std::env::var(name).unwrap_or_default();
    Built { outputs: text("OUT_PATHS"), derivation: text("DRV_PATH") }
}

/// This machine's host name, up to the first dot.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// What tells this machine from others, and stays the same: systemd's number for it, or its name.
pub(crate) fn machine() -> String {
    let number = std::fs::read_to_string("/etc/machine-id").ok();
    let number = number.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    number.unwrap_or_else(host_name)
}

/// This program's file. Asked early: one that was replaced has another name.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("larder"))
}

/// This user's folder for caches, as Nix finds it.
#[expect(clippy::disallowed_methods, reason = "this is the one home of the environment")]
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let text = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    text("XDG_CACHE_HOME").or_else(|| Some(text("HOME")?.join(".cache")))
}

/// That of root, who runs the daemon: below its home, as /etc/passwd has it.
pub(crate) fn cache_folder_of_root() -> Option<PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let home = users.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()? == "0").then(|| fields.nth(2))?
    })?;
    Some(Path::new(home).join(".cache"))
}

/// A path relative to the current folder, made absolute.
pub(crate) fn absolute(path: &str) -> Result<String, Error> {
    let path = Path::new(if path.is_empty() { "." } else { path });
    std::fs::canonicalize(path)
        .map(|path| path.display().to_string())
        .map_err(|source| Error::Io { path: path.to_owned(), source })
}
