//! The index's file.

use std::{hash::Hash, io, path::Path, time::Duration};

use jiff::Timestamp;
use larder_formats::{
    nar_file::NarFile,
    store_path::{StoreDir, StorePath, StorePathHash},
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params, types::FromSqlError};

use super::{
    contents::{Said, Target},
    known::{self, Known, Stamp},
};
use crate::{
    gc::snapshot::{ObjectEntry, ObjectKind, PathEntry, Snapshot, SnapshotBuilder},
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
    let paths = known(&connection, "SELECT id, size, modified, settled, hash FROM paths", |row| {
        row.get(4).map(StorePathHash::from_bytes)
    })?;
    let objects =
        known(&connection, "SELECT id, size, modified, settled, key FROM objects", |row| {
            let key = Key::new(row.get_ref(4)?.as_str()?);
            key.map_err(|error| FromSqlError::other(error).into())
        })?;
    Ok(Some(Table { connection, paths, objects, refresh: 0 }))
}

fn known<K: Eq + Hash>(
    connection: &Connection,
    sql: &str,
    about: impl Fn(&Row<'_>) -> rusqlite::Result<K>,
) -> rusqlite::Result<Known<K>> {
    let mut known = Known::default();
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, size, modified, settled) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        known.add(about(row)?, known::Row { id, size, modified, settled, seen: 0 });
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

/// A path's narinfo, for a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPath {
    /// Its place in the index.
    pub place: i64,
    /// The path's hash part.
    pub hash: StorePathHash,
    /// The path.
    pub path: Option<StorePath>,
    /// The file of its NAR.
    pub nar: Option<NarFile>,
    /// Bytes in that file, as the narinfo says.
    pub file_size: Option<u64>,
    /// The hash parts of its references, its own among them where it has one.
    pub references: Vec<StorePathHash>,
    /// What is wrong with the narinfo.
    pub problem: Option<String>,
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
        written.into_iter().for_each(|(hash, row)| self.paths.add(hash, row));
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
            let (kind, target) = text_of(target);
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
        written.into_iter().for_each(|(key, row)| self.objects.add(key, row));
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
        let sql = "SELECT hash, size, modified, path, nar, deriver, refs FROM paths";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let entry = PathEntry {
                hash: StorePathHash::from_bytes(row.get(0)?),
                size: row.get(1)?,
                written: time(row.get(2)?),
                path: parsed(row, 3)?,
                nar: nar_file(row, 4)?,
                deriver: row.get::<_, Option<[u8; 20]>>(5)?.map(StorePathHash::from_bytes),
            };
            let (references, _) = row.get_ref(6)?.as_blob()?.as_chunks::<20>();
            builder.path(entry, references.iter().copied().map(StorePathHash::from_bytes));
        }
        let sql = "SELECT key, size, modified, kind, target FROM objects";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let kind = kind_of(row.get_ref(3)?.as_str()?, row.get_ref(4)?.as_str_or_null()?);
            if let (Ok(key), Some(kind)) = (Key::new(row.get_ref(0)?.as_str()?), kind) {
                let (size, written) = (row.get(1)?, time(row.get(2)?));
                builder.object(ObjectEntry { key, kind, size, written });
            }
        }
        Ok(builder.finish())
    }

    pub(super) fn known_paths(&self, after: Option<i64>) -> rusqlite::Result<Vec<KnownPath>> {
        let sql = "SELECT id, hash, path, nar, file_size, refs, problem FROM paths
                   WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![after, PORTION], |row| {
            let (references, _) = row.get_ref(5)?.as_blob()?.as_chunks::<20>();
            Ok(KnownPath {
                place: row.get(0)?,
                hash: StorePathHash::from_bytes(row.get(1)?),
                path: parsed(row, 2)?,
                nar: nar_file(row, 3)?,
                file_size: row.get(4)?,
                references: references.iter().copied().map(StorePathHash::from_bytes).collect(),
                problem: row.get(6)?,
            })
        })?;
        rows.collect()
    }
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

fn parsed(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<StorePath>> {
    let text = row.get_ref(column)?.as_str_or_null()?;
    Ok(text.and_then(|text| text.parse().ok()))
}

fn nar_file(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<NarFile>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.and_then(NarFile::parse))
}

/// What an object says as the file has it.
fn text_of(target: Target) -> (&'static str, Option<String>) {
    match target {
        Target::Realisation(path) => ("realisation", path.map(|path| path.to_string())),
        Target::Debuginfo(nar) => ("debuginfo", nar.map(|nar| nar.to_string())),
    }
}

fn kind_of(kind: &str, target: Option<&str>) -> Option<ObjectKind> {
    Some(match kind {
        "realisation" => ObjectKind::Realisation(target.and_then(|text| text.parse().ok())),
        "debuginfo" => ObjectKind::Debuginfo(target.and_then(NarFile::parse)),
        _ => return None,
    })
}
