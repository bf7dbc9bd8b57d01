//! Realisations: which path a content-addressed derivation's output turned out to be (`.doi`).
//!
//! Promise: the JSON and the signed texts are those of Nix, to the byte. A realisation is named in
//! two ways, and each has its own JSON and its own signed text: by the derivation's hash modulo its
//! inputs (Nix up to 2.34: `realisations/sha256:<hash>!<output>.doi`), or by the resolved
//! derivation's path (from 2.35 on: `build-trace-v2/<derivation>/<output>.doi`). One cannot be
//! computed from the other without the derivation, which is not known here.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::hash::{HashError, Sha256};
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::store_path::{StorePath, StorePathError, check_name};

pub use self::parse::RealisationError;

/// The name of a derivation's output: `out`, `dev` and the like. It has a store path name's characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputName(Box<str>);

/// An output of a derivation that is named by its hash modulo its inputs: `sha256:<base 16>!<output>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DerivationOutput {
    /// The derivation's hash.
    pub derivation: Sha256,
    /// The output.
    pub output: OutputName,
}

/// By what a realisation is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RealisationKey {
    /// As Nix up to 2.34 asks.
    Modulo(DerivationOutput),
    /// As Nix from 2.35 on asks: by the resolved derivation and its output.
    Resolved(StorePath, OutputName),
}

/// Which path an output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    /// The output.
    pub key: RealisationKey,
    /// The path.
    pub path: StorePath,
    /// The outputs it was made from, as Nix up to 2.31 or so records them beside [`RealisationKey::Modulo`].
    pub dependencies: BTreeMap<DerivationOutput, StorePath>,
    /// The signatures over its [fingerprints](Realisation::fingerprints).
    pub signatures: BTreeSet<Signature>,
}

/// Why a text names no output of a derivation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DerivationOutputError {
    /// There is no `!`.
    #[error("expected sha256:<hash>!<output>")]
    NoOutput,
    /// What comes before it.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// What comes after it.
    #[error(transparent)]
    Output(#[from] StorePathError),
}

impl Realisation {
    /// The JSON that Nix reads, on one line. By the hash: `{"dependentRealisations":{…},"id":…,
    /// "outPath":…,"signatures":["name:base64"]}`. By the path, the value alone, since the URL is the key:
    /// `{"outPath":…,"signatures":[{"keyName":…,"sig":…}]}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let path = self.path.to_string();
        match &self.key {
            RealisationKey::Modulo(output) => {
                let mut all = self.by_hash(output, true);
                let signatures: Vec<String> =
                    self.signatures.iter().map(ToString::to_string).collect();
                all["signatures"] = json!(signatures);
                all.to_string()
            }
            RealisationKey::Resolved(..) => {
                let signature = |signature: &Signature| {
                    let text = signature.to_string();
                    let bytes = text.split_once(':').map_or("", |(_, bytes)| bytes);
                    json!({ "keyName": signature.key_name(), "sig": bytes })
                };
                let signatures: Vec<Value> = self.signatures.iter().map(signature).collect();
                json!({ "outPath": path, "signatures": signatures }).to_string()
            }
        }
    }

    /// The texts of which a client may want one signed: the JSON with sorted keys and without the
    /// signatures. There are two where there are dependencies, as newer versions leave those out.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        match &self.key {
            RealisationKey::Modulo(output) => {
                let mut texts = vec![self.by_hash(output, true).to_string()];
                if !self.dependencies.is_empty() {
                    texts.push(self.by_hash(output, false).to_string());
                }
                texts
            }
            RealisationKey::Resolved(derivation, output) => {
                let key =
                    json!({ "drvPath": derivation.to_string(), "outputName": output.as_str() });
                let value = json!({ "outPath": self.path.to_string() });
                vec![json!({ "key": key, "value": value }).to_string()]
            }
        }
    }

    /// Whether one of these keys signed it.
    #[must_use]
    pub fn is_trusted_by(&self, keys: &[PublicKey]) -> bool {
        let texts = self.fingerprints();
        let signed = |signature: &Signature, key: &PublicKey| {
            texts.iter().any(|text| key.verify(text.as_bytes(), signature))
        };
        self.signatures.iter().any(|it| keys.iter().any(|key| signed(it, key)))
    }

    /// Adds a key's signatures, keeping those it has.
    pub fn sign_with(&mut self, key: &SecretKey) {
        let texts = self.fingerprints();
        self.signatures.extend(texts.iter().map(|text| key.sign(text.as_bytes())));
    }

    fn by_hash(&self, output: &DerivationOutput, with_dependencies: bool) -> Value {
        let dependencies: Map<String, Value> = self
            .dependencies
            .iter()
            .filter(|_| with_dependencies)
            .map(|(output, path)| (output.to_string(), path.to_string().into()))
            .collect();
        json!({
            "dependentRealisations": dependencies,
            "id": output.to_string(),
            "outPath": self.path.to_string(),
        })
    }
}

impl OutputName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OutputName {
    type Err = StorePathError;

    fn from_str(name: &str) -> Result<Self, StorePathError> {
        check_name(name)?;
        Ok(Self(name.into()))
    }
}

impl fmt::Display for OutputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DerivationOutput {
    type Err = DerivationOutputError;

    /// Reads `sha256:<hash>!<output>`, the hash in any base.
    fn from_str(text: &str) -> Result<Self, DerivationOutputError> {
        let (hash, output) = text.split_once('!').ok_or(DerivationOutputError::NoOutput)?;
        Ok(Self { derivation: hash.parse()?, output: output.parse()? })
    }
}

impl fmt::Display for DerivationOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}!{}", self.derivation.to_base16(), self.output)
    }
}

impl fmt::Display for RealisationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modulo(output) => output.fmt(f),
            Self::Resolved(derivation, output) => write!(f, "{derivation}^{output}"),
        }
    }
}
