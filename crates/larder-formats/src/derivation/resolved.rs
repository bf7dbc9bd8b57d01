//! The hash by which Nix up to 2.34 records what the outputs of a content-addressed derivation are.
//!
//! Promise: it is only made of *resolved* derivations, whose inputs are store paths alone: of any other it
//! depends on further files, which are not known here.

use super::{DerivationError, aterm::Reader};
use crate::hash::{Sha256, Sha256Hasher};

/// The hash modulo its inputs of a resolved derivation whose outputs are content-addressed. `None` for
/// every other: one that has derivations as inputs, or an output whose path or hash is known before it is
/// built.
///
/// It is SHA-256 of the file with the variables named like outputs empty, since a placeholder that says
/// which output it stands for is no part of what the derivation does (`hashDerivationModulo` with
/// `maskOutputs` in Nix's libstore).
pub fn resolved_hash(bytes: &[u8]) -> Result<Option<Sha256>, DerivationError> {
    let mut reader = Reader::new(bytes);
    let mut outputs = Vec::new();
    let mut known_before = false;
    reader.token(b"Derive(")?;
    reader.list(|reader| {
        let [name, path, _algorithm, hash] = reader.tuple()?;
        known_before |= !path.is_empty() || !hash.is_empty();
        outputs.push(name);
        Ok(())
    })?;
    reader.token(b",")?;
    let mut resolved = true;
    reader.list(|reader| {
        resolved = false;
        reader.token(b"(")?;
        reader.string()?;
        reader.token(b",")?;
        reader.strings()?;
        reader.token(b")")
    })?;
    reader.token(b",")?;
    reader.strings()?;
    for _system_and_builder in 0..2 {
        reader.token(b",")?;
        reader.string()?;
    }
    reader.token(b",")?;
    reader.strings()?;
    reader.token(b",")?;
    let names: Vec<&[u8]> = outputs.into_iter().map(|name| reader.slice(name)).collect();
    let (mut hasher, mut hashed) = (Sha256Hasher::new(), 0);
    reader.list(|reader| {
        let [name, value] = reader.tuple()?;
        if names.contains(&reader.slice(name)) {
            hasher.update(reader.slice(hashed..value.start));
            hashed = value.end;
        }
        Ok(())
    })?;
    reader.token(b")")?;
    reader.end()?;
    hasher.update(reader.slice(hashed..bytes.len()));
    Ok((resolved && !known_before).then(|| hasher.finish()))
}
