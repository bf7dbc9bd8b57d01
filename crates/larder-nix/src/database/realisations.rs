//! What the outputs of content-addressed derivations turned out to be.
//!
//! Nix makes these tables only where the experimental feature `ca-derivations` is on, and each
//! version of the experiment its own: `Realisations` up to 2.34, by the derivation's hash, and
//! `BuildTraceV3` from 2.35 on, by its path. A store may have either, both, or neither. Only an output
//! that is valid now is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
};

use larder_formats::{
    derivation,
    hash::Sha256,
    realisation::{DerivationOutput, OutputName, Realisation, RealisationKey},
    signature::Signature,
    store_path::StorePath,
};
use rusqlite::{Connection, OptionalExtension, Row};

use super::{Database, DatabaseError};
use crate::files;

/// Bytes that are read of a derivation; a longer one counts as damaged. Those of nixpkgs have some
/// thousands, with a large text as a variable some millions.
const LONGEST_DERIVATION: u64 = 32 * 1024 * 1024;

impl Database {
    /// What an output is, or `None` if this store has not built it, or keeps no such record.
    pub fn realisation(&self, key: &RealisationKey) -> Result<Option<Realisation>, DatabaseError> {
        match key {
            RealisationKey::Modulo(output) => self.by_hash(output, key),
            RealisationKey::Resolved(derivation, output) => {
                match self.by_trace(derivation, output, key)? {
                    None => self.by_contents(derivation, output, key),
                    found => Ok(found),
                }
            }
        }
    }

    fn by_hash(
        &self,
        output: &DerivationOutput,
        key: &RealisationKey,
    ) -> Result<Option<Realisation>, DatabaseError> {
        let derivation = format!("sha256:{}", output.derivation.to_base16());
        let found = self.with(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            if !has(&snapshot, "Realisations")? {
                return Ok(None);
            }
            let row = snapshot
                .prepare_cached(
                    "select v.path, r.signatures, r.id from Realisations r
                     join ValidPaths v on v.id = r.outputPath
                     where r.drvPath = ?1 and r.outputName = ?2 order by r.id desc limit 1",
                )?
                .query_row([derivation.as_str(), output.output.as_str()], |row| {
                    Ok((found(row)?, row.get::<_, i64>(2)?))
                })
                .optional()?;
            let Some((row, id)) = row else { return Ok(None) };
            let dependencies = snapshot
                .prepare_cached(
                    "select r.drvPath, r.outputName, v.path from RealisationsRefs f
                     join Realisations r on r.id = f.realisationReference
                     join ValidPaths v on v.id = r.outputPath where f.referrer = ?1",
                )?
                .query_map([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<Vec<(String, String, String)>, _>>()?;
            Ok(Some((row, dependencies)))
        })?;
        let Some((row, dependencies)) = found else { return Ok(None) };
        let mut realisation = self.realised(row, key)?;
        realisation.dependencies = self.dependencies(dependencies, key)?;
        Ok(Some(realisation))
    }

    fn by_trace(
        &self,
        derivation: &StorePath,
        output: &OutputName,
        key: &RealisationKey,
    ) -> Result<Option<Realisation>, DatabaseError> {
        // The derivation is kept as a base name and the output as a full path; should a version differ in
        // either, the other spelling is found, too.
        let full = self.store_dir.display(derivation);
        let found = self.with(|connection| {
            if !has(connection, "BuildTraceV3")? {
                return Ok(None);
            }
            connection
                .prepare_cached(
                    "select v.path, t.signatures from BuildTraceV3 t
                     join ValidPaths v on v.path in (t.outputPath, ?4 || '/' || t.outputPath)
                     where t.drvPath in (?1, ?2) and t.outputName = ?3 order by t.id desc limit 1",
                )?
                .query_row(
                    [&derivation.to_string(), &full, output.as_str(), self.store_dir.as_str()],
                    found,
                )
                .optional()
        })?;
        found.map(|row| self.realised(row, key)).transpose()
    }

    /// A store of 2.34 or older does not say which derivation a hash is of, but the derivation does, if it
    /// is here: it is resolved, as this key wants it. (Which derivation built a path is recorded, too, but
    /// under no index, and only Nix may make one.) The record's signatures are over another text, so they
    /// are left out.
    fn by_contents(
        &self,
        derivation: &StorePath,
        output: &OutputName,
        key: &RealisationKey,
    ) -> Result<Option<Realisation>, DatabaseError> {
        if !self.with(|connection| has(connection, "Realisations"))?
            || !self.is_valid(derivation)?
        {
            return Ok(None);
        }
        let Some(hash) = self.resolved_hash(derivation)? else { return Ok(None) };
        let recorded = DerivationOutput { derivation: hash, output: output.clone() };
        let found = self.by_hash(&recorded, key)?;
        Ok(found.map(|realisation| Realisation {
            dependencies: BTreeMap::new(),
            signatures: BTreeSet::new(),
            ..realisation
        }))
    }

    /// What Nix up to 2.34 calls this derivation in its records.
    fn resolved_hash(&self, derivation: &StorePath) -> Result<Option<Sha256>, DatabaseError> {
        let unreadable =
            |source| DatabaseError::Derivation { derivation: derivation.clone(), source };
        let real = self.real_dir.join(derivation.to_string());
        let found = files::find(&real, &self.store_dir, derivation, &[]).map_err(unreadable)?;
        let Some(files::Found::Regular { file, .. }) = found else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(LONGEST_DERIVATION).read_to_end(&mut bytes).map_err(unreadable)?;
        derivation::resolved_hash(&bytes).map_err(|source| DatabaseError::DamagedDerivation {
            derivation: derivation.clone(),
            source,
        })
    }

    fn realised(&self, row: Found, key: &RealisationKey) -> Result<Realisation, DatabaseError> {
        let about = key.to_string();
        let signatures: BTreeSet<Signature> = row
            .signatures
            .as_deref()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(|text| {
                text.parse().map_err(|_| self.damaged("signature", &about, text.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Realisation {
            key: key.clone(),
            path: self.parse_path(&row.path, "output path", &about)?,
            dependencies: BTreeMap::new(),
            signatures,
        })
    }

    fn dependencies(
        &self,
        rows: Vec<(String, String, String)>,
        key: &RealisationKey,
    ) -> Result<BTreeMap<DerivationOutput, StorePath>, DatabaseError> {
        let about = key.to_string();
        rows.into_iter()
            .map(|(derivation, output, path)| {
                let text = format!("{derivation}!{output}");
                let id = text
                    .parse()
                    .map_err(|_| self.damaged("dependent realisation", &about, text.clone()))?;
                Ok((id, self.parse_path(&path, "output path", &about)?))
            })
            .collect()
    }
}

struct Found {
    path: String,
    signatures: Option<String>,
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found { path: row.get(0)?, signatures: row.get(1)? })
}

fn has(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("select 1 from sqlite_master where type = 'table' and name = ?1")?
        .exists([table])
}
