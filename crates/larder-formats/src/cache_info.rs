//! `nix-cache-info`, the first file a client asks a cache for (`text/x-nix-cache-info`).
//!
//! Promise: what Nix reads is read, what Nix ignores is ignored. Clients keep this file for seven
//! days, so a mistake in it is a mistake for a week.

use crate::store_path::{StoreDir, StorePathError};

/// What a cache says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheInfo {
    /// The store folder its paths live in. A cache that names none is taken to serve `/nix/store`.
    pub store_dir: StoreDir,
    /// Whether clients may ask for many paths they may not need (`nix-env -qas`).
    pub want_mass_query: bool,
    /// Which cache is asked first: the lowest number. Clients take a missing one as 0.
    pub priority: u32,
}

/// Why a `nix-cache-info` can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheInfoError {
    /// The `StoreDir` line names no store folder.
    #[error("nix-cache-info: {0}")]
    StoreDir(#[from] StorePathError),
    /// There is a line without a colon, so this is some other file (often a web page).
    #[error("not a nix-cache-info: line {line} has no colon; does the URL lead to a binary cache?")]
    NoColon {
        /// The line's number, counted from 1.
        line: usize,
    },
}

impl CacheInfo {
    /// Reads a `nix-cache-info`. Unknown keys are ignored; so is a priority that is no number,
    /// as Nix ignores it.
    ///
    /// # Errors
    /// [`CacheInfoError`].
    pub fn parse(text: &str) -> Result<Self, CacheInfoError> {
        let mut info = Self { store_dir: StoreDir::default(), want_mass_query: false, priority: 0 };
        for (index, line) in text.lines().enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                return Err(CacheInfoError::NoColon { line: index + 1 });
            };
            let value = value.trim_ascii();
            match key {
                "StoreDir" => info.store_dir = StoreDir::new(value)?,
                "WantMassQuery" => info.want_mass_query = value == "1",
                "Priority" => info.priority = value.parse().unwrap_or(info.priority),
                _ => {}
            }
        }
        Ok(info)
    }

    /// Writes the file, all three lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mass_query = u8::from(self.want_mass_query);
        format!(
            "StoreDir: {}\nWantMassQuery: {mass_query}\nPriority: {}\n",
            self.store_dir, self.priority
        )
    }
}
