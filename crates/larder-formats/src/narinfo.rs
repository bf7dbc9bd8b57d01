//! Narinfo: what a binary cache says of one store path (`text/x-nix-narinfo`).
//!
//! Promise: fields are read in any order, as Nix reads them; what is written has Nix's order and
//! reads back the same. A narinfo that two readers could understand differently (a field twice) is
//! refused. Whether the NAR exists is not known here.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::content_address::{ContentAddress, ContentAddressError};
use crate::hash::{HashError, Sha256};
use crate::signature::{self, PublicKey, SecretKey, Signature};
use crate::store_path::{StoreDir, StorePath, StorePathError};

/// How the file behind a narinfo's URL is compressed, by Nix's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// The NAR as it is.
    None,
    /// `.xz`.
    Xz,
    /// `.bz2`; also what a narinfo without a `Compression` line means.
    Bzip2,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstd,
    /// Brotli, `.br`.
    Br,
    /// `.lz4`.
    Lz4,
    /// `.lz`.
    Lzip,
}

/// A compression Nix has no name for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression {0:?}; Nix has none, xz, bzip2, gzip, zstd, br, lz4 and lzip")]
pub struct CompressionError(String);

/// One store path as a cache offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// The path.
    pub store_path: StorePath,
    /// Where the NAR is: relative to the cache, or absolute; it may have a query. Not empty, and
    /// without white space or control characters.
    pub url: String,
    /// How the file behind the URL is compressed.
    pub compression: Compression,
    /// The hash of the file behind the URL, where the cache says it.
    pub file_hash: Option<Sha256>,
    /// The size in bytes of the file behind the URL, where the cache says it.
    pub file_size: Option<u64>,
    /// The hash of the NAR, uncompressed.
    pub nar_hash: Sha256,
    /// The size in bytes of the NAR, uncompressed. Never 0.
    pub nar_size: u64,
    /// The paths it refers to, itself included where it does.
    pub references: BTreeSet<StorePath>,
    /// The derivation that built it, where known.
    pub deriver: Option<StorePath>,
    /// The signatures over its [fingerprint](NarInfo::fingerprint). One that Nix could not have
    /// made is left out when reading: it proves nothing, and Nix does not refuse the path for it.
    pub signatures: BTreeSet<Signature>,
    /// What its path is made from, when that is its content.
    pub ca: Option<ContentAddress>,
}

/// Why a text is not a narinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NarInfoError {
    /// A line is not `Key: value`.
    #[error("narinfo line {line}: expected `Key: value`")]
    NotAField {
        /// The line's number, counted from 1.
        line: usize,
    },
    /// The last line does not end in a newline: the text was probably cut off.
    #[error("the narinfo does not end in a newline; it was probably cut off")]
    CutOff,
    /// A required field is missing or empty.
    #[error("the narinfo has no {0}")]
    Missing(&'static str),
    /// A field that may come once comes again.
    #[error("narinfo line {line}: {field} comes a second time")]
    Duplicate {
        /// The field.
        field: &'static str,
        /// The line's number, counted from 1.
        line: usize,
    },
    /// A field's value can't be read.
    #[error("narinfo line {line}: {source}")]
    Value {
        /// The line's number, counted from 1.
        line: usize,
        /// What is wrong with the value.
        source: NarInfoValueError,
    },
}

/// Why the value of a field of a narinfo can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NarInfoValueError {
    /// A store path.
    #[error(transparent)]
    StorePath(#[from] StorePathError),
    /// A hash.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A size.
    #[error("not a size in bytes: {0}")]
    Size(#[from] ParseIntError),
    /// The compression.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The content address.
    #[error(transparent)]
    ContentAddress(#[from] ContentAddressError),
    /// A URL with white space or control characters.
    #[error("the URL holds white space or control characters")]
    Url,
}

impl NarInfo {
    /// Reads a narinfo of a store in `store_dir`.
    ///
    /// # Errors
    /// [`NarInfoError`].
    pub fn parse(text: &str, store_dir: &StoreDir) -> Result<Self, NarInfoError> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(NarInfoError::CutOff);
        }
        let mut fields = Fields::default();
        for (index, line) in text.split_terminator('\n').enumerate() {
            let line_number = index + 1;
            let (key, value) =
                line.split_once(": ").ok_or(NarInfoError::NotAField { line: line_number })?;
            fields.take(line_number, key, value, store_dir)?;
        }
        fields.finish()
    }

    /// Writes the narinfo, in Nix's order.
    #[must_use]
    pub fn to_text(&self, store_dir: &StoreDir) -> String {
        let mut text = String::with_capacity(1024);
        let references: Vec<_> = self.references.iter().map(ToString::to_string).collect();
        let mut line = |key: &str, value: &dyn fmt::Display| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{key}: {value}");
        };
        line("StorePath", &store_dir.display(&self.store_path));
        line("URL", &self.url);
        line("Compression", &self.compression);
        if let Some(hash) = &self.file_hash {
            line("FileHash", hash);
        }
        if let Some(size) = &self.file_size {
            line("FileSize", size);
        }
        line("NarHash", &self.nar_hash);
        line("NarSize", &self.nar_size);
        line("References", &references.join(" "));
        if let Some(deriver) = &self.deriver {
            line("Deriver", deriver);
        }
        for signature in &self.signatures {
            line("Sig", signature);
        }
        if let Some(ca) = &self.ca {
            line("CA", ca);
        }
        text
    }

    /// The same for programs, as one JSON object on one line: the fields of [`NarInfo`] by their names
    /// here, `sigs` for the signatures, and absent where there is nothing. Harmonia's `?json` has
    /// the same keys. Nix reads only the text.
    #[must_use]
    pub fn to_json(&self, store_dir: &StoreDir) -> String {
        let references: Vec<_> = self.references.iter().map(ToString::to_string).collect();
        let signatures: Vec<_> = self.signatures.iter().map(ToString::to_string).collect();
        let mut json = serde_json::json!({
            "store_path": store_dir.display(&self.store_path),
            "url": self.url,
            "compression": self.compression.to_string(),
            "nar_hash": self.nar_hash.to_string(),
            "nar_size": self.nar_size,
            "references": references,
            "sigs": signatures,
        });
        let optional = [
            ("file_hash", self.file_hash.map(|hash| hash.to_string().into())),
            ("file_size", self.file_size.map(serde_json::Value::from)),
            ("deriver", self.deriver.as_ref().map(|path| path.to_string().into())),
            ("ca", self.ca.as_ref().map(|ca| ca.to_string().into())),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                json[key] = value;
            }
        }
        json.to_string()
    }

    /// What its signatures sign.
    #[must_use]
    pub fn fingerprint(&self, store_dir: &StoreDir) -> String {
        signature::fingerprint(
            store_dir,
            &self.store_path,
            &self.nar_hash,
            self.nar_size,
            &self.references,
        )
    }

    /// Adds a signature, keeping those it has.
    pub fn sign_with(&mut self, store_dir: &StoreDir, key: &SecretKey) {
        let signature = key.sign(self.fingerprint(store_dir).as_bytes());
        self.signatures.insert(signature);
    }

    /// Whether one of the keys signed it, or its path is made from the content it claims
    /// ([`NarInfo::is_content_addressed`]), which needs no signature.
    #[must_use]
    pub fn is_trusted_by(&self, store_dir: &StoreDir, keys: &[PublicKey]) -> bool {
        let fingerprint = self.fingerprint(store_dir);
        let signed = |signature: &Signature| {
            keys.iter().any(|key| key.verify(fingerprint.as_bytes(), signature))
        };
        self.is_content_addressed(store_dir) || self.signatures.iter().any(signed)
    }

    /// Whether the `CA` field, the references and the name really make this store path.
    #[must_use]
    pub fn is_content_addressed(&self, store_dir: &StoreDir) -> bool {
        let Some(ca) = &self.ca else { return false };
        let mut others = self.references.clone();
        let refers_to_itself = others.remove(&self.store_path);
        ca.store_path(store_dir, self.store_path.name(), &others, refers_to_itself)
            .is_some_and(|path| path == self.store_path)
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        Ok(match text {
            "none" => Self::None,
            "xz" => Self::Xz,
            "bzip2" => Self::Bzip2,
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            "br" => Self::Br,
            "lz4" => Self::Lz4,
            "lzip" => Self::Lzip,
            _ => return Err(CompressionError(text.chars().take(50).collect())),
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Lz4 => "lz4",
            Self::Lzip => "lzip",
        })
    }
}

/// The fields seen so far.
#[derive(Default)]
struct Fields {
    store_path: Option<StorePath>,
    url: Option<String>,
    compression: Option<Compression>,
    file_hash: Option<Sha256>,
    file_size: Option<u64>,
    nar_hash: Option<Sha256>,
    nar_size: Option<u64>,
    references: BTreeSet<StorePath>,
    deriver: Option<Option<StorePath>>,
    signatures: BTreeSet<Signature>,
    ca: Option<ContentAddress>,
}

impl Fields {
    fn take(
        &mut self,
        line: usize,
        key: &str,
        value: &str,
        store_dir: &StoreDir,
    ) -> Result<(), NarInfoError> {
        let at = At(line);
        match key {
            "StorePath" => at.once(&mut self.store_path, "StorePath", store_dir.parse(value)),
            "URL" if value.is_empty() => Ok(()),
            "URL" => at.once(&mut self.url, "URL", url(value)),
            // An empty value means what a missing line means.
            "Compression" if value.is_empty() => Ok(()),
            "Compression" => at.once(&mut self.compression, "Compression", value.parse()),
            "FileHash" => at.once(&mut self.file_hash, "FileHash", value.parse()),
            "FileSize" => at.once(&mut self.file_size, "FileSize", size(value)),
            "NarHash" => at.once(&mut self.nar_hash, "NarHash", value.parse()),
            "NarSize" => at.once(&mut self.nar_size, "NarSize", size(value)),
            "References" => self.take_references(at, value),
            "Deriver" if value == "unknown-deriver" => {
                at.once(&mut self.deriver, "Deriver", Ok::<_, StorePathError>(None))
            }
            "Deriver" => at.once(&mut self.deriver, "Deriver", value.parse().map(Some)),
            "Sig" => {
                self.signatures.extend(value.parse::<Signature>());
                Ok(())
            }
            "CA" if value.is_empty() => Ok(()),
            "CA" => at.once(&mut self.ca, "CA", value.parse()),
            _ => Ok(()),
        }
    }

    fn take_references(&mut self, at: At, value: &str) -> Result<(), NarInfoError> {
        if !self.references.is_empty() && !value.is_empty() {
            return Err(at.duplicate("References"));
        }
        for path in value.split(' ').filter(|path| !path.is_empty()) {
            self.references.insert(path.parse().map_err(|error| at.value(error))?);
        }
        Ok(())
    }

    fn finish(self) -> Result<NarInfo, NarInfoError> {
        Ok(NarInfo {
            store_path: self.store_path.ok_or(NarInfoError::Missing("StorePath"))?,
            url: self.url.ok_or(NarInfoError::Missing("URL"))?,
            compression: self.compression.unwrap_or(Compression::Bzip2),
            file_hash: self.file_hash,
            file_size: self.file_size,
            nar_hash: self.nar_hash.ok_or(NarInfoError::Missing("NarHash"))?,
            nar_size: self
                .nar_size
                .filter(|size| *size != 0)
                .ok_or(NarInfoError::Missing("NarSize"))?,
            references: self.references,
            deriver: self.deriver.flatten(),
            signatures: self.signatures,
            ca: self.ca,
        })
    }
}

/// A line's number, to say where something is wrong.
#[derive(Clone, Copy)]
struct At(usize);

impl At {
    fn once<T, E: Into<NarInfoValueError>>(
        self,
        slot: &mut Option<T>,
        field: &'static str,
        value: Result<T, E>,
    ) -> Result<(), NarInfoError> {
        let value = value.map_err(|error| self.value(error))?;
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.duplicate(field)),
        }
    }

    fn value(self, error: impl Into<NarInfoValueError>) -> NarInfoError {
        NarInfoError::Value { line: self.0, source: error.into() }
    }

    const fn duplicate(self, field: &'static str) -> NarInfoError {
        NarInfoError::Duplicate { field, line: self.0 }
    }
}

fn url(value: &str) -> Result<String, NarInfoValueError> {
    if value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(NarInfoValueError::Url);
    }
    Ok(value.to_owned())
}

/// Digits only: Rust would also take a plus sign.
fn size(value: &str) -> Result<u64, ParseIntError> {
    if value.starts_with('+') { "+".parse() } else { value.parse() }
}
