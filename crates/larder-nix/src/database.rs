//! Nix's database, read and never written.
//!
//! Each question is answered from `db/db.sqlite` as it is at that moment, so a path that was
//! collected or registered a second ago is seen as such. The file is opened read-only but not as
//! `immutable` (which would miss what other processes write), and a writer is waited for rather
//! than reported as an error. Every question is answered by an index, so what it takes grows with its
//! answer, not with the store. Schema: version 10 of Nix's local store, which all of Nix 2.x use.

mod build_closure;
mod generation;
mod realisations;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use larder_formats::{
    content_address::ContentAddress,
    derivation::DerivationError,
    hash::Sha256,
    narinfo::{Compression, NarInfo},
    signature::Signature,
    store_path::{StoreDir, StorePath, StorePathHash},
};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, config::DbConfig};

use self::generation::Watch;
use crate::layout::StoreLayout;

/// How long a reader waits for a writer that holds the whole database, as happens for moments when
/// Nix folds its write-ahead log back.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections kept for the next question. Each costs some 100 kB beside its pages.
const IDLE_CONNECTIONS: usize = 8;

/// KiB of the database that each connection keeps in memory. The upper levels of a large store's indexes
/// fit into it; what is below is read from the system's page cache, which all connections share.
const PAGE_CACHE: i64 = 512;

/// What Nix knows about a valid path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The row's number. Numbers are never used twice: a path deleted and registered again has
    /// another one.
    pub id: i64,
    /// The path.
    pub path: StorePath,
    /// SHA-256 of its NAR.
    pub nar_hash: Sha256,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// The paths it refers to, itself included if it does.
    pub references: BTreeSet<StorePath>,
    /// The derivation it was built by, where known.
    pub deriver: Option<StorePath>,
    /// The signatures Nix keeps for it.
    pub signatures: BTreeSet<Signature>,
    /// Its content address, if it is content-addressed.
    pub ca: Option<ContentAddress>,
}

impl PathInfo {
    /// The same as a narinfo of the uncompressed NAR, to be had at `url`.
    pub fn into_narinfo(self, url: String) -> NarInfo {
        NarInfo {
            url,
            compression: Compression::None,
            file_hash: Some(self.nar_hash),
            file_size: Some(self.nar_size),
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            references: self.references,
            deriver: self.deriver,
            signatures: self.signatures,
            ca: self.ca,
            store_path: self.path,
        }
    }
}

/// Nix's database could not be read, or holds what Nix would not write.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no database where the store URI says.
    #[error("there is no Nix store at {path}: {reason}. Is Nix installed, and is `store` right?")]
    Missing {
        /// The database file that was looked for.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is there, or may be, but not for this user.
    #[error(
        "the Nix store's database {0} may not be read by this user: run Larder as one who may, or let \
         others enter the folders above it"
    )]
    Forbidden(PathBuf),
    /// SQLite failed.
    #[error("cannot read Nix's database {path}: {source}{}", hint(source))]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A value is not of its form.
    #[error(
        "Nix's database {path} holds a damaged {what} for {about}: {value:?}. `nix-store --verify` may mend it"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// Which value.
        what: &'static str,
        /// The path it belongs to.
        about: String,
        /// The value.
        value: String,
    },
    /// A valid derivation's file could not be read.
    #[error("cannot read the derivation {derivation}: {source}")]
    Derivation {
        /// The derivation.
        derivation: StorePath,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A valid derivation's file is none.
    #[error(
        "the file of {derivation} is damaged: {source}. `nix-store --verify --check-contents` may mend it"
    )]
    DamagedDerivation {
        /// The derivation.
        derivation: StorePath,
        /// Where it ends to be one.
        source: DerivationError,
    },
}

fn hint(source: &rusqlite::Error) -> &'static str {
    match source.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            ". Reading it needs read access to the folder, and either its `-shm` file (there while \
             Nix runs) or write access: start nix-daemon, or run as a user who may"
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            ". The file is damaged; `sqlite3 … .recover` and `nix-store --verify` may help"
        }
        _ => "",
    }
}

/// Nix's database, open for reading. Cheap questions, safe from many threads; each blocks its
/// thread for as long as the disk takes.
#[derive(Debug)]
pub struct Database {
    file: PathBuf,
    store_dir: StoreDir,
    real_dir: PathBuf,
    idle: Mutex<Vec<Connection>>,
    watch: OnceLock<Watch>,
}

const COLUMNS: &str = "v.id, v.path, v.hash, v.narSize, v.deriver, v.sigs, v.ca";

impl Database {
    /// Opens the database of a store, and makes sure that it can be read.
    pub fn open(layout: &StoreLayout) -> Result<Self, DatabaseError> {
        let database = Self {
            file: layout.database(),
            store_dir: layout.store_dir.clone(),
            real_dir: layout.real_dir.clone(),
            idle: Mutex::default(),
            watch: OnceLock::new(),
        };
        if let Err(error) = std::fs::metadata(&database.file) {
            let path = database.file;
            return Err(match error.kind() {
                std::io::ErrorKind::PermissionDenied => DatabaseError::Forbidden(path),
                _ => DatabaseError::Missing { path, reason: error.to_string() },
            });
        }
        database.with(|connection| {
            connection.query_row("select count(*) from ValidPaths where id = 0", [], |_| Ok(()))
        })?;
        Ok(database)
    }

    /// The folder that this database's paths are called by.
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// The valid path with this hash part, or `None` if there is none.
    pub fn path_info(&self, hash: StorePathHash) -> Result<Option<PathInfo>, DatabaseError> {
        let prefix = format!("{}/{hash}-", self.store_dir);
        let found = self.with(|connection| {
            // One snapshot for both questions: a path deleted in between would seem to refer to
            // nothing, and that would be signed.
            let snapshot = connection.unchecked_transaction()?;
            let row = snapshot
                .prepare_cached(&format!(
                    "select {COLUMNS} from ValidPaths v where v.path >= ?1 order by v.path limit 1"
                ))?
                .query_row([&prefix], RawInfo::read)
                .optional()?;
            let Some(row) = row.filter(|row| row.path.starts_with(&prefix)) else {
                return Ok(None);
            };
            let references = references(&snapshot, row.id)?;
            Ok(Some((row, references)))
        })?;
        found.map(|(row, references)| self.complete(row, &references)).transpose()
    }

    /// The row number of the valid path with this hash part; see [`PathInfo::id`].
    pub fn path_id(&self, hash: StorePathHash) -> Result<Option<i64>, DatabaseError> {
        let prefix = format!("{}/{hash}-", self.store_dir);
        let row = self.with(|connection| {
            let mut query = connection.prepare_cached(
                "select id, path from ValidPaths where path >= ?1 order by path limit 1",
            )?;
            query
                .query_row([&prefix], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
                .optional()
        })?;
        Ok(row.filter(|(_, path)| path.starts_with(&prefix)).map(|(id, _)| id))
    }

    /// Whether this very path is valid.
    pub fn is_valid(&self, path: &StorePath) -> Result<bool, DatabaseError> {
        let full = self.store_dir.display(path);
        self.with(|connection| {
            connection.prepare_cached("select 1 from ValidPaths where path = ?1")?.exists([&full])
        })
    }

    /// The number of the path that was registered last; see [`PathInfo::id`]. Zero for an empty store.
    pub fn last_id(&self) -> Result<i64, DatabaseError> {
        self.with(|connection| {
            connection
                .query_row("select coalesce(max(id), 0) from ValidPaths", [], |row| row.get(0))
        })
    }

    /// The valid paths that were registered after the one with this number, each with its own.
    pub fn registered_after(&self, id: i64) -> Result<Vec<(i64, StorePath)>, DatabaseError> {
        let rows = self.with(|connection| {
            connection
                .prepare_cached("select id, path from ValidPaths where id > ?1 order by id")?
                .query_map([id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        rows.into_iter()
            .map(|(id, path)| Ok((id, self.parse_path(&path, "path", &path)?)))
            .collect()
    }

    /// The path and everything it reaches by references, itself first among equals (sorted).
    /// Empty if the path is not valid.
    pub fn closure(&self, path: &StorePath) -> Result<BTreeSet<StorePath>, DatabaseError> {
        let full = self.store_dir.display(path);
        let names = self.with(|connection| {
            connection
                .prepare_cached(
                    "with recursive closure(id) as (
                       select id from ValidPaths where path = ?1
                       union select r.reference from Refs r join closure c on r.referrer = c.id)
                     select v.path from closure c join ValidPaths v on v.id = c.id",
                )?
                .query_map([&full], |row| row.get::<_, String>(0))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        names.iter().map(|name| self.parse_path(name, "path", &full)).collect()
    }

    /// The sum of the NAR sizes of a path's closure, in bytes; zero if the path is not valid.
    pub fn closure_size(&self, path: &StorePath) -> Result<u64, DatabaseError> {
        let full = self.store_dir.display(path);
        let total: i64 = self.with(|connection| {
            connection
                .prepare_cached(
                    "with recursive closure(id) as (
                       select id from ValidPaths where path = ?1
                       union select r.reference from Refs r join closure c on r.referrer = c.id)
                     select coalesce(sum(v.narSize), 0) from closure c join ValidPaths v on v.id = c.id",
                )?
                .query_row([&full], |row| row.get(0))
        })?;
        Ok(u64::try_from(total).unwrap_or(0))
    }

    /// Whether all outputs of a derivation are there. Of one that is not valid, or whose outputs are not known before it
    /// is built, nobody can say.
    pub fn is_built(&self, derivation: &StorePath) -> Result<Option<bool>, DatabaseError> {
        let outputs = self.outputs(derivation)?;
        for output in outputs.values() {
            if !self.is_valid(output)? {
                return Ok(Some(false));
            }
        }
        Ok(if outputs.is_empty() { None } else { Some(true) })
    }

    /// What a valid derivation builds: output name to path. Empty for a derivation whose outputs are
    /// not known before it is built.
    pub fn outputs(
        &self,
        derivation: &StorePath,
    ) -> Result<BTreeMap<String, StorePath>, DatabaseError> {
        let full = self.store_dir.display(derivation);
        let rows = self.with(|connection| {
            connection
                .prepare_cached(
                    "select o.id, o.path from DerivationOutputs o join ValidPaths v on v.id = o.drv
                     where v.path = ?1",
                )?
                .query_map([&full], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
                .collect::<Result<Vec<(String, String)>, _>>()
        })?;
        rows.into_iter()
            .map(|(name, path)| Ok((name, self.parse_path(&path, "output", &full)?)))
            .collect()
    }

    /// The valid derivation with this hash part, or the derivations that are known to have built the
    /// path with this hash part: the base names under which its build log may lie.
    pub fn derivations(&self, hash: StorePathHash) -> Result<Vec<StorePath>, DatabaseError> {
        let Some(info) = self.path_info(hash)? else { return Ok(Vec::new()) };
        if info.path.is_derivation() {
            return Ok(vec![info.path]);
        }
        let mut found = self.makers(&info.path)?;
        found.extend(info.deriver.into_iter().filter(|deriver| deriver.is_derivation()));
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The valid derivations that make this path, which need not be there itself.
    pub fn makers(&self, path: &StorePath) -> Result<Vec<StorePath>, DatabaseError> {
        let full = self.store_dir.display(path);
        let rows = self.with(|connection| {
            connection
                .prepare_cached(
                    "select v.path from DerivationOutputs o join ValidPaths v on v.id = o.drv
                     where o.path = ?1",
                )?
                .query_map([&full], |row| row.get::<_, String>(0))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        rows.iter().map(|row| self.parse_path(row, "deriver", &full)).collect()
    }

    fn complete(&self, row: RawInfo, names: &[String]) -> Result<PathInfo, DatabaseError> {
        let about = &row.path;
        let references = names
            .iter()
            .map(|name| self.parse_path(name, "reference", about))
            .collect::<Result<_, _>>()?;
        let nar_hash =
            row.hash.parse().map_err(|_| self.damaged("hash", about, row.hash.clone()))?;
        let nar_size = row
            .nar_size
            .and_then(|size| u64::try_from(size).ok())
            .filter(|size| *size > 0)
            .ok_or_else(|| self.damaged("narSize", about, format!("{:?}", row.nar_size)))?;
        let deriver = match row.deriver.as_deref() {
            None | Some("") => None,
            Some(deriver) => Some(self.parse_path(deriver, "deriver", about)?),
        };
        let signatures = self.signatures(row.sigs.as_deref(), about)?;
        let ca = match row.ca.as_deref() {
            None | Some("") => None,
            Some(ca) => Some(
                ca.parse().map_err(|_| self.damaged("content address", about, ca.to_owned()))?,
            ),
        };
        let path = self.parse_path(about, "path", about)?;
        Ok(PathInfo { id: row.id, path, nar_hash, nar_size, references, deriver, signatures, ca })
    }

    fn signatures(
        &self,
        text: Option<&str>,
        about: &str,
    ) -> Result<BTreeSet<Signature>, DatabaseError> {
        let texts = text.unwrap_or_default().split_ascii_whitespace();
        let damaged = |text: &str| self.damaged("signature", about, text.to_owned());
        texts.map(|text| text.parse().map_err(|_| damaged(text))).collect()
    }

    fn parse_path(
        &self,
        text: &str,
        what: &'static str,
        about: &str,
    ) -> Result<StorePath, DatabaseError> {
        self.store_dir.parse(text).map_err(|_| self.damaged(what, about, text.to_owned()))
    }

    fn damaged(&self, what: &'static str, about: &str, value: String) -> DatabaseError {
        DatabaseError::Damaged { path: self.file.clone(), what, about: about.to_owned(), value }
    }

    /// A number that is another one after any change to the database, by whomever. Takes about a
    /// microsecond; does not wait for writers. Nothing, where it is being changed at this moment.
    pub fn generation(&self) -> Result<Option<u64>, DatabaseError> {
        let sqlite = |source| DatabaseError::Sqlite { path: self.file.clone(), source };
        let watch = match self.watch.get() {
            Some(watch) => watch,
            None => {
                let watch = Watch::open(&self.file, connect(&self.file).map_err(sqlite)?);
                self.watch.get_or_init(|| watch)
            }
        };
        watch.generation().map_err(sqlite)
    }

    /// Asks one question on an idle connection, or on a new one.
    fn with<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        let sqlite = |source| DatabaseError::Sqlite { path: self.file.clone(), source };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.file).map_err(sqlite)?,
        };
        let answer = ask(&connection).map_err(sqlite)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
        Ok(answer)
    }
}

fn references(connection: &Connection, referrer: i64) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "select v.path from Refs r join ValidPaths v on v.id = r.reference
             where r.referrer = ?1",
        )?
        .query_map([referrer], |row| row.get::<_, String>(0))?
        .collect()
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // One plan a question: otherwise SQLite plans anew for every value it is asked with.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Negative: in KiB, not in pages.
    connection.pragma_update(None, "cache_size", -PAGE_CACHE)?;
    Ok(connection)
}

struct RawInfo {
    id: i64,
    path: String,
    hash: String,
    nar_size: Option<i64>,
    deriver: Option<String>,
    sigs: Option<String>,
    ca: Option<String>,
}

impl RawInfo {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            path: row.get(1)?,
            hash: row.get(2)?,
            nar_size: row.get(3)?,
            deriver: row.get(4)?,
            sigs: row.get(5)?,
            ca: row.get(6)?,
        })
    }
}
