//! The fleet's history: every run and every revision, appended and never changed.
//!
//! One SQLite file. Writing is the build's alone; the server reads the same file while it grows.
//! Triggers refuse any update or deletion of a published revision, so that going back is a new
//! revision that names an older system, and numbers only grow.

mod held;
mod locks;
mod peaks;
mod reports;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use larder_formats::{envelope::Envelope, package_name::PackageName};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use serde::{Deserialize, Serialize};

pub use self::{
    held::Held,
    locks::PublishedLock,
    peaks::{Measured, Peak, Remembered},
    reports::Run,
};
use crate::{host::HostName, revision::Revision};

/// Forward-only. The file's `user_version` says how many of these it has had.
const MIGRATIONS: &[&str] = &[
    include_str!("ledger/0001-runs-and-revisions.sql"),
    include_str!("ledger/0002-locks.sql"),
    include_str!("ledger/0003-peaks.sql"),
    include_str!("ledger/0004-reports.sql"),
];

/// A host that no run has been for so long is no longer of the fleet.
pub const GONE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long to wait for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite failed.
    #[error("the ledger {path}: {source}{}", remedy(source))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// Its folder cannot be made, or not be looked into.
    #[error("cannot get at the folder of the ledger {path}: {source}")]
    Folder {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Written by a newer program.
    #[error(
        "the ledger {path} was written by a newer Larder (version {found}; this one knows {known}): upgrade Larder here"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest version known here.
        known: usize,
    },
    /// An entry is not what this program writes.
    #[error("the ledger {path} holds an entry that cannot be read: {source}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// How a run ended for one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// A system was built that differs from the last revision's.
    Built,
    /// The very system of the last revision.
    Unchanged,
    /// The host could not be evaluated.
    EvaluationFailed {
        /// The end of what Nix said.
        message: String,
    },
    /// The host's system could not be built.
    BuildFailed {
        /// The derivations that failed, and the end of each one's log.
        failures: Vec<Failure>,
        /// What Nix said about it.
        message: String,
        /// What it failed of, all in all: the worst of its failures.
        #[serde(default)]
        kind: FailureKind,
    },
    /// A time limit ended the run for the host before its system was built, or there was no room to go on.
    Unfinished {
        /// Which limit, and what to do.
        message: String,
    },
    /// The system was built, but could not be published.
    NotPublished {
        /// Why.
        message: String,
    },
}

/// A derivation that failed to build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Base name of the derivation.
    pub derivation: String,
    /// The last lines of its log.
    pub last_lines: Vec<String>,
    /// What it failed of.
    #[serde(default)]
    pub kind: FailureKind,
    /// The most memory it was seen to take, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
}

impl Failure {
    /// The package, which is the same in each run: the derivation is another wherever anything has moved.
    pub fn package(&self) -> &str {
        let name = self.derivation.split_once('-').map_or("", |(_, name)| name);
        PackageName::parse(name.strip_suffix(".drv").unwrap_or(name)).name
    }
}

/// What a derivation failed of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "of")]
pub enum FailureKind {
    /// Its own fault, or that of what it is made from.
    #[default]
    Itself,
    /// There was not enough memory for it, even alone.
    Memory {
        /// Whether that was inferred from how it ended, and not told by the kernel.
        inferred: bool,
    },
    /// The network or a full disk, which says nothing of what it is made from.
    Transient,
    /// It took longer than Nix lets a build take.
    TimedOut,
}

impl Outcome {
    /// Whether the host has its system.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Built | Self::Unchanged)
    }
}

/// What is known of one host.
#[derive(Clone, Debug)]
pub struct HostState {
    /// The host.
    pub host: HostName,
    /// When a run last ended for it, and how.
    pub last_run: Option<(Timestamp, Outcome)>,
    /// Its newest revision.
    pub revision: Option<Revision>,
}

/// The fleet's history.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Ledger {
    /// Opens the ledger for writing; makes it if there is none.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| LedgerError::Folder { path: path.to_owned(), source })?;
        }
        let ledger = Self::connect(path, OpenFlags::default())?;
        ledger.prepare().map_err(|source| LedgerError::Sqlite { path: path.to_owned(), source })?;
        ledger.check_version()?;
        Ok(ledger)
    }

    /// Opens an existing ledger for reading; `None` if there is none yet.
    pub fn read(path: &Path) -> Result<Option<Self>, LedgerError> {
        // What cannot be looked at may be there.
        let is_there = path.try_exists();
        if !is_there.map_err(|source| LedgerError::Folder { path: path.to_owned(), source })? {
            return Ok(None);
        }
        // Writing is allowed to SQLite, where the system allows it, for one thing: to take back what a
        // writer that was killed left half done. Otherwise nothing could be read until the next one.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Self::connect(path, flags)?;
        let reading_only = ledger.connection().pragma_update(None, "query_only", true);
        reading_only.map_err(|source| ledger.sqlite(source))?;
        ledger.check_version()?;
        Ok(Some(ledger))
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, LedgerError> {
        let sqlite = |source| LedgerError::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        let mut connection = self.connection();
        // Not a write-ahead log: whoever reads that needs to write to its folder, and the server, which
        // only reads, may have neither that right nor a state folder that can be written to.
        connection.pragma_update(None, "journal_mode", "delete")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let version = user_version(&transaction)?;
        for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
            transaction.execute_batch(migration)?;
            transaction.pragma_update(
                None,
                "user_version",
                i64::try_from(index + 1).unwrap_or(i64::MAX),
            )?;
        }
        transaction.commit()
    }

    fn check_version(&self) -> Result<(), LedgerError> {
        let found = user_version(&self.connection()).map_err(|source| self.sqlite(source))?;
        if found > MIGRATIONS.len() {
            let known = MIGRATIONS.len();
            return Err(LedgerError::Newer { path: self.path.clone(), found, known });
        }
        Ok(())
    }

    /// Notes that a run has begun, and returns its number.
    pub fn begin_run(&self, now: Timestamp, flake: &str) -> Result<i64, LedgerError> {
        let connection = self.connection();
        connection
            .execute(
                "insert into runs (started, flake) values (?1, ?2)",
                params![now.to_string(), flake],
            )
            .map_err(|source| self.sqlite(source))?;
        Ok(connection.last_insert_rowid())
    }

    /// Notes how a run ended for a host.
    pub fn record(
        &self,
        run: i64,
        host: &HostName,
        now: Timestamp,
        outcome: &Outcome,
    ) -> Result<(), LedgerError> {
        let outcome = serde_json::to_string(outcome).map_err(|source| self.entry(source))?;
        self.connection()
            .execute(
                "insert into outcomes (run, host, time, outcome) values (?1, ?2, ?3, ?4)",
                params![run, host.as_str(), now.to_string(), outcome],
            )
            .map_err(|source| self.sqlite(source))?;
        Ok(())
    }

    /// Publishes a revision: gives it the next number, has it sealed under that number and appends
    /// it, all in one transaction. Returns the revision as published.
    pub fn publish<E>(
        &self,
        run: i64,
        mut revision: Revision,
        seal: impl FnOnce(&Revision) -> Result<Envelope, E>,
    ) -> Result<Revision, PublishError<E>> {
        let sqlite = |source| self.sqlite(source);
        let entry = |source| self.entry(source);
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(sqlite)?;
        let number: i64 = transaction
            .query_row("select coalesce(max(number), 0) + 1 from revisions", [], |row| row.get(0))
            .map_err(sqlite)?;
        revision.number = u64::try_from(number).unwrap_or_default();
        let envelope = seal(&revision).map_err(PublishError::Seal)?;
        let body = serde_json::to_string(&revision).map_err(entry)?;
        let sealed = envelope.to_json();
        transaction
            .execute(
                "insert into revisions (number, run, host, system, revision, envelope)
                 values (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    number,
                    run,
                    revision.host.as_str(),
                    revision.store_path.to_string(),
                    body,
                    sealed
                ],
            )
            .map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        Ok(revision)
    }

    /// The newest revision of each of a host's newest `most` *different* systems, newest first.
    /// Nights in which nothing changed use up nothing.
    pub fn systems(&self, host: &HostName, most: u32) -> Result<Vec<Revision>, LedgerError> {
        let rows = self.texts(
            "select revision from revisions where number in (
               select max(number) from revisions where host = ?1
               group by system order by max(number) desc limit ?2)
             order by number desc",
            params![host.as_str(), most],
        )?;
        rows.iter().map(|row| serde_json::from_str(row).map_err(|e| self.entry(e))).collect()
    }

    /// The newest revision of a host.
    pub fn latest(&self, host: &HostName) -> Result<Option<Revision>, LedgerError> {
        Ok(self.systems(host, 1)?.pop())
    }

    /// The newest revision of a host in its envelope, as JSON: what clients ask for.
    pub fn latest_envelope(&self, host: &HostName) -> Result<Option<String>, LedgerError> {
        let mut rows = self.texts(
            "select envelope from revisions where host = ?1 order by number desc limit 1",
            params![host.as_str()],
        )?;
        Ok(rows.pop())
    }

    /// What is known of every host that ever had a run or a revision, by name.
    pub fn hosts(&self) -> Result<Vec<HostState>, LedgerError> {
        let names = self.texts(
            "select host from outcomes union select host from revisions order by host",
            params![],
        )?;
        names
            .iter()
            .filter_map(|name| name.parse::<HostName>().ok())
            .map(|host| {
                Ok(HostState {
                    last_run: self.last_run(&host)?,
                    revision: self.latest(&host)?,
                    host,
                })
            })
            .collect()
    }

    /// How the last runs ended for a host, the newest first.
    pub fn last_outcomes(&self, host: &HostName, most: usize) -> Result<Vec<Outcome>, LedgerError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.texts(
            "select outcome from outcomes where host = ?1 order by id desc limit ?2",
            params![host.as_str(), most],
        )?;
        rows.iter().map(|row| serde_json::from_str(row).map_err(|e| self.entry(e))).collect()
    }

    /// When a run last came to something for a host, and to what.
    pub(crate) fn last_run(
        &self,
        host: &HostName,
    ) -> Result<Option<(Timestamp, Outcome)>, LedgerError> {
        let row: Option<(String, String)> = self
            .connection()
            .query_row(
                "select time, outcome from outcomes where host = ?1 order by id desc limit 1",
                [host.as_str()],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(|source| self.sqlite(source))?;
        let Some((time, outcome)) = row else { return Ok(None) };
        let outcome = serde_json::from_str(&outcome).map_err(|source| self.entry(source))?;
        Ok(time.parse().ok().map(|time| (time, outcome)))
    }

    fn texts(
        &self,
        query: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<String>, LedgerError> {
        let ask = || {
            self.connection()
                .prepare_cached(query)?
                .query_map(values, |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()
        };
        ask().map_err(|source| self.sqlite(source))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sqlite(&self, source: rusqlite::Error) -> LedgerError {
        LedgerError::Sqlite { path: self.path.clone(), source }
    }

    fn entry(&self, source: serde_json::Error) -> LedgerError {
        LedgerError::Entry { path: self.path.clone(), source }
    }
}

/// A revision could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError<E> {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It could not be sealed.
    #[error("{0}")]
    Seal(E),
}

/// SQLite names the operation that failed and seldom why.
fn remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
            ". See whether its disk is full, or failing"
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            ". See who may read and write it and its folder"
        }
        _ => "",
    }
}

fn user_version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.query_row("pragma user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}
