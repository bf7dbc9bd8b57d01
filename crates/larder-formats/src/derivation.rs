//! Derivations (`.drv`), as far as a realisation's name needs them.
//!
//! Promise: the hash is the one by which Nix up to 2.34 records what a derivation's outputs turned out to
//! be. It is only made of *resolved* derivations, whose inputs are store paths alone: of any other it
//! depends on further files, which are not known here. What a derivation builds, and how, is not read.
//!
//! The form is Nix's ATerm: `Derive([outputs],[derivations],[sources],"system","builder",[arguments],[variables])`.

use std::ops::Range;

use crate::hash::{Sha256, Sha256Hasher};

/// Bytes are not a derivation as Nix writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a derivation from byte {0} on")]
pub struct DerivationError(pub usize);

/// The hash modulo its inputs of a resolved derivation whose outputs are content-addressed. `None` for
/// every other: one that has derivations as inputs, or an output whose path or hash is known before it is
/// built.
///
/// It is SHA-256 of the file with the variables named like outputs empty, since a placeholder that says
/// which output it stands for is no part of what the derivation does (`hashDerivationModulo` with
/// `maskOutputs` in Nix's libstore).
pub fn resolved_hash(bytes: &[u8]) -> Result<Option<Sha256>, DerivationError> {
    let mut reader = Reader { bytes, at: 0 };
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
    if reader.at != bytes.len() {
        return Err(DerivationError(reader.at));
    }
    hasher.update(reader.slice(hashed..bytes.len()));
    Ok((resolved && !known_before).then(|| hasher.finish()))
}

/// Passes over the text from its beginning to its end, and copies nothing.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn token(&mut self, token: &[u8]) -> Result<(), DerivationError> {
        if !self.starts_with(token) {
            return Err(DerivationError(self.at));
        }
        self.at += token.len();
        Ok(())
    }

    /// A string, as the place of what is between its quotes, escapes and all.
    fn string(&mut self) -> Result<Range<usize>, DerivationError> {
        self.token(b"\"")?;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(DerivationError(self.bytes.len())),
            }
        }
        self.at += 1;
        Ok(start..self.at - 1)
    }

    fn tuple<const LENGTH: usize>(&mut self) -> Result<[Range<usize>; LENGTH], DerivationError> {
        let mut strings = [const { 0..0 }; LENGTH];
        for (n, string) in strings.iter_mut().enumerate() {
            self.token(if n == 0 { b"(" } else { b"," })?;
            *string = self.string()?;
        }
        self.token(b")")?;
        Ok(strings)
    }

    fn strings(&mut self) -> Result<(), DerivationError> {
        self.list(|reader| reader.string().map(drop))
    }

    fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), DerivationError>,
    ) -> Result<(), DerivationError> {
        self.token(b"[")?;
        let mut first = true;
        while !self.starts_with(b"]") {
            if !first {
                self.token(b",")?;
            }
            first = false;
            item(self)?;
        }
        self.token(b"]")
    }

    fn starts_with(&self, token: &[u8]) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(token))
    }

    fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }
}
