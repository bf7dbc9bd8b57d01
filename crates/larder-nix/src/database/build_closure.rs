//! What it takes to build something, as far as it is here.

use std::collections::{BTreeMap, BTreeSet};

use larder_formats::{signature::Signature, store_path::StorePath};

use super::{Database, DatabaseError};

impl Database {
    /// What these derivations are built with: the valid outputs of every derivation that they reach, their own too, and
    /// the sources they are made from; each with the signatures that Nix keeps for it. One question, however many
    /// they are. (Outputs that are known only after the build, of content-addressed derivations, are not among them.)
    // `cross join` and `union all`, since SQLite would otherwise read the whole of ValidPaths in its order.
    pub fn build_closure(
        &self,
        derivations: &[StorePath],
    ) -> Result<BTreeMap<StorePath, BTreeSet<Signature>>, DatabaseError> {
        if derivations.is_empty() {
            return Ok(BTreeMap::new());
        }
        let full: Vec<_> = derivations.iter().map(|path| self.store_dir.display(path)).collect();
        // Paths have no character that JSON would need another word for.
        let full = format!("[\"{}\"]", full.join("\",\""));
        let rows = self.with(|connection| {
            connection
                .prepare_cached(
                    "with recursive closure(id) as (
                       select id from ValidPaths where path in (select value from json_each(?1))
                       union select r.reference from Refs r join closure c on r.referrer = c.id)
                     select v.path, v.sigs from closure c join ValidPaths v on v.id = c.id
                     union all
                     select v.path, v.sigs from closure c cross join DerivationOutputs o on o.drv = c.id
                       cross join ValidPaths v on v.path = o.path",
                )?
                .query_map([full], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<Vec<(String, Option<String>)>, _>>()
        })?;
        let mut found = BTreeMap::new();
        for (name, signatures) in rows {
            let path = self.parse_path(&name, "path", &name)?;
            if !path.is_derivation() {
                let _ = found.insert(path, self.signatures(signatures.as_deref(), &name)?);
            }
        }
        Ok(found)
    }
}
