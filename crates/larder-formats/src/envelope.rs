//! DSSE envelopes: a payload, its type, and signatures over both.
//!
//! The format is <https://github.com/secure-systems-lab/dsse> (v1), signed with the same Ed25519
//! keys as narinfos; a signature's `keyid` is the name of the key.
//!
//! Promise: the payload of a parsed envelope is only a claim until [`Envelope::verify`] hands it
//! back. What the payload says, whether it is for this host or has expired, is not known here.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

use crate::signature::{PublicKey, SecretKey, Signature};

/// A payload with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is, such as a media type. Part of what is signed.
    pub payload_type: String,
    /// The payload. Not to be believed before [`Envelope::verify`].
    pub payload: Vec<u8>,
    /// The signatures, of which one by a listed key suffices.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeSignature {
    /// The name of the key said to have made it. Not signed, so only a hint.
    pub keyid: String,
    /// The signature; 64 bytes where it is Ed25519.
    pub sig: Vec<u8>,
}

/// Why an envelope is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// It is not the JSON of an envelope.
    #[error("not a signed envelope: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A field is not base 64.
    #[error("not a signed envelope: {0} is not base 64")]
    Base64(&'static str),
    /// It is an envelope for something else.
    #[error("the envelope holds {found:?}, where {expected:?} is expected")]
    WrongType {
        /// The type asked for.
        expected: String,
        /// The type it has.
        found: String,
    },
    /// No signature is said to be by a listed key.
    #[error(
        "the envelope is not signed by a trusted key (it has signatures by: {found:?}); if that \
         is the fleet's key, list its public key"
    )]
    NoTrustedKey {
        /// The key names its signatures have.
        found: Vec<String>,
    },
    /// A signature carries the name of a listed key and does not verify.
    #[error(
        "the envelope's signature by {keyids:?} is wrong: it was altered, or another key has \
         that name"
    )]
    BadSignature {
        /// The names of the keys whose signatures are wrong.
        keyids: Vec<String>,
    },
}

/// What a DSSE signature signs: `DSSEv1`, and type and payload, each after its length in bytes.
#[must_use]
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Puts a payload into an envelope signed by one key.
    #[must_use]
    pub fn sign(payload_type: &str, payload: Vec<u8>, key: &SecretKey) -> Self {
        let mut envelope =
            Self { payload_type: payload_type.to_owned(), payload, signatures: Vec::new() };
        envelope.add_signature(key);
        envelope
    }

    /// Adds another key's signature, as when keys are being replaced.
    pub fn add_signature(&mut self, key: &SecretKey) {
        let signature = key.sign(&pre_authentication_encoding(&self.payload_type, &self.payload));
        self.signatures.push(EnvelopeSignature {
            keyid: key.name().to_owned(),
            sig: signature.as_bytes().to_vec(),
        });
    }

    /// Reads the JSON of an envelope. Nothing is verified.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`] and [`EnvelopeError::Base64`].
    pub fn parse(json: &str) -> Result<Self, EnvelopeError> {
        let wire: Wire = serde_json::from_str(json).map_err(EnvelopeError::Malformed)?;
        let signature = |wire: WireSignature| {
            Ok(EnvelopeSignature { sig: decode(&wire.sig, "a signature")?, keyid: wire.keyid })
        };
        Ok(Self {
            payload: decode(&wire.payload, "the payload")?,
            payload_type: wire.payload_type,
            signatures: wire.signatures.into_iter().map(signature).collect::<Result<_, _>>()?,
        })
    }

    /// Writes the envelope as JSON on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        let signature = |signature: &EnvelopeSignature| {
            serde_json::json!({
                "keyid": signature.keyid,
                "sig": STANDARD.encode(&signature.sig),
            })
        };
        serde_json::json!({
            "payload": STANDARD.encode(&self.payload),
            "payloadType": self.payload_type,
            "signatures": self.signatures.iter().map(signature).collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// The payload, if it is of the type asked for and one of the keys signed it.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongType`], [`EnvelopeError::NoTrustedKey`] (which names the keys found),
    /// [`EnvelopeError::BadSignature`].
    pub fn verify(&self, payload_type: &str, keys: &[PublicKey]) -> Result<&[u8], EnvelopeError> {
        if self.payload_type != payload_type {
            return Err(EnvelopeError::WrongType {
                expected: payload_type.to_owned(),
                found: self.payload_type.clone(),
            });
        }
        let message = pre_authentication_encoding(&self.payload_type, &self.payload);
        let mut wrong = Vec::new();
        for signature in &self.signatures {
            let mut named = keys.iter().filter(|key| key.name() == signature.keyid).peekable();
            if named.peek().is_none() {
                continue;
            }
            if named.any(|key| signature.is_by(key, &message)) {
                return Ok(&self.payload);
            }
            wrong.push(signature.keyid.clone());
        }
        if wrong.is_empty() {
            let found = self.signatures.iter().map(|s| s.keyid.clone()).collect();
            return Err(EnvelopeError::NoTrustedKey { found });
        }
        Err(EnvelopeError::BadSignature { keyids: wrong })
    }
}

impl EnvelopeSignature {
    fn is_by(&self, key: &PublicKey, message: &[u8]) -> bool {
        let bytes = self.sig.as_slice().try_into().ok();
        let signature = bytes.and_then(|bytes| Signature::new(&self.keyid, bytes).ok());
        signature.is_some_and(|signature| key.verify(message, &signature))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload: String,
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    /// Optional in DSSE.
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// DSSE allows both alphabets of base 64.
fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, EnvelopeError> {
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .map_err(|_| EnvelopeError::Base64(what))
}
