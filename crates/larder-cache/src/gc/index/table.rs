//! The index's file.

use std::{io, path::Path, time::Duration};

use jiff::Timestamp;
use larder_formats::{
    nar_file::NarFile,
    store_path::{StoreDir, StorePath, StorePathHash},
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use super::contents::Said;
use crate::{
    gc::snapshot::{NarEntry, ObjectEntry, ObjectKind, PathEntry, Snapshot, SnapshotBuilder},
    storage::{Entry, Key},
};

const SCHEMA: &str = include_str!("schema.sql");

/// The schema's number. Another one's file is thrown away.
const VERSION: i32 = 1;

/// Rows of a portion.
const PORTION: usize = 4096;

/// Opens an index that can be used as it is.
pub(super) fn open(
    path: &Path,
    cache: &str,
    store_dir: &StoreDir,
) -> rusqlite::Result<Option<Connection>> {
    let connection = Connection::open(path)?;
    claim(&connection)?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != VERSION {
        return Ok(None);
    }
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    let sql = "SELECT 1 FROM about WHERE cache = ?1 AND store_dir = ?2";
    let ours = connection.query_row(sql, params![cache, store_dir.as_str()], |_| Ok(()));
    Ok((ours.optional()?.is_some() && sound == "ok").then_some(connection))
}

/// Makes an empty one.
pub(super) fn make(
    connection: rusqlite::Result<Connection>,
    cache: &str,
    store_dir: &StoreDir,
) -> rusqlite::Result<Connection> {
    let connection = connection?;
    claim(&connection)?;
    connection.execute_batch(SCHEMA)?;
    let sql = "INSERT INTO about (cache, store_dir, round) VALUES (?1, ?2, 0)";
    connection.execute(sql, params![cache, store_dir.as_str()])?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(connection)
}

/// Takes the file for this process alone: two that refresh at once would take each other's rows for gone.
fn claim(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // What a power failure leaves of it is looked through when it is opened next, and made again if it is torn.
    connection.pragma_update(None, "synchronous", "OFF")?;
    // Hashes come in no order, so that every page is as likely as any other to be needed next.
    connection.pragma_update(None, "cache_size", -PAGE_CACHE)?;
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

/// KiB of the file that are held in memory. That of a million paths has some 300 MiB.
const PAGE_CACHE: i64 = 192 * 1024;

/// Pages that are written elsewhere before they are put where they belong.
const CHECKPOINT: i64 = 20_000;

/// What an object of a listing is, as far as its name tells.
#[derive(Clone, Debug)]
pub(super) enum Listed {
    Path(StorePathHash),
    Nar(NarFile),
    /// Known altogether.
    Object(ObjectKind),
    /// To be read.
    Realisation,
    Debuginfo,
}

/// A path's narinfo, for a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPath {
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

/// The file, in the hands of one thread.
pub(super) struct Table<'a>(pub &'a mut Connection);

impl Table<'_> {
    /// Begins a refresh: its number.
    pub(super) fn begin(&mut self) -> rusqlite::Result<i64> {
        self.0.query_row("UPDATE about SET round = round + 1 RETURNING round", [], |row| row.get(0))
    }

    /// Notes what was listed. Returns what has to be read.
    pub(super) fn listed(
        &mut self,
        round: i64,
        entries: Vec<(Listed, Entry)>,
    ) -> rusqlite::Result<Vec<(Listed, Entry)>> {
        let transaction = self.0.transaction()?;
        let mut unread = Vec::new();
        {
            let mut path = transaction.prepare_cached(
                "UPDATE paths SET seen = ?1 WHERE hash = ?2 AND size = ?3 AND modified = ?4 AND settled",
            )?;
            let mut nar = transaction.prepare_cached(
                "INSERT OR REPLACE INTO nars (file, size, modified, accessed, seen) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            let mut known = transaction.prepare_cached(
                "INSERT OR REPLACE INTO objects (key, kind, target, size, modified, settled, seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)",
            )?;
            let mut object = transaction.prepare_cached(
                "UPDATE objects SET seen = ?1 WHERE key = ?2 AND size = ?3 AND modified = ?4 AND settled",
            )?;
            for (listed, entry) in entries {
                let (size, modified) = (entry.object.size, micros(entry.object.modified));
                let is_known = match &listed {
                    Listed::Path(hash) => {
                        path.execute(params![round, hash.as_bytes(), size, modified])? > 0
                    }
                    Listed::Nar(file) => {
                        let accessed = entry.object.accessed.map(micros);
                        nar.execute(params![file.to_string(), size, modified, accessed, round])? > 0
                    }
                    Listed::Object(kind) => {
                        let (kind, target) = written(*kind);
                        let key = entry.key.as_str();
                        known.execute(params![key, kind, target, size, modified, round])? > 0
                    }
                    Listed::Realisation | Listed::Debuginfo => {
                        object.execute(params![round, entry.key.as_str(), size, modified])? > 0
                    }
                };
                if !is_known {
                    unread.push((listed, entry));
                }
            }
        }
        transaction.commit()?;
        Ok(unread)
    }

    /// Notes what narinfos said.
    pub(super) fn paths(
        &mut self,
        (round, settled_before): (i64, Timestamp),
        rows: &[(StorePathHash, Entry, Said)],
    ) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        for (hash, Entry { object, .. }, said) in rows {
            let references: Vec<u8> =
                said.references.iter().flat_map(|hash| hash.as_bytes()).copied().collect();
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO paths
                     (hash, path, nar, file_size, deriver, refs, problem, size, modified, settled, seen)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    hash.as_bytes(),
                    said.path.as_ref().map(ToString::to_string),
                    said.nar.as_ref().map(ToString::to_string),
                    said.file_size.and_then(|size| i64::try_from(size).ok()),
                    said.deriver.as_ref().map(StorePathHash::as_bytes),
                    references,
                    said.problem,
                    object.size,
                    micros(object.modified),
                    object.modified < settled_before,
                    round,
                ])?;
        }
        transaction.commit()
    }

    /// Notes what other small objects said.
    pub(super) fn objects(
        &mut self,
        (round, settled_before): (i64, Timestamp),
        rows: &[(ObjectKind, Entry)],
    ) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        for (kind, Entry { key, object }) in rows {
            let (kind, target) = written(*kind);
            let settled = object.modified < settled_before;
            let modified = micros(object.modified);
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO objects (key, kind, target, size, modified, settled, seen)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![key.as_str(), kind, target, object.size, modified, settled, round])?;
        }
        transaction.commit()
    }

    /// Ends a refresh: what was not seen in it is gone.
    pub(super) fn end(&mut self, round: i64) -> rusqlite::Result<u64> {
        let mut gone = 0;
        for table in ["paths", "nars", "objects"] {
            let sql = format!("DELETE FROM {table} WHERE seen < ?1");
            gone += self.0.execute(&sql, [round])? as u64;
        }
        Ok(gone)
    }

    pub(super) fn snapshot(&mut self) -> rusqlite::Result<Snapshot> {
        let mut builder = SnapshotBuilder::default();
        let sql = "SELECT hash, path, nar, deriver, refs, size, modified FROM paths";
        let mut statement = self.0.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let entry = PathEntry {
                hash: StorePathHash::from_bytes(row.get(0)?),
                path: parsed(row, 1)?,
                nar: nar_file(row, 2)?,
                deriver: row.get::<_, Option<[u8; 20]>>(3)?.map(StorePathHash::from_bytes),
                size: row.get(5)?,
                written: time(row.get(6)?),
            };
            let (references, _) = row.get_ref(4)?.as_blob()?.as_chunks::<20>();
            builder.path(entry, references.iter().copied().map(StorePathHash::from_bytes));
        }
        let mut statement = self.0.prepare("SELECT file, size, modified, accessed FROM nars")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Some(file) = nar_file(row, 0)? else { continue };
            let accessed = row.get::<_, Option<i64>>(3)?.map(time);
            builder.nar(NarEntry { file, size: row.get(1)?, written: time(row.get(2)?), accessed });
        }
        let sql = "SELECT key, kind, target, size, modified FROM objects";
        let mut statement = self.0.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            let target: Option<String> = row.get(2)?;
            let kind = read(row.get_ref(1)?.as_str()?, target.as_deref());
            if let (Ok(key), Some(kind)) = (Key::new(key), kind) {
                let (size, written) = (row.get(3)?, time(row.get(4)?));
                builder.object(ObjectEntry { key, kind, size, written });
            }
        }
        Ok(builder.finish())
    }

    pub(super) fn known_paths(
        &mut self,
        after: Option<StorePathHash>,
    ) -> rusqlite::Result<Vec<KnownPath>> {
        let sql = "SELECT hash, path, nar, file_size, refs, problem FROM paths
                   WHERE ?1 IS NULL OR hash > ?1 ORDER BY hash LIMIT ?2";
        let mut statement = self.0.prepare_cached(sql)?;
        let after = after.map(|hash| *hash.as_bytes());
        let rows = statement.query_map(params![after, PORTION], |row| {
            let (references, _) = row.get_ref(4)?.as_blob()?.as_chunks::<20>();
            Ok(KnownPath {
                hash: StorePathHash::from_bytes(row.get(0)?),
                path: parsed(row, 1)?,
                nar: nar_file(row, 2)?,
                file_size: row.get(3)?,
                references: references.iter().copied().map(StorePathHash::from_bytes).collect(),
                problem: row.get(5)?,
            })
        })?;
        rows.collect()
    }
}

fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
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

/// A kind as the file has it.
fn written(kind: ObjectKind) -> (&'static str, Option<String>) {
    match kind {
        ObjectKind::Listing(path) => ("listing", Some(path.to_string())),
        ObjectKind::Realisation(path) => ("realisation", path.map(|path| path.to_string())),
        ObjectKind::Debuginfo(nar) => ("debuginfo", nar.map(|nar| nar.to_string())),
        ObjectKind::Log(derivation) => ("log", Some(derivation.to_string())),
        ObjectKind::Staged(nar) => ("staged", Some(nar.to_string())),
        ObjectKind::Draft => ("draft", None),
        ObjectKind::Foreign => ("foreign", None),
    }
}

fn read(kind: &str, target: Option<&str>) -> Option<ObjectKind> {
    let path = || target.and_then(|text| text.parse().ok());
    let nar = || target.and_then(NarFile::parse);
    Some(match kind {
        "listing" => ObjectKind::Listing(path()?),
        "realisation" => ObjectKind::Realisation(path()),
        "debuginfo" => ObjectKind::Debuginfo(nar()),
        "log" => ObjectKind::Log(path()?),
        "staged" => ObjectKind::Staged(nar()?),
        "draft" => ObjectKind::Draft,
        "foreign" => ObjectKind::Foreign,
        _ => return None,
    })
}
