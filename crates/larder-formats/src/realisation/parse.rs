//! Reading a realisation's JSON.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{DerivationOutput, DerivationOutputError, Realisation, RealisationKey};
use crate::signature::{Signature, SignatureError};
use crate::store_path::{StorePath, StorePathError};

/// Why a text is not the realisation that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RealisationError {
    /// It is not its JSON.
    #[error("not a realisation: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is about another output.
    #[error("the realisation is about {0:?}")]
    OtherOutput(String),
    /// The path is none.
    #[error(transparent)]
    StorePath(#[from] StorePathError),
    /// A dependency is none.
    #[error(transparent)]
    Dependency(#[from] DerivationOutputError),
    /// A signature is none.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

#[derive(Deserialize)]
struct Text {
    id: Option<String>,
    #[serde(rename = "outPath")]
    out_path: StorePath,
    #[serde(default, rename = "dependentRealisations")]
    dependencies: BTreeMap<String, StorePath>,
    #[serde(default)]
    signatures: Vec<SignatureText>,
}

/// `name:base64`, or the two apart.
#[derive(Deserialize)]
#[serde(untagged)]
enum SignatureText {
    One(String),
    Two {
        #[serde(rename = "keyName")]
        key_name: String,
        sig: String,
    },
}

impl SignatureText {
    fn read(self) -> Result<Signature, SignatureError> {
        match self {
            Self::One(text) => text.parse(),
            Self::Two { key_name, sig } => format!("{key_name}:{sig}").parse(),
        }
    }
}

impl Realisation {
    /// Reads the JSON that [`Realisation::to_json`] describes, found under that key. Fields that are not known
    /// are ignored.
    ///
    /// # Errors
    /// When it is malformed, or about another output.
    pub fn parse(key: &RealisationKey, json: &str) -> Result<Self, RealisationError> {
        let text: Text = serde_json::from_str(json)?;
        if let RealisationKey::Modulo(output) = key {
            let said = text.id.unwrap_or_default();
            if said.parse::<DerivationOutput>().ok().as_ref() != Some(output) {
                return Err(RealisationError::OtherOutput(said));
            }
        }
        let dependency = |(output, path): (String, StorePath)| Ok((output.parse()?, path));
        Ok(Self {
            key: key.clone(),
            path: text.out_path,
            dependencies: text
                .dependencies
                .into_iter()
                .map(dependency)
                .collect::<Result<_, DerivationOutputError>>()?,
            signatures: text
                .signatures
                .into_iter()
                .map(SignatureText::read)
                .collect::<Result<_, _>>()?,
        })
    }
}
