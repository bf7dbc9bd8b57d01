//! The locks that were published, and the commits by which they were sent home.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{Held, Ledger, LedgerError};

/// A lock that hosts were published with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedLock {
    /// The run that published it.
    pub run: i64,
    /// The lock's text.
    pub lock: String,
    /// The text of the repository's lock that it was made from.
    pub base: String,
    /// The inputs that were kept from moving.
    pub held: Vec<Held>,
}

impl Ledger {
    /// Notes the lock that a run publishes with.
    pub fn publish_lock(&self, published: &PublishedLock) -> Result<(), LedgerError> {
        let PublishedLock { run, lock, base, held } = published;
        let held = serde_json::to_string(held).map_err(|source| self.entry(source))?;
        self.connection()
            .execute(
                "insert into locks (run, lock, base, held) values (?1, ?2, ?3, ?4)",
                params![run, lock, base, held],
            )
            .map_err(|source| self.sqlite(source))?;
        Ok(())
    }

    /// The lock that was published last.
    pub fn published_lock(&self) -> Result<Option<PublishedLock>, LedgerError> {
        let row: Option<(i64, String, String, String)> = self
            .connection()
            .query_row(
                "select run, lock, base, held from locks order by run desc limit 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .optional()
            .map_err(|source| self.sqlite(source))?;
        let Some((run, lock, base, held)) = row else { return Ok(None) };
        let held = serde_json::from_str(&held).map_err(|source| self.entry(source))?;
        Ok(Some(PublishedLock { run, lock, base, held }))
    }

    /// Notes a commit by which a run is about to send its lock home.
    pub fn lock_sent(
        &self,
        run: i64,
        (branch, commit): (&str, &str),
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.connection()
            .execute(
                "insert or ignore into sent_locks (commit_id, run, branch, time) values (?1, ?2, ?3, ?4)",
                params![commit, run, branch, now.to_string()],
            )
            .map_err(|source| self.sqlite(source))?;
        Ok(())
    }

    /// Whether this commit is one by which a lock was sent home.
    pub fn is_commit_of_ours(&self, commit: &str) -> Result<bool, LedgerError> {
        let found = self.texts("select commit_id from sent_locks where commit_id = ?1", [commit]);
        Ok(!found?.is_empty())
    }
}
