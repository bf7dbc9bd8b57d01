//! The rows of the index's file. One that was never written like that is damage, and no row: what it meant is not
//! guessed at.

use jiff::Timestamp;
use larder_formats::{
    nar_file::NarFile,
    store_path::{StorePath, StorePathHash},
};
use rusqlite::{
    Row,
    types::{FromSqlError, FromSqlResult},
};

use super::{contents::Target, known};
use crate::{
    gc::snapshot::{ObjectEntry, ObjectKind, PathEntry},
    storage::Key,
};

/// The columns of a path's row.
pub(super) const PATH: &str =
    "id, size, modified, settled, hash, path, nar, deriver, refs, file_size, problem";

/// The columns of another object's row.
pub(super) const OBJECT: &str = "id, size, modified, settled, key, kind, target";

/// What a row says of the object that it is about, whichever that is.
pub(super) fn known(row: &Row<'_>) -> rusqlite::Result<known::Row> {
    let (id, size, modified) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(known::Row { id, size, modified, settled: row.get(3)?, seen: 0 })
}

pub(super) fn path(row: &Row<'_>) -> rusqlite::Result<PathEntry> {
    Ok(PathEntry {
        hash: StorePathHash::from_bytes(row.get(4)?),
        size: row.get(1)?,
        written: written(row)?,
        path: parsed(row, 5, |text| text.parse::<StorePath>().ok())?,
        nar: parsed(row, 6, NarFile::parse)?,
        deriver: row.get::<_, Option<[u8; 20]>>(7)?.map(StorePathHash::from_bytes),
    })
}

/// The hash parts of a path's references.
pub(super) fn references(row: &Row<'_>) -> rusqlite::Result<Vec<StorePathHash>> {
    let (references, rest) = row.get_ref(8)?.as_blob()?.as_chunks::<20>();
    if !rest.is_empty() {
        return Err(
            FromSqlError::InvalidBlobSize { expected_size: 20, blob_size: rest.len() }.into()
        );
    }
    Ok(references.iter().copied().map(StorePathHash::from_bytes).collect())
}

/// A path's narinfo, for a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPath {
    /// Its place in the index.
    pub place: i64,
    /// The path's hash part.
    pub hash: StorePathHash,
    /// The file of its NAR.
    pub nar: Option<NarFile>,
    /// Bytes in that file, as the narinfo says.
    pub file_size: Option<u64>,
    /// The hash parts of its references, its own among them where it has one.
    pub references: Vec<StorePathHash>,
    /// What is wrong with the narinfo.
    pub problem: Option<String>,
}

pub(super) fn known_path(row: &Row<'_>) -> rusqlite::Result<KnownPath> {
    Ok(KnownPath {
        place: row.get(0)?,
        hash: StorePathHash::from_bytes(row.get(4)?),
        nar: parsed(row, 6, NarFile::parse)?,
        file_size: row.get(9)?,
        references: references(row)?,
        problem: row.get(10)?,
    })
}

pub(super) fn object(row: &Row<'_>) -> rusqlite::Result<ObjectEntry> {
    let kind = match row.get_ref(5)?.as_str()? {
        "realisation" => ObjectKind::Realisation(parsed(row, 6, |text| text.parse().ok())?),
        "debuginfo" => ObjectKind::Debuginfo(parsed(row, 6, NarFile::parse)?),
        _ => return Err(FromSqlError::InvalidType.into()),
    };
    let key = Key::new(row.get_ref(4)?.as_str()?).map_err(FromSqlError::other)?;
    Ok(ObjectEntry { key, kind, size: row.get(1)?, written: written(row)? })
}

/// What another object says, as a row has it.
pub(super) fn text_of(target: Target) -> (&'static str, Option<String>) {
    match target {
        Target::Realisation(path) => ("realisation", path.map(|path| path.to_string())),
        Target::Debuginfo(nar) => ("debuginfo", nar.map(|nar| nar.to_string())),
    }
}

fn written(row: &Row<'_>) -> rusqlite::Result<Timestamp> {
    let written: FromSqlResult<_> =
        Timestamp::from_microsecond(row.get(2)?).map_err(FromSqlError::other);
    Ok(written?)
}

fn parsed<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(column)?.as_str_or_null()?;
    Ok(text.map(|text| parse(text).ok_or(FromSqlError::InvalidType)).transpose()?)
}
