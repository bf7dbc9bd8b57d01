//! A revision: one system that was built for one host, and how a host comes to believe in it.
//!
//! What travels is a DSSE envelope, signed with the fleet's key, around the JSON of [`Revision`].
//! A client acts on nothing else that comes over HTTP.

use std::collections::BTreeMap;

use jiff::Timestamp;
use larder_formats::{
    envelope::{Envelope, EnvelopeError},
    hash::Sha256,
    lock_file::LockedInput,
    signature::{PublicKey, SecretKey},
    store_path::{StoreDir, StorePath},
};
use serde::{Deserialize, Serialize};

use crate::host::HostName;

/// The DSSE payload type of a revision.
pub const PAYLOAD_TYPE: &str = "application/vnd.larder.revision+json";

/// The version of [`Revision`]'s JSON that is written. Readers accept later versions as long as the
/// fields they know are there.
const FORMAT: u32 = 1;

/// What was built for a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The version of this format.
    pub format: u32,
    /// Grows with every revision of the fleet; the newer of two has the larger number.
    pub number: u64,
    /// The host it was built for.
    pub host: HostName,
    /// The system type, as Nix calls it: `x86_64-linux`.
    pub system: String,
    /// When it was published.
    pub time: Timestamp,
    /// From when on no client takes it any more.
    pub expires: Timestamp,
    /// The flake it was built from, as configured.
    pub flake: String,
    /// The flake's git commit, where it has one.
    pub commit: Option<String>,
    /// The revision of nixpkgs, where the lock has one.
    pub nixpkgs: Option<String>,
    /// Every direct input of the flake, as locked.
    pub inputs: BTreeMap<String, LockedInput>,
    /// The text of the lock file it was built with.
    pub lock: String,
    /// The store paths of the locked inputs' sources, kept and served with the system.
    #[serde(default)]
    pub sources: Vec<StorePath>,
    /// The folder of store paths, `/nix/store` usually.
    pub store_dir: String,
    /// The built system: `config.system.build.toplevel`.
    pub store_path: StorePath,
    /// SHA-256 of that path's NAR.
    pub nar_hash: Sha256,
    /// The sum of the NAR sizes of its closure, in bytes.
    pub closure_size: u64,
}

/// Why an answer of a server is not acted on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a well-formed envelope, or not signed by a listed key.
    #[error("the server's answer cannot be trusted: {0}")]
    Envelope(#[from] EnvelopeError),
    /// Signed, but not a revision.
    #[error(
        "the server's answer is signed but cannot be understood: {0}. Is this Larder older than the server's?"
    )]
    Payload(serde_json::Error),
    /// Signed, for somebody else.
    #[error("the server answered with a revision of the host `{found}`; this is `{wanted}`")]
    OtherHost {
        /// The host in the answer.
        found: HostName,
        /// This host.
        wanted: HostName,
    },
    /// Signed, for another kind of machine.
    #[error("revision {number} is for {found}; this machine is {wanted}")]
    OtherSystem {
        /// The revision's number.
        number: u64,
        /// Its system type.
        found: String,
        /// This machine's.
        wanted: String,
    },
    /// Signed, for a store elsewhere.
    #[error("revision {number} is for the store {found}; this machine's is {wanted}")]
    OtherStore {
        /// The revision's number.
        number: u64,
        /// Its store.
        found: String,
        /// This machine's.
        wanted: String,
    },
    /// Too old to act on.
    #[error(
        "revision {number} expired at {expired}: the server has published nothing since. See there what \
         `larder build` says, and whether this machine's clock is right"
    )]
    Expired {
        /// The revision's number.
        number: u64,
        /// When it expired.
        expired: Timestamp,
    },
    /// Older than what was accepted before.
    #[error(
        "the server offers revision {offered}, but this machine has already accepted revision {accepted}. \
         To go back on purpose, say `--allow-older`"
    )]
    Older {
        /// The number offered.
        offered: u64,
        /// The number accepted last.
        accepted: u64,
    },
}

/// What a client knows when it judges an answer.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// The fleet's public keys. With none, nothing is believed.
    pub keys: &'a [PublicKey],
    /// This host.
    pub host: &'a HostName,
    /// This machine's system type.
    pub system: &'a str,
    /// This machine's store folder.
    pub store_dir: &'a StoreDir,
    /// The time.
    pub now: Timestamp,
    /// The number of the revision accepted last.
    pub accepted: Option<u64>,
    /// Whether to take an older one than that.
    pub allow_older: bool,
}

impl Revision {
    /// The format number for new revisions.
    pub const fn current_format() -> u32 {
        FORMAT
    }

    /// Signs the revision, as it is published.
    pub fn seal(&self, key: &SecretKey) -> Result<Envelope, serde_json::Error> {
        Ok(Envelope::sign(PAYLOAD_TYPE, serde_json::to_vec(self)?, key))
    }

    /// Reads the revision out of an envelope, if everything about it is as it must be here.
    pub fn accept(envelope: &Envelope, here: &Circumstances<'_>) -> Result<Self, Refusal> {
        let payload = envelope.verify(PAYLOAD_TYPE, here.keys)?;
        let revision: Self = serde_json::from_slice(payload).map_err(Refusal::Payload)?;
        let number = revision.number;
        if revision.host != *here.host {
            return Err(Refusal::OtherHost { found: revision.host, wanted: here.host.clone() });
        }
        if revision.system != here.system {
            let (found, wanted) = (revision.system, here.system.to_owned());
            return Err(Refusal::OtherSystem { number, found, wanted });
        }
        if revision.store_dir != here.store_dir.as_str() {
            let (found, wanted) = (revision.store_dir, here.store_dir.to_string());
            return Err(Refusal::OtherStore { number, found, wanted });
        }
        if revision.expires <= here.now {
            return Err(Refusal::Expired { number, expired: revision.expires });
        }
        match here.accepted {
            Some(accepted) if number < accepted && !here.allow_older => {
                Err(Refusal::Older { offered: number, accepted })
            }
            _ => Ok(revision),
        }
    }
}
