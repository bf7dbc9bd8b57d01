//! Where a local Nix store keeps its things.
//!
//! Understands the part of Nix's store-URI syntax that names a store on this machine: `auto`,
//! `daemon`, `local`, `local?store=…&state=…&real=…&log=…&root=…`, and a plain path, which is a
//! *chroot store*: its paths are called `/nix/store/…` but lie below the given folder. Remote stores
//! are refused: what cannot be read from disk cannot be served from here.

use std::path::{Path, PathBuf};

use larder_formats::store_path::{StoreDir, StorePath};

/// The part of the environment that moves Nix's folders, as read by the program's entry point.
#[derive(Clone, Debug, Default)]
pub struct NixEnvironment {
    /// `NIX_STORE_DIR`.
    pub store_dir: Option<String>,
    /// `NIX_STATE_DIR`.
    pub state_dir: Option<PathBuf>,
    /// `NIX_LOG_DIR`.
    pub log_dir: Option<PathBuf>,
    /// `NIX_REMOTE`, which says what `auto` means.
    pub remote: Option<String>,
}

/// The folders of one local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreLayout {
    /// The URI as it was configured.
    pub uri: String,
    /// What paths are called: `/nix/store`, usually.
    pub store_dir: StoreDir,
    /// Where those paths really lie.
    pub real_dir: PathBuf,
    /// Nix's state: `db/db.sqlite`, `gcroots`, `profiles`.
    pub state_dir: PathBuf,
    /// Where build logs lie, below `drvs`.
    pub log_dir: PathBuf,
}

/// Why a store URI names no store that can be read here.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A kind of store that is not on this machine's disk.
    #[error(
        "the store `{0}` is not a local one: use `auto`, a path, or `local?store=…&state=…&real=…`"
    )]
    NotLocal(String),
    /// A parameter this syntax does not have.
    #[error(
        "the store `{uri}` has an unknown parameter `{parameter}`: known are root, store, state, real and log"
    )]
    UnknownParameter {
        /// The whole URI.
        uri: String,
        /// The parameter in it.
        parameter: String,
    },
    /// A relative or unusable folder.
    #[error("the store `{uri}` names `{path}`, which is not an absolute path")]
    NotAbsolute {
        /// The whole URI.
        uri: String,
        /// The folder in it.
        path: String,
    },
}

#[derive(Default)]
struct Parameters {
    root: Option<PathBuf>,
    store: Option<PathBuf>,
    state: Option<PathBuf>,
    real: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl StoreLayout {
    /// Reads a store URI, with `environment` deciding what it leaves open, as Nix does.
    pub fn resolve(uri: &str, environment: &NixEnvironment) -> Result<Self, LayoutError> {
        let named = match uri {
            "" | "auto" => match environment.remote.as_deref() {
                None | Some("" | "auto" | "daemon") => "local",
                Some(remote) => remote,
            },
            "daemon" => "local",
            other => other,
        };
        let parameters = match named.split_once('?') {
            None if named.starts_with('/') => {
                Parameters { root: Some(PathBuf::from(named)), ..Parameters::default() }
            }
            None if named == "local" => Parameters::default(),
            Some(("local" | "daemon", query)) => Parameters::parse(uri, query)?,
            _ => return Err(LayoutError::NotLocal(uri.to_owned())),
        };
        parameters.layout(uri, environment)
    }

    /// Where a store path of this store really lies.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.real_dir.join(path.to_string())
    }

    /// Nix's database.
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("db/db.sqlite")
    }
}

impl Parameters {
    fn parse(uri: &str, query: &str) -> Result<Self, LayoutError> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match key {
                "root" => &mut parameters.root,
                "store" => &mut parameters.store,
                "state" => &mut parameters.state,
                "real" => &mut parameters.real,
                "log" => &mut parameters.log,
                // Other settings of Nix's local store do not move its folders.
                "read-only" | "trusted" | "require-sigs" | "priority" | "system-features" => {
                    continue;
                }
                _ => {
                    return Err(LayoutError::UnknownParameter {
                        uri: uri.to_owned(),
                        parameter: key.to_owned(),
                    });
                }
            };
            if !value.starts_with('/') {
                return Err(LayoutError::NotAbsolute {
                    uri: uri.to_owned(),
                    path: value.to_owned(),
                });
            }
            *slot = Some(PathBuf::from(value));
        }
        Ok(parameters)
    }

    fn layout(self, uri: &str, environment: &NixEnvironment) -> Result<StoreLayout, LayoutError> {
        let below = |folder: &str| self.root.as_ref().map(|root| root.join(folder));
        let state_dir = self
            .state
            .clone()
            .or_else(|| below("nix/var/nix"))
            .or_else(|| environment.state_dir.clone())
            .unwrap_or_else(|| PathBuf::from("/nix/var/nix"));
        let log_dir = self
            .log
            .clone()
            .or_else(|| below("nix/var/log/nix"))
            .or_else(|| environment.log_dir.clone())
            .unwrap_or_else(|| PathBuf::from("/nix/var/log/nix"));
        let logical = match (&self.store, &environment.store_dir, &self.root) {
            (Some(store), _, _) => store.display().to_string(),
            (None, Some(store), _) => store.clone(),
            (None, None, _) => StoreDir::default().to_string(),
        };
        let store_dir = StoreDir::new(&logical)
            .map_err(|_| LayoutError::NotAbsolute { uri: uri.to_owned(), path: logical.clone() })?;
        let real_dir = self.real.clone().unwrap_or_else(|| match &self.root {
            Some(root) => root.join("nix/store"),
            None => Path::new(&logical).to_owned(),
        });
        Ok(StoreLayout { uri: uri.to_owned(), store_dir, real_dir, state_dir, log_dir })
    }
}
