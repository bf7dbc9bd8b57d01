//! What memory things took in the runs before.

use std::collections::BTreeMap;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Ledger, LedgerError};

/// How many of the newest runs count: a package that has become smaller is to be believed some day.
const RUNS: i64 = 5;

/// The most memory that something took in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// A package's name without its version, or `evaluation of HOST`.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// How that is known.
    pub how: Measured,
}

/// How a peak is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measured {
    /// Its processes were looked at once a second.
    Sampled,
    /// The same, and then it died of memory: it would have taken more.
    Died,
    /// The kernel's control group counted it.
    Counted,
}

/// What something took in the runs before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The most, in bytes.
    pub bytes: u64,
    /// It died of memory in one of them: it would have taken more.
    pub died: bool,
}

impl Ledger {
    /// Notes what was measured in a run.
    pub fn record_peaks(&self, run: i64, peaks: &[Peak]) -> Result<(), LedgerError> {
        let mut connection = self.connection();
        let mut write = || {
            let transaction = connection.transaction()?;
            for peak in peaks {
                let how = match peak.how {
                    Measured::Sampled => "sampled",
                    Measured::Died => "died",
                    Measured::Counted => "counted",
                };
                transaction.execute(
                    "insert into peaks (run, name, bytes, how) values (?1, ?2, ?3, ?4)",
                    params![run, peak.name, peak.bytes, how],
                )?;
            }
            transaction.commit()
        };
        let written = write();
        drop(connection);
        written.map_err(|source| self.sqlite(source))
    }

    /// The largest of each name's newest peaks.
    pub fn peaks(&self) -> Result<BTreeMap<String, Remembered>, LedgerError> {
        let ask = || {
            self.connection()
                .prepare_cached(
                    "select name, max(bytes), max(how = 'died') from (
                       select name, bytes, how,
                              row_number() over (partition by name order by id desc) as newest
                       from peaks)
                     where newest <= ?1 group by name",
                )?
                .query_map([RUNS], |row| {
                    let remembered = Remembered { bytes: row.get(1)?, died: row.get(2)? };
                    Ok((row.get(0)?, remembered))
                })?
                .collect::<rusqlite::Result<BTreeMap<String, Remembered>>>()
        };
        ask().map_err(|source| self.sqlite(source))
    }
}
