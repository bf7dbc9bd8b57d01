//! What lies where in a static cache: Nix's own layout, and beside it `.larder`, which only we read.
//!
//! Every name is made here from values that were parsed, so none can lead elsewhere.

use std::fmt;

use larder_formats::{
    nar_file::NarFile,
    realisation::{DerivationOutput, RealisationKey},
    store_path::{StorePath, StorePathHash},
};

use crate::storage::{Key, KeyError};

/// The suffix of narinfos.
pub const NARINFO: &str = ".narinfo";

/// `nix-cache-info`.
pub fn cache_info() -> Result<Key, KeyError> {
    Key::new("nix-cache-info")
}

/// `<hash>.narinfo`.
pub fn narinfo(hash: StorePathHash) -> Result<Key, KeyError> {
    Key::new(format!("{hash}{NARINFO}"))
}

/// The path whose narinfo lies there.
#[must_use]
pub fn narinfo_of(key: &Key) -> Option<StorePathHash> {
    key.as_str().strip_suffix(NARINFO)?.parse().ok()
}

/// `nar/<hash of the file>.nar[.<suffix>]`.
pub fn nar_file(file: &NarFile) -> Result<Key, KeyError> {
    Key::new(file.url())
}

/// The NAR file that lies there.
#[must_use]
pub fn nar_file_of(key: &Key) -> Option<NarFile> {
    NarFile::of_url(key.as_str())
}

/// `<hash>.ls`.
pub fn listing(hash: StorePathHash) -> Result<Key, KeyError> {
    Key::new(format!("{hash}.ls"))
}

/// `log/<derivation>`.
pub fn log(derivation: &StorePath) -> Result<Key, KeyError> {
    Key::new(format!("log/{derivation}"))
}

/// `realisations/sha256:<hash>!<output>.doi` or `build-trace-v2/<derivation>/<output>.doi`.
pub fn realisation(key: &RealisationKey) -> Result<Key, KeyError> {
    match key {
        RealisationKey::Modulo(DerivationOutput { derivation, output }) => {
            Key::new(format!("realisations/sha256:{}!{output}.doi", derivation.to_base16()))
        }
        RealisationKey::Resolved(derivation, output) => {
            Key::new(format!("build-trace-v2/{derivation}/{output}.doi"))
        }
    }
}

/// What linkers call a build by, as Nix has it: 40 base-16 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildId([u8; 40]);

impl BuildId {
    /// Reads it. Nothing for another text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: [u8; 40] = text.as_bytes().try_into().ok()?;
        let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        digits.iter().all(is_hex).then_some(Self(digits))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// `debuginfo/<build id>`.
pub fn debuginfo(build_id: BuildId) -> Result<Key, KeyError> {
    Key::new(format!("debuginfo/{build_id}"))
}

/// `.larder/staged/<NAR file>.json`: a NAR that was verified and waits for its narinfo.
pub fn staged(file: &NarFile) -> Result<Key, KeyError> {
    Key::new(format!(".larder/staged/{file}.json"))
}

/// `.larder/staged/<NAR file>.ls`: what is in it.
pub fn staged_listing(file: &NarFile) -> Result<Key, KeyError> {
    Key::new(format!(".larder/staged/{file}.ls"))
}
