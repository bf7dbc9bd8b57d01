//! The reports of runs, and what runs have come to for a host: what is asked when word of a run is given.
//!
//! A report is a text here; [`crate::night::Report`] is what writes and reads it. Only so many are kept: all
//! else in the ledger stays.

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{Ledger, LedgerError};
use crate::{host::HostName, revision::Revision};

/// How many reports are kept.
const KEPT: u32 = 500;

/// How long they are, if there are fewer.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// A run as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub number: i64,
    /// When it began, in RFC 3339.
    pub began: String,
    /// Its report, as it was written. None for a run that was killed or is under way, and for old ones.
    pub report: Option<String>,
}

impl Ledger {
    /// Keeps the report of a run, once, and forgets those that are too old.
    pub fn keep_report(&self, run: i64, now: Timestamp, report: &str) -> Result<(), LedgerError> {
        let keep = || {
            let mut connection = self.connection();
            let transaction = connection.transaction()?;
            transaction.execute(
                "insert into reports (run, time, report) values (?1, ?2, ?3)",
                params![run, now.to_string(), report],
            )?;
            // Saturates at the beginning of time.
            let oldest = now.saturating_sub(KEPT_FOR).unwrap_or(Timestamp::MIN);
            transaction.execute(
                "delete from reports where run <> ?1 and (julianday(time) < julianday(?2) or run not in
                   (select run from reports order by run desc limit ?3))",
                params![run, oldest.to_string(), KEPT],
            )?;
            transaction.commit()
        };
        keep().map_err(|source| self.sqlite(source))
    }

    /// The newest runs, newest first, below this number where one is given.
    pub fn runs(&self, below: Option<i64>, most: u32) -> Result<Vec<Run>, LedgerError> {
        let ask = || {
            self.connection()
                .prepare_cached(
                    "select number, started, report from runs left join reports on run = number
                     where number < ?1 order by number desc limit ?2",
                )?
                .query_map(params![below.unwrap_or(i64::MAX), most], run)?
                .collect::<rusqlite::Result<Vec<Run>>>()
        };
        ask().map_err(|source| self.sqlite(source))
    }

    /// Goes through the reports, the newest first, until told to stop. One at a time: all of them may be large.
    pub fn each_report(
        &self,
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut ask = || {
            let connection = self.connection();
            let mut query =
                connection.prepare_cached("select report from reports order by run desc")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                if visit(row.get_ref(0)?.as_str()?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        ask().map_err(|source| self.sqlite(source))
    }

    /// A run; none where there was none of this number.
    pub fn run(&self, number: i64) -> Result<Option<Run>, LedgerError> {
        let ask = || {
            self.connection()
                .query_row(
                    "select number, started, report from runs left join reports on run = number
                     where number = ?1",
                    [number],
                    run,
                )
                .optional()
        };
        ask().map_err(|source| self.sqlite(source))
    }

    /// When a run last came to its end; where none did, when the first one began. None before any.
    pub fn last_end(&self) -> Result<Option<Timestamp>, LedgerError> {
        let times = self.texts(
            "select time from (select time, run from reports
               where json_valid(report) and report -> 'end' ->> 'result' = 'finished'
               order by run desc limit 1)
             union all select started from (select started from runs order by number limit 1)",
            params![],
        )?;
        Ok(times.first().and_then(|time| time.parse().ok()))
    }

    /// Since when the runs fail for a host, without a good one in between; none if the last was good.
    pub fn failing_since(&self, host: &HostName) -> Result<Option<Timestamp>, LedgerError> {
        let times = self.texts(
            "select time from outcomes where host = ?1 and id > coalesce(
               (select max(id) from outcomes where host = ?1
                and outcome ->> 'outcome' in ('built', 'unchanged')), 0)
             order by id limit 1",
            params![host.as_str()],
        )?;
        Ok(times.first().and_then(|time| time.parse().ok()))
    }

    /// The revision that a host had before this one.
    pub fn revision_before(
        &self,
        host: &HostName,
        number: u64,
    ) -> Result<Option<Revision>, LedgerError> {
        let rows = self.texts(
            "select revision from revisions where host = ?1 and number < ?2
             order by number desc limit 1",
            params![host.as_str(), i64::try_from(number).unwrap_or(i64::MAX)],
        )?;
        let read = |row: &String| serde_json::from_str(row).map_err(|error| self.entry(error));
        rows.first().map(read).transpose()
    }
}

fn run(row: &rusqlite::Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run { number: row.get(0)?, began: row.get(1)?, report: row.get(2)? })
}
