//! What was built here, or came back from elsewhere, stays for a while: by a lease each.
//!
//! A root is an empty file in `gcroots/larder/built/` of Nix's state (see [`crate::root_folder`]), which Nix's post-build hook
//! has made before anybody can collect the path. When a lease ends stands in `<state-dir>/built.sqlite`: never
//! what a file's date says, which a backup or a copy changes.
//!
//! A root without a record gets a whole lease at the next look, so whatever a crash, a full disk or a lost record leaves
//! behind is kept longer, and never shorter. That is why a lease that has ended loses its record first and its root after that:
//! the other way round, a path that is built again in between would be lost by a record of before.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use larder_formats::store_path::StorePath;
use larder_nix::{
    database::{Database, DatabaseError},
    layout::StoreLayout,
};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction};

use crate::{
    root_folder::{RootFolderError, add_to, listed, remove_from},
    time::after,
};

/// Below Nix's state.
const ROOTS: &str = "gcroots/larder/built";

const SCHEMA: &str = "
    create table if not exists leases (path text primary key, until integer not null) without rowid;
    create table if not exists looked (one integer primary key check (one = 1), at integer not null);";

/// How much the time between two looks counts at most. A clock that jumps ahead ends no lease by that.
const MOST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A clock that goes back by more was wrong before.
const LEAST: SignedDuration = SignedDuration::from_hours(1);

/// How long another process may look.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The leases of a store.
#[derive(Clone, Debug)]
pub struct BuiltPins {
    layout: StoreLayout,
    folder: PathBuf,
    spare: PathBuf,
    file: PathBuf,
    length: SignedDuration,
}

/// What a look came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Whose leases have ended.
    pub ended: Vec<StorePath>,
    /// How many go on.
    pub kept: usize,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Paths that are kept.
    pub paths: usize,
    /// When the first of their leases ends, as far as that is recorded.
    pub next: Option<Timestamp>,
}

/// Leases could not be made, read or ended.
#[derive(Debug, thiserror::Error)]
pub enum BuiltPinError {
    /// The roots.
    #[error("what was built here is kept by {0}; roots of the store are its owner's to change")]
    Roots(#[from] RootFolderError),
    /// The record.
    #[error("the record of how long what was built is kept, {path}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// Nix's database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl BuiltPins {
    /// Of the store that lies there, recorded in that folder of Larder's. What cannot be written among the roots for
    /// want of space or rights is written to `spare`, and moved from there at the next look.
    #[must_use]
    pub fn new(
        layout: StoreLayout,
        spare: PathBuf,
        state_dir: &Path,
        length: SignedDuration,
    ) -> Self {
        let folder = layout.state_dir.join(ROOTS);
        Self { layout, folder, spare, file: state_dir.join("built.sqlite"), length }
    }

    /// Roots what was just built. Its lease begins at the next look. A derivation stands for its outputs.
    ///
    /// # Errors
    /// When it can be written neither there nor to the spare folder; then the first reason is told.
    pub fn add<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath> + Clone,
    ) -> Result<(), BuiltPinError> {
        let usual = add_to(&self.folder, paths.clone());
        Ok(usual.or_else(|error| add_to(&self.spare, paths).map_err(|_| error))?)
    }

    /// Leases these paths anew, from now on.
    ///
    /// # Errors
    /// When that cannot be written down, or they cannot be rooted.
    pub fn renew(&self, paths: &BTreeSet<StorePath>, now: Timestamp) -> Result<(), BuiltPinError> {
        let until = after(now, self.length);
        self.record(|record| {
            tick(record, self.length, now)?;
            paths.iter().try_for_each(|path| set(record, path, until))
        })?;
        Ok(add_to(&self.folder, paths)?)
    }

    /// Records the leases of what is new, and ends those whose time has come; with `dry_run` only says which.
    ///
    /// # Errors
    /// When the roots or the record cannot be read or written. What is kept then is kept.
    pub fn prune(&self, now: Timestamp, dry_run: bool) -> Result<Pruned, BuiltPinError> {
        if !dry_run {
            self.take_in()?;
        }
        let roots: BTreeSet<StorePath> =
            listed(&self.folder)?.into_iter().map(|root| root.path).collect();
        if roots.is_empty() && !self.file.exists() {
            return Ok(Pruned::default());
        }
        let mut connection = self.open().map_err(|source| self.broken(source))?;
        let looked = connection.transaction().and_then(|record| {
            let ended = look(&record, (&roots, self.length), now)?;
            if dry_run {
                record.rollback()?
            } else {
                record.commit()?
            }
            Ok(ended)
        });
        let ended = looked.map_err(|source| self.broken(source))?;
        if !dry_run {
            // The record is still ours alone: nobody renews one of these meanwhile.
            ended.iter().try_for_each(|path| remove_from(&self.folder, path))?;
        }
        drop(connection);
        let kept = roots.len() - ended.len();
        Ok(Pruned { ended, kept })
    }

    /// How it stands, without changing anything.
    ///
    /// # Errors
    /// When the roots or the record cannot be read.
    pub fn standing(&self) -> Result<Standing, BuiltPinError> {
        let paths = listed(&self.folder)?.len();
        if paths == 0 || !self.file.exists() {
            return Ok(Standing { paths, next: None });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let first = Connection::open_with_flags(&self.file, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.query_row("select min(until) from leases", [], |row| row.get(0))
        });
        let first: Option<i64> = first.map_err(|source| self.broken(source))?;
        let next = first.and_then(|first| Timestamp::from_millisecond(first).ok());
        Ok(Standing { paths, next })
    }

    /// Moves what lies in the spare folder to the roots, and has outputs take the place of their derivations.
    fn take_in(&self) -> Result<(), BuiltPinError> {
        for path in listed(&self.spare)?.into_iter().map(|found| found.path) {
            add_to(&self.folder, [&path])?;
            remove_from(&self.spare, &path)?;
        }
        let roots = listed(&self.folder)?.into_iter().map(|root| root.path);
        let derivations: Vec<_> = roots.filter(StorePath::is_derivation).collect();
        if derivations.is_empty() {
            return Ok(());
        }
        let database = Database::open(&self.layout)?;
        for derivation in derivations {
            let outputs = database.outputs(&derivation)?;
            add_to(&self.folder, outputs.values())?;
            remove_from(&self.folder, &derivation)?;
        }
        Ok(())
    }

    /// Changes the record, all of it or nothing.
    fn record(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), BuiltPinError> {
        let changed = self.open().and_then(|mut connection| {
            let record = connection.transaction()?;
            change(&record)?;
            record.commit()
        });
        changed.map_err(|source| self.broken(source))
    }

    /// Opens the record for this process alone, until it is dropped. One that is damaged is set aside: every lease begins
    /// anew then.
    fn open(&self) -> rusqlite::Result<Connection> {
        match self.try_open() {
            Err(error) if is_damaged(&error) => {
                let aside = self.file.with_extension("sqlite.broken");
                tracing::warn!(
                    "{} is damaged ({error}) and was set aside as {}: what was built is kept for another {:#}",
                    self.file.display(),
                    aside.display(),
                    self.length
                );
                // What cannot be set aside is told by the second try.
                let _ = fs::rename(&self.file, aside);
                self.try_open()
            }
            opened => opened,
        }
    }

    fn try_open(&self) -> rusqlite::Result<Connection> {
        if let Some(folder) = self.file.parent() {
            // What is wrong with it is told by who opens the file.
            let _ = fs::create_dir_all(folder);
        }
        let connection = Connection::open(&self.file)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "locking_mode", "exclusive")?;
        connection.execute_batch(&format!("begin exclusive; {SCHEMA} commit;"))?;
        Ok(connection)
    }

    fn broken(&self, source: rusqlite::Error) -> BuiltPinError {
        BuiltPinError::Record { path: self.file.clone(), source }
    }
}

/// Makes the record and the roots agree, and takes out of it what has ended.
fn look(
    record: &Transaction<'_>,
    (roots, length): (&BTreeSet<StorePath>, SignedDuration),
    now: Timestamp,
) -> rusqlite::Result<Vec<StorePath>> {
    tick(record, length, now)?;
    let known = known(record)?;
    for path in roots.iter().filter(|path| !known.contains(&path.to_string())) {
        set(record, path, after(now, length))?;
    }
    let is_gone =
        |name: &&String| name.parse::<StorePath>().map_or(true, |path| !roots.contains(&path));
    for name in known.iter().filter(is_gone) {
        record.prepare_cached("delete from leases where path = ?1")?.execute([name])?;
    }
    let ended = ended(record, now)?;
    record.execute("delete from leases where until <= ?1", [now.as_millisecond()])?;
    Ok(ended)
}

/// Notes that somebody looks. Time in which nobody did counts for a week at most, and leases are not longer than they can be.
fn tick(record: &Transaction<'_>, length: SignedDuration, now: Timestamp) -> rusqlite::Result<()> {
    let looked = record.query_row("select at from looked", [], |row| row.get::<_, i64>(0));
    let last = looked.optional()?.and_then(|last| Timestamp::from_millisecond(last).ok());
    let passed = last.map_or(SignedDuration::ZERO, |last| now.duration_since(last));
    if passed > MOST {
        let uncounted = millis(passed - MOST);
        record.execute("update leases set until = until + ?1", [uncounted])?;
    } else if passed < -LEAST {
        let until = after(now, length).as_millisecond();
        record.execute("update leases set until = min(until, ?1)", [until])?;
    }
    record.execute("insert or replace into looked values (1, ?1)", [now.as_millisecond()])?;
    Ok(())
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Sets the end of a lease, unless it is later already.
fn set(record: &Transaction<'_>, path: &StorePath, until: Timestamp) -> rusqlite::Result<()> {
    record
        .prepare_cached(
            "insert into leases values (?1, ?2)
             on conflict (path) do update set until = max(until, excluded.until)",
        )?
        .execute((path.to_string(), until.as_millisecond()))?;
    Ok(())
}

fn known(record: &Transaction<'_>) -> rusqlite::Result<BTreeSet<String>> {
    let mut query = record.prepare("select path from leases")?;
    query.query_map([], |row| row.get(0))?.collect()
}

fn ended(record: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<Vec<StorePath>> {
    let mut query = record.prepare("select path from leases where until <= ?1 order by path")?;
    let names = query.query_map([now.as_millisecond()], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}
