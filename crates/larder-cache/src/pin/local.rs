//! Pins of this machine's own store: garbage-collector roots, which Nix itself respects.
//!
//! Each path of a pin has a link in `gcroots/larder/pins/<name>/` of Nix's state; what else is known of a pin, when it
//! ends above all, lies in Larder's state as the pins of a cache lie in the cache. A record is written after the
//! links are there to stay, and removed after they are gone: so whatever is pinned is listed, or half done
//! and listed as that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use larder_formats::store_path::StorePath;
use larder_nix::{
    command::CancellationToken,
    database::{Database, DatabaseError},
    layout::StoreLayout,
    nix::{Nix, NixError},
};

use super::{Pin, Pins};
use crate::{
    record::{Name, RecordError},
    storage::Directory,
    time::Clock,
};

/// Below Nix's state.
const ROOTS: &str = "gcroots/larder/pins";

/// Below Larder's state.
const RECORDS: &str = "pins";

/// The pins of a store.
#[derive(Debug)]
pub struct LocalPins {
    layout: StoreLayout,
    records: Pins,
}

/// A pin, as far as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// What is recorded of it; nothing where adding it was interrupted.
    pub pin: Option<Pin>,
    /// What has no root, though it should: removing it was interrupted, or somebody removed the link.
    pub lacking: Vec<StorePath>,
}

/// A pin could not be set, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum LocalPinError {
    /// There is no such path.
    #[error("{0} is not in the store; build or fetch it first (`nix-store --realise`)")]
    NotThere(String),
    /// The store does not tell.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nix makes no root.
    #[error(transparent)]
    Nix(#[from] NixError),
    /// The links cannot be looked at or changed.
    #[error("{path}: {source}; roots of the store are its owner's to change")]
    Io {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What is known of pins cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl LocalPins {
    /// Of the store that lies there, recorded in that folder of Larder's.
    #[must_use]
    pub fn new(layout: StoreLayout, state_dir: &Path, clock: Clock) -> Self {
        let place = Arc::new(Directory::new(&state_dir.join(RECORDS)));
        Self { layout, records: Pins::new(place, clock) }
    }

    /// Sets a pin, in place of one of the same name. When this returns, the paths stay in the store.
    ///
    /// # Errors
    /// When a path is not in the store, or its root cannot be made.
    pub async fn add(
        &self,
        nix: &Nix,
        (name, paths): (Name, Vec<StorePath>),
        until: Option<Timestamp>,
        cancel: &CancellationToken,
    ) -> Result<Pin, LocalPinError> {
        let database = Database::open(&self.layout)?;
        for path in &paths {
            if !database.is_valid(path)? {
                return Err(LocalPinError::NotThere(self.layout.store_dir.display(path)));
            }
        }
        let folder = self.folder(&name);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        for path in &paths {
            nix.add_root(path, &folder.join(path.to_string()), cancel).await?;
        }
        // The name's folder may be new, and so may be those above it.
        for folder in folder.ancestors().take(Path::new(ROOTS).components().count() + 1) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
        }
        let pin = self.records.add(name, paths, until).await?;
        let kept: BTreeSet<String> = pin.paths.iter().map(ToString::to_string).collect();
        remove_links(&folder, |name| !kept.contains(name)).map_err(at(&folder))?;
        Ok(pin)
    }

    /// Every pin, by name; those that have ended too, until they are dropped.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn list(&self) -> Result<Vec<Listed>, LocalPinError> {
        let mut pins: BTreeMap<Name, Option<Pin>> = BTreeMap::new();
        let folder = self.layout.state_dir.join(ROOTS);
        for name in names(&folder).map_err(at(&folder))? {
            pins.extend(name.parse::<Name>().ok().map(|name| (name, None)));
        }
        let recorded = self.records.list().await?.into_iter();
        pins.extend(recorded.map(|pin| (pin.name.clone(), Some(pin))));
        let listed = pins.into_iter().map(|(name, pin)| {
            let folder = self.folder(&name);
            let paths = pin.iter().flat_map(|pin| &pin.paths);
            let lacks = |path: &&StorePath| !folder.join(path.to_string()).is_symlink();
            Listed { lacking: paths.filter(lacks).cloned().collect(), name, pin }
        });
        Ok(listed.collect())
    }

    /// Removes a pin. Says whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed; some of its roots may be gone then.
    pub async fn remove(&self, name: &Name) -> Result<bool, LocalPinError> {
        let folder = self.folder(name);
        let had_roots = folder.exists();
        remove_links(&folder, |_| true).map_err(at(&folder))?;
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at(&folder)(error));
            }
            _ => {}
        }
        Ok(self.records.remove(name).await?.is_some() || had_roots)
    }

    /// Removes the pins that have ended. Says which these were.
    ///
    /// # Errors
    /// When they cannot be read, or one not be removed.
    pub async fn drop_ended(&self, now: Timestamp) -> Result<Vec<Pin>, LocalPinError> {
        let ended = self.ended(now).await?;
        for pin in &ended {
            self.remove(&pin.name).await?;
        }
        Ok(ended)
    }

    /// The pins that have ended.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn ended(&self, now: Timestamp) -> Result<Vec<Pin>, LocalPinError> {
        let pins = self.records.list().await?;
        Ok(pins.into_iter().filter(|pin| pin.has_ended(now)).collect())
    }

    fn folder(&self, name: &Name) -> PathBuf {
        self.layout.state_dir.join(ROOTS).join(name.as_str())
    }
}

/// Removes the links in a folder that are wanted gone, and nothing else.
fn remove_links(folder: &Path, unwanted: impl Fn(&str) -> bool) -> io::Result<()> {
    for name in names(folder)?.into_iter().filter(|name| unwanted(name)) {
        let link = folder.join(name);
        if link.is_symlink() {
            fs::remove_file(link)?;
        }
    }
    Ok(())
}

/// What lies in a folder, which need not be there.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    entries.filter_map(|entry| entry.map(name).transpose()).collect()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LocalPinError {
    let path = path.to_owned();
    move |source| LocalPinError::Io { path, source }
}
