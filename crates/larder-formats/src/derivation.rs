//! Derivations (`.drv`): what is built, from what, and how.
//!
//! Promise: what is read is what Nix would read from the same bytes, and takes no more room than in proportion
//! to them. Text that Nix would not write (a form it does not know, something named twice, a path that is none) is
//! refused, not guessed at. Whether the inputs exist is not known here.
//!
//! The form is Nix's ATerm: `Derive([outputs],[derivations],[sources],"system","builder",[arguments],[variables])`.

mod aterm;
mod attributes;
mod resolved;

use std::collections::{BTreeMap, BTreeSet};

use self::aterm::Reader;
pub use self::attributes::Attributes;
pub use self::resolved::resolved_hash;
use crate::store_path::{StoreDir, StorePath};

/// Bytes are not a derivation as Nix writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a derivation from byte {0} on")]
pub struct DerivationError(pub usize);

/// A derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    /// What it makes, by name.
    pub outputs: BTreeMap<String, Output>,
    /// The outputs it needs of other derivations.
    pub input_derivations: BTreeMap<StorePath, BTreeSet<String>>,
    /// The paths it needs that are no derivation's: files taken as they are.
    pub input_sources: BTreeSet<StorePath>,
    /// The kind of machine that can build it.
    pub system: String,
    /// The program that builds it.
    pub builder: String,
    /// Its arguments. What is not UTF-8 in one is replaced.
    pub arguments: Vec<String>,
    /// Its environment; see [`Derivation::attributes`] for what it means. What is not UTF-8 in a value is
    /// replaced.
    pub variables: BTreeMap<String, String>,
}

/// An output of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where it will be. `None` when that depends on what it turns out to be.
    pub path: Option<StorePath>,
    /// How it is hashed, where its content says its path: `sha256`, `r:sha256`, …
    pub algorithm: String,
    /// The hash it must have: known for what is fetched, empty otherwise.
    pub hash: String,
}

impl Output {
    /// Whether its content is known before it is built, as that of what is downloaded.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        // Nix writes this word for outputs that are another every time.
        !self.hash.is_empty() && self.hash != "impure"
    }
}

impl Derivation {
    /// Reads a derivation's file, whose paths are called as in this store.
    ///
    /// # Errors
    /// [`DerivationError`], with the place from which on the bytes are none.
    pub fn parse(bytes: &[u8], store_dir: &StoreDir) -> Result<Self, DerivationError> {
        let mut reader = Reader::new(bytes);
        reader.token(b"Derive(")?;
        let outputs = map(&mut reader, |reader| {
            let [name, path, algorithm, hash] = reader.texts()?;
            let path = match path.as_str() {
                "" => None,
                path => Some(store_dir.parse(path).map_err(|_| reader.here())?),
            };
            Ok((name, Output { path, algorithm, hash }))
        })?;
        reader.token(b",")?;
        let input_derivations = map(&mut reader, |reader| {
            reader.token(b"(")?;
            let path = path(reader, store_dir)?;
            reader.token(b",")?;
            let names = map(reader, |reader| Ok((reader.text()?, ())))?;
            reader.token(b")")?;
            Ok((path, names.into_keys().collect()))
        })?;
        reader.token(b",")?;
        let sources = map(&mut reader, |reader| Ok((path(reader, store_dir)?, ())))?;
        reader.token(b",")?;
        let system = reader.text()?;
        reader.token(b",")?;
        let builder = reader.text()?;
        reader.token(b",")?;
        let mut arguments = Vec::new();
        reader.list(|reader| {
            arguments.push(reader.any_text()?);
            Ok(())
        })?;
        reader.token(b",")?;
        let variables = map(&mut reader, |reader| {
            reader.token(b"(")?;
            let name = reader.text()?;
            reader.token(b",")?;
            let value = reader.any_text()?;
            reader.token(b")")?;
            Ok((name, value))
        })?;
        reader.token(b")")?;
        reader.end()?;
        let input_sources = sources.into_keys().collect();
        Ok(Self {
            outputs,
            input_derivations,
            input_sources,
            system,
            builder,
            arguments,
            variables,
        })
    }

    /// Whether what it makes is known before it is built: it fetches something.
    #[must_use]
    pub fn is_fixed_output(&self) -> bool {
        self.outputs.values().any(Output::is_fixed)
    }

    /// What its author wrote into it.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes::of(&self.variables)
    }
}

/// A list in which nothing is named twice.
fn map<'a, K: Ord, V>(
    reader: &mut Reader<'a>,
    mut entry: impl FnMut(&mut Reader<'a>) -> Result<(K, V), DerivationError>,
) -> Result<BTreeMap<K, V>, DerivationError> {
    let mut entries = BTreeMap::new();
    reader.list(|reader| {
        let at = reader.here();
        let (key, value) = entry(reader)?;
        if entries.insert(key, value).is_some() { Err(at) } else { Ok(()) }
    })?;
    Ok(entries)
}

fn path(reader: &mut Reader<'_>, store_dir: &StoreDir) -> Result<StorePath, DerivationError> {
    let at = reader.here();
    store_dir.parse(&reader.text()?).map_err(|_| at)
}
