//! Telling whether a database has changed.
//!
//! Promise: between two equal answers nothing was committed. SQLite can be asked itself (`pragma
//! data_version`), which takes and drops two locks. In WAL mode, which Nix uses unless told otherwise, it
//! would look no further than the header of the WAL-index, a file that every commit writes and that lies
//! in memory; so that is read instead.
//!
//! Format of the header: <https://www.sqlite.org/walformat.html>, section 2.1.

use std::{
    fs::File,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use rustix::io::pread;

/// Bytes of one copy of the header. Two of them, one behind the other, begin the file.
const HEADER: usize = 48;

/// The only version there is, which both copies begin with, in the machine's byte order.
const VERSION: u32 = 3_007_000;

/// Where a copy says that it was filled in.
const IS_INIT: usize = 12;

/// What changes are seen by.
#[derive(Debug)]
pub(super) struct Watch {
    /// The WAL-index, where there is one. The connection below keeps it from being removed: only the last
    /// one takes it away.
    index: Option<File>,
    asked: Mutex<Asked>,
}

#[derive(Debug)]
struct Asked {
    connection: Connection,
    version: i64,
    generation: u64,
}

impl Watch {
    /// Watches the database in this file by a connection to it.
    pub(super) fn open(file: &Path, connection: Connection) -> Self {
        let index = wal_index(file, &connection);
        Self { index, asked: Mutex::new(Asked { connection, version: -1, generation: 0 }) }
    }

    /// A number that is another one after every commit; none in the middle of one.
    pub(super) fn generation(&self) -> rusqlite::Result<Option<u64>> {
        if let Some(index) = &self.index {
            return Ok(header(index)
                .map(|header| BuildHasherDefault::<DefaultHasher>::default().hash_one(header)));
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let version = asked
            .connection
            .prepare_cached("pragma data_version")?
            .query_row([], |row| row.get(0))?;
        if version != asked.version {
            asked.version = version;
            asked.generation += 1;
        }
        Ok(Some(asked.generation))
    }
}

/// The file of the WAL-index, if the database is in WAL mode and the file is what it should be.
fn wal_index(file: &Path, connection: &Connection) -> Option<File> {
    connection.busy_timeout(Duration::ZERO).ok()?;
    let mode: String = connection.query_row("pragma journal_mode", [], |row| row.get(0)).ok()?;
    // The first question has the connection hold the index from now on.
    let _: i64 = connection.query_row("pragma schema_version", [], |row| row.get(0)).ok()?;
    let mut path = file.as_os_str().to_owned();
    path.push("-shm");
    let index = File::open(path).ok()?;
    (mode == "wal" && header(&index).is_some()).then_some(index)
}

/// The header, if both copies of it agree: in between, a commit is being written.
fn header(index: &File) -> Option<[u8; HEADER]> {
    let mut both = [0; 2 * HEADER];
    if pread(index, &mut both[..], 0).ok()? != both.len() {
        return None;
    }
    let (one, other) = both.split_at(HEADER);
    let known = one.starts_with(&VERSION.to_ne_bytes()) && one[IS_INIT] == 1;
    if known && one == other { one.try_into().ok() } else { None }
}
