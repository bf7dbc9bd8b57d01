//! What Nix remembers of caches: its own notes, `binary-cache-v*.sqlite` in the folder `nix` of a user's cache.
//!
//! Read and never written. For an hour Nix does not ask a cache again for what it had not.

use std::path::{Path, PathBuf};

use larder_formats::store_path::StorePathHash;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

/// What is remembered of a path at a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Whether the cache had it.
    pub present: bool,
    /// When it said so, in seconds since 1970.
    pub at: i64,
}

/// The notes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The system's reason.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// SQLite's reason.
    #[error("cannot read {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: rusqlite::Error,
    },
}

/// One user's notes.
#[derive(Debug)]
pub struct Memories {
    file: PathBuf,
    connection: Connection,
}

impl Memories {
    /// Opens the notes in a user's folder for caches (`~/.cache`); nothing where there are none yet. Blocks for
    /// as long as the disk takes.
    pub fn open(folder: &Path) -> Result<Option<Self>, MemoryError> {
        let Some(file) = newest(&folder.join("nix"))? else { return Ok(None) };
        let sqlite = |source| MemoryError::Sqlite { path: file.clone(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&file, flags).map_err(sqlite)?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(sqlite)?;
        Ok(Some(Self { connection, file }))
    }

    /// What is remembered of a path at a cache, by the URL that nix.conf has.
    pub fn of(&self, cache: &str, hash: StorePathHash) -> Result<Option<Memory>, MemoryError> {
        let url = cache.split('?').next().unwrap_or_default().trim_end_matches('/');
        let asked = self.connection.prepare_cached(
            "select n.present, n.timestamp from NARs n join BinaryCaches c on c.id = n.cache
             where rtrim(case instr(c.url, '?') when 0 then c.url
                         else substr(c.url, 1, instr(c.url, '?') - 1) end, '/') = ?1
               and n.hashPart = ?2
             order by n.timestamp desc limit 1",
        );
        asked
            .and_then(|mut asked| {
                asked
                    .query_row((url, hash.to_string()), |row| {
                        Ok(Memory { present: row.get(0)?, at: row.get(1)? })
                    })
                    .optional()
            })
            .map_err(|source| MemoryError::Sqlite { path: self.file.clone(), source })
    }
}

/// The notes of the Nix that was used last: after an upgrade, those of the one before still lie there.
fn newest(folder: &Path) -> Result<Option<PathBuf>, MemoryError> {
    let io = |source| MemoryError::Io { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(io)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("binary-cache-v") && name.ends_with(".sqlite") {
            // What is written lies beside it first, where SQLite keeps a log.
            let log = PathBuf::from(format!("{}-wal", entry.path().display()));
            let changed = [entry.path(), log]
                .iter()
                .filter_map(|file| file.metadata().ok()?.modified().ok())
                .max();
            found.push((changed, entry.path()));
        }
    }
    Ok(found.into_iter().max().map(|(_, file)| file))
}
