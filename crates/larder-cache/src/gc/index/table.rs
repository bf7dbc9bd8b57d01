//! The index's file.

use std::{hash::Hash, io, path::Path, time::Duration};

use larder_formats::store_path::{StoreDir, StorePathHash};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params, types::FromSqlError};

use super::{
    contents::{Said, Target},
    known::{Known, Stamp},
    row::{self, KnownPath},
};
use crate::{
    gc::snapshot::{Snapshot, SnapshotBuilder},
    storage::{Entry, Key, Object},
};

const SCHEMA: &str = include_str!("schema.sql");

/// The schema's number. Another one's file is thrown away.
const VERSION: i32 = 2;

/// Rows of a portion.
const PORTION: usize = 4096;

/// The file, and which rows it has.
#[derive(Debug)]
pub(super) struct Table {
    connection: Connection,
    paths: Known<StorePathHash>,
    objects: Known<Key>,
    /// Refreshes since it was opened.
    refresh: u32,
}

/// Opens an index that can be used as it is. All its rows are looked at, so one that was damaged is an error.
pub(super) fn open(
    path: &Path,
    cache: &str,
    store_dir: &StoreDir,
) -> rusqlite::Result<Option<Table>> {
    let connection = Connection::open(path)?;
    claim(&connection)?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != VERSION {
        return Ok(None);
    }
    let sql = "SELECT 1 FROM about WHERE cache = ?1 AND store_dir = ?2";
    let ours = connection.query_row(sql, params![cache, store_dir.as_str()], |_| Ok(()));
    if ours.optional()?.is_none() {
        return Ok(None);
    }
    let paths = known(&connection, (row::PATH, "paths"), |row| {
        row::known_path(row)?;
        Ok(row::path(row)?.hash)
    })?;
    let objects = known(&connection, (row::OBJECT, "objects"), |row| Ok(row::object(row)?.key))?;
    Ok(Some(Table { connection, paths, objects, refresh: 0 }))
}

/// The rows of a table. Two about the same are damage: one of them would never be found again.
fn known<K: Eq + Hash>(
    connection: &Connection,
    (columns, table): (&str, &str),
    about: impl Fn(&Row<'_>) -> rusqlite::Result<K>,
) -> rusqlite::Result<Known<K>> {
    let mut known = Known::default();
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM {table}"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !known.add(about(row)?, row::known(row)?) {
            return Err(FromSqlError::InvalidType.into());
        }
    }
    Ok(known)
}

/// Makes an empty one.
pub(super) fn make(
    connection: rusqlite::Result<Connection>,
    cache: &str,
    store_dir: &StoreDir,
) -> rusqlite::Result<Table> {
    let connection = connection?;
    claim(&connection)?;
    connection.execute_batch(SCHEMA)?;
    let sql = "INSERT INTO about (cache, store_dir) VALUES (?1, ?2)";
    connection.execute(sql, params![cache, store_dir.as_str()])?;
    connection.pragma_update(None, "user_version", VERSION)?;
    let (paths, objects) = (Known::default(), Known::default());
    Ok(Table { connection, paths, objects, refresh: 0 })
}

/// Takes the file for this process alone: two that refresh at once would take each other's rows for gone.
/// A crash or a power failure costs it the last rows at most.
fn claim(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT, |_| Ok(()))?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether the file is not what we wrote. A disk that is full, say, is no reason to throw it away.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            // The last is a table or a column that is not there.
            ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown
        ),
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// Removes a file that cannot be used, and what belongs to it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Pages that are written elsewhere before they are put where they belong.
const CHECKPOINT: i64 = 20_000;

/// An object that says something which its name does not.
#[derive(Clone, Copy, Debug)]
pub(super) enum Small {
    Narinfo(StorePathHash),
    Realisation,
    Debuginfo,
}

impl Table {
    /// Begins a refresh: its number.
    pub(super) fn begin(&mut self) -> u32 {
        self.refresh += 1;
        self.refresh
    }

    /// What of these has to be read.
    pub(super) fn unread(
        &mut self,
        refresh: u32,
        listed: Vec<(Small, Entry)>,
    ) -> Vec<(Small, Entry)> {
        let is_unread = |(small, entry): &(Small, Entry)| match small {
            Small::Narinfo(hash) => !self.paths.holds(hash, &entry.object, refresh),
            Small::Realisation | Small::Debuginfo => {
                !self.objects.holds(&entry.key, &entry.object, refresh)
            }
        };
        listed.into_iter().filter(is_unread).collect()
    }

    /// Notes what narinfos said.
    pub(super) fn paths(
        &mut self,
        stamp: Stamp,
        rows: Vec<(StorePathHash, Object, Said)>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut written = Vec::with_capacity(rows.len());
        for (hash, object, said) in rows {
            let row = self.paths.next(&hash, &object, stamp);
            let references: Vec<u8> =
                said.references.iter().flat_map(|hash| hash.as_bytes()).copied().collect();
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO paths
                     (id, hash, size, modified, settled, path, nar, file_size, deriver, refs, problem)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    row.id,
                    hash.as_bytes(),
                    row.size,
                    row.modified,
                    row.settled,
                    said.path.as_ref().map(ToString::to_string),
                    said.nar.as_ref().map(ToString::to_string),
                    said.file_size.and_then(|size| i64::try_from(size).ok()),
                    said.deriver.as_ref().map(StorePathHash::as_bytes),
                    references,
                    said.problem,
                ])?;
            written.push((hash, row));
        }
        transaction.commit()?;
        for (hash, row) in written {
            self.paths.add(hash, row);
        }
        Ok(())
    }

    /// Notes what other small objects said.
    pub(super) fn objects(
        &mut self,
        stamp: Stamp,
        rows: Vec<(Target, Entry)>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut written = Vec::with_capacity(rows.len());
        for (target, Entry { key, object }) in rows {
            let row = self.objects.next(&key, &object, stamp);
            let (kind, target) = row::text_of(target);
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO objects (id, key, size, modified, settled, kind, target)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    row.id,
                    key.as_str(),
                    row.size,
                    row.modified,
                    row.settled,
                    kind,
                    target
                ])?;
            written.push((key, row));
        }
        transaction.commit()?;
        for (key, row) in written {
            self.objects.add(key, row);
        }
        Ok(())
    }

    /// Ends a refresh: what was not seen in it is gone. Says how much that is.
    pub(super) fn end(&mut self, refresh: u32) -> rusqlite::Result<u64> {
        let transaction = self.connection.transaction()?;
        let mut gone = 0;
        for (table, unseen) in
            [("paths", self.paths.unseen(refresh)), ("objects", self.objects.unseen(refresh))]
        {
            let mut delete = transaction.prepare(&format!("DELETE FROM {table} WHERE id = ?1"))?;
            for id in unseen {
                gone += delete.execute([id])? as u64;
            }
        }
        transaction.commit()?;
        self.paths.forget_unseen(refresh);
        self.objects.forget_unseen(refresh);
        Ok(gone)
    }

    /// Adds what it has to what was listed.
    pub(super) fn snapshot(&self, mut builder: SnapshotBuilder) -> rusqlite::Result<Snapshot> {
        let mut statement = self.connection.prepare(&format!("SELECT {} FROM paths", row::PATH))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            builder.path(row::path(row)?, row::references(row)?);
        }
        let mut statement =
            self.connection.prepare(&format!("SELECT {} FROM objects", row::OBJECT))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            builder.object(row::object(row)?);
        }
        Ok(builder.finish())
    }

    pub(super) fn known_paths(&self, after: Option<i64>) -> rusqlite::Result<Vec<KnownPath>> {
        let sql = format!(
            "SELECT {} FROM paths WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2",
            row::PATH
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![after, PORTION], row::known_path)?;
        rows.collect()
    }
}
