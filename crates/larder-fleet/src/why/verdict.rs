//! What is judged: whether a path is downloaded here, and if not, why not.
//!
//! Promise: pure. No verdict says more than the answers do: "absent" is said of a cache that said so.

use jiff::Timestamp;
use larder_formats::{
    derivation::Derivation,
    narinfo::NarInfo,
    signature::PublicKey,
    store_path::{StoreDir, StorePath},
};
use serde::Serialize;

/// A cache, and what it said of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Its URL, without a password in it.
    pub cache: String,
    /// What it is to Nix here.
    pub role: Role,
    /// What it said.
    pub answer: Answer,
    /// What Nix remembers that it said, and goes by.
    pub remembered: Option<Remembered>,
}

/// What Nix remembers that a cache said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Remembered {
    /// That it does not have it. It is not asked before then.
    Absent {
        /// Until then.
        until: Timestamp,
    },
    /// That it has it.
    Present {
        /// When it said so.
        at: Timestamp,
    },
}

/// What a cache is to Nix here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Role {
    /// It is among `substituters`.
    Substituter,
    /// This user's settings name it, and the daemon does not ask it for this user.
    Ignored,
    /// Larder's configuration names it, and Nix's does not.
    NotConfigured,
    /// A proxy that is a substituter asks it.
    #[serde(rename_all = "camelCase")]
    Upstream {
        /// The proxy.
        proxy: String,
        /// What the proxy calls it.
        name: String,
        /// Why the proxy does not ask it at the moment, if it does not.
        down: Option<String>,
    },
}

/// What a cache said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Answer {
    /// It has the path.
    Has(Offer),
    /// It says that it has the path, and has no file for it.
    Broken {
        /// What is wrong.
        said: String,
    },
    /// It does not have the path.
    Absent,
    /// It refuses to tell.
    Denied {
        /// What it said.
        said: String,
    },
    /// It could not be asked.
    Unreachable {
        /// What happened instead.
        said: String,
    },
    /// What answers there is no cache for this store.
    NoCache {
        /// What is wrong with the answer.
        said: String,
    },
    /// That is no URL.
    NoScheme,
}

/// A path, as a cache has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Bytes to download, where the cache says so.
    pub bytes: Option<u64>,
    /// Bytes it takes in the store.
    pub unpacked_bytes: u64,
    /// Whether Nix believes it.
    pub trust: Trust,
    /// The derivation that made it, where the cache says so.
    pub deriver: Option<StorePath>,
}

/// Whether Nix believes what a cache has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Trust {
    /// It does: signed by a key that is trusted, or by its content, or no signature is asked for.
    Good,
    /// It is signed by nobody.
    Unsigned,
    /// It is signed by keys of other names than those that are trusted.
    Strangers {
        /// Their names.
        signers: Vec<String>,
    },
    /// It is signed in the name of a key that is trusted, and not by that key.
    Forged {
        /// The key's name.
        signer: String,
    },
}

impl Trust {
    /// Whether any of these keys makes a path count.
    pub fn of(info: &NarInfo, store_dir: &StoreDir, keys: &[PublicKey]) -> Self {
        if info.is_trusted_by(store_dir, keys) {
            return Self::Good;
        }
        let signers = info.signatures.iter().map(|it| it.key_name().to_owned()).collect();
        Self::by_names(signers, keys)
    }

    /// What it is when none of the signatures in these names counts.
    pub fn by_names(signers: Vec<String>, keys: &[PublicKey]) -> Self {
        if signers.is_empty() {
            return Self::Unsigned;
        }
        let known = signers.iter().find(|name| keys.iter().any(|key| key.name() == *name));
        match known {
            Some(signer) => Self::Forged { signer: signer.clone() },
            None => Self::Strangers { signers },
        }
    }
}

/// How Nix is set here.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Whether Nix downloads at all.
    pub substitute: bool,
    /// Whether a derivation's wish not to be downloaded is ignored.
    pub always_allow_substitutes: bool,
    /// The names of the keys that are trusted.
    pub trusted_keys: Vec<String>,
    /// The kinds of machines that can be built for here.
    pub systems: Vec<String>,
}

/// Why something is built here or not, or why it is downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Verdict {
    /// It is here.
    Here,
    /// A cache has it.
    #[serde(rename_all = "camelCase")]
    Downloaded {
        /// The cache.
        cache: String,
        /// Bytes to download, where the cache says so.
        bytes: Option<u64>,
        /// Bytes it takes in the store.
        unpacked_bytes: u64,
    },
    /// Nix is told to download nothing.
    SubstituteOff,
    /// Its derivation forbids to download it.
    BuiltWhereUsed,
    /// What it makes is not known before it is built.
    OutputsUnknown,
    /// No cache is asked.
    NoSubstituters,
    /// A substituter is no URL.
    #[serde(rename_all = "camelCase")]
    NoScheme {
        /// What is written there.
        substituter: String,
        /// Whether this Nix therefore does nothing at all.
        refuses: bool,
    },
    /// Nix remembers that a cache did not have it, and the cache has it by now.
    Remembered {
        /// The cache.
        cache: String,
        /// Until when.
        until: Timestamp,
    },
    /// A cache has it, signed by keys that are not trusted here.
    #[serde(rename_all = "camelCase")]
    Untrusted {
        /// The cache.
        cache: String,
        /// The names of the keys it is signed with.
        signers: Vec<String>,
        /// The names of the keys that are trusted.
        trusted: Vec<String>,
    },
    /// A cache has it, signed in the name of a trusted key, by another one.
    WrongKey {
        /// The cache.
        cache: String,
        /// The key's name.
        signer: String,
    },
    /// A cache has it, not signed.
    Unsigned {
        /// The cache.
        cache: String,
        /// The names of the keys that are trusted.
        trusted: Vec<String>,
    },
    /// A cache says that it has it, and does not deliver it.
    Broken {
        /// The cache.
        cache: String,
        /// What is wrong.
        said: String,
    },
    /// A cache of this user's settings has it, and the daemon does not ask it for this user.
    Ignored {
        /// The cache.
        cache: String,
    },
    /// A cache of Larder's configuration has it, and Nix does not ask it.
    NotConfigured {
        /// The cache.
        cache: String,
    },
    /// The proxy does not say that it has it, and one of those that it asks does not answer it.
    UpstreamDown {
        /// The proxy.
        proxy: String,
        /// What the proxy calls it.
        upstream: String,
        /// Why it is not asked.
        said: String,
    },
    /// One of those that a proxy asks has it, signed by none of the keys that the proxy trusts for it.
    UpstreamUntrusted {
        /// The proxy.
        proxy: String,
        /// What the proxy calls it.
        upstream: String,
        /// The names of the keys it is signed with.
        signers: Vec<String>,
    },
    /// A cache could not be asked.
    Unreachable {
        /// The cache.
        cache: String,
        /// What happened instead.
        said: String,
    },
    /// What answers in a cache's place is none.
    NoCache {
        /// Its URL.
        cache: String,
        /// What is wrong.
        said: String,
    },
    /// A cache does not let us ask.
    Denied {
        /// The cache.
        cache: String,
        /// What it said.
        said: String,
    },
    /// It is for another kind of machine than can be built for here.
    OtherSystem {
        /// Its kind.
        system: String,
    },
    /// A cache had it when Nix asked, and does not have it any more.
    Collected {
        /// The cache.
        cache: String,
        /// When it had it.
        had: Timestamp,
    },
    /// Caches say that they do not have it.
    Absent {
        /// These.
        caches: Vec<String>,
    },
}

impl Verdict {
    /// What programs call it, and docs/why.md.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Downloaded { .. } => "downloaded",
            Self::SubstituteOff => "substituteOff",
            Self::BuiltWhereUsed => "builtWhereUsed",
            Self::OutputsUnknown => "outputsUnknown",
            Self::NoSubstituters => "noSubstituters",
            Self::NoScheme { .. } => "noScheme",
            Self::Remembered { .. } => "remembered",
            Self::Untrusted { .. } => "untrusted",
            Self::WrongKey { .. } => "wrongKey",
            Self::Unsigned { .. } => "unsigned",
            Self::Broken { .. } => "broken",
            Self::Ignored { .. } => "ignored",
            Self::NotConfigured { .. } => "notConfigured",
            Self::UpstreamDown { .. } => "upstreamDown",
            Self::UpstreamUntrusted { .. } => "upstreamUntrusted",
            Self::Unreachable { .. } => "unreachable",
            Self::NoCache { .. } => "noCache",
            Self::Denied { .. } => "denied",
            Self::OtherSystem { .. } => "otherSystem",
            Self::Collected { .. } => "collected",
            Self::Absent { .. } => "absent",
        }
    }

    /// Whether it is to be had without building it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self, Self::Here | Self::Downloaded { .. })
    }
}

/// Judges one path that is not here. The first verdict is the nearest reason, or says that it is downloaded.
pub fn judge(
    derivation: Option<&Derivation>,
    asked: &[Asked],
    here: &Circumstances,
) -> Vec<Verdict> {
    let forbidden = |it: &Derivation| it.attributes().flag("allowSubstitutes") == Some(false);
    if derivation.is_some_and(forbidden) && !here.always_allow_substitutes {
        return vec![Verdict::BuiltWhereUsed];
    }
    let mut reasons = Vec::new();
    if !here.substitute {
        reasons.push(Verdict::SubstituteOff);
    }
    let substituters = || asked.iter().filter(|it| it.role == Role::Substituter);
    if substituters().next().is_none() {
        reasons.push(Verdict::NoSubstituters);
    }
    if reasons.is_empty()
        && let Some(downloaded) = substituters().find_map(downloaded)
    {
        return vec![downloaded];
    }
    reasons.extend(substituters().filter_map(|asked| unusable(asked, here)));
    reasons.extend(asked.iter().filter_map(elsewhere));
    reasons.extend(substituters().filter_map(could_not_tell));
    if let Some(it) = derivation.filter(|it| !can_be_built(it, here)) {
        reasons.push(Verdict::OtherSystem { system: it.system.clone() });
    }
    reasons.extend(substituters().filter_map(collected));
    let absent = substituters().filter(|it| it.answer == Answer::Absent && collected(it).is_none());
    let caches: Vec<String> = absent.map(|it| it.cache.clone()).collect();
    if !caches.is_empty() {
        reasons.push(Verdict::Absent { caches });
    }
    reasons
}

fn can_be_built(derivation: &Derivation, here: &Circumstances) -> bool {
    derivation.system == "builtin" || here.systems.contains(&derivation.system)
}

fn downloaded(asked: &Asked) -> Option<Verdict> {
    let cache = asked.cache.clone();
    match &asked.answer {
        Answer::Has(Offer { bytes, unpacked_bytes, trust: Trust::Good, .. })
            if !matches!(asked.remembered, Some(Remembered::Absent { .. })) =>
        {
            Some(Verdict::Downloaded { cache, bytes: *bytes, unpacked_bytes: *unpacked_bytes })
        }
        _ => None,
    }
}

/// A substituter has it, and it is not taken from there.
fn unusable(asked: &Asked, here: &Circumstances) -> Option<Verdict> {
    let cache = asked.cache.clone();
    match &asked.answer {
        Answer::Broken { said } => Some(Verdict::Broken { cache, said: said.clone() }),
        Answer::Has(Offer { trust, .. }) => match trust {
            Trust::Good => match asked.remembered? {
                Remembered::Absent { until } => Some(Verdict::Remembered { cache, until }),
                Remembered::Present { .. } => None,
            },
            Trust::Unsigned => {
                Some(Verdict::Unsigned { cache, trusted: here.trusted_keys.clone() })
            }
            Trust::Forged { signer } => Some(Verdict::WrongKey { cache, signer: signer.clone() }),
            Trust::Strangers { signers } => {
                let (signers, trusted) = (signers.clone(), here.trusted_keys.clone());
                Some(Verdict::Untrusted { cache, signers, trusted })
            }
        },
        _ => None,
    }
}

/// Somebody has it, or may have it, whom Nix does not ask.
fn elsewhere(asked: &Asked) -> Option<Verdict> {
    let cache = || asked.cache.clone();
    match (&asked.role, &asked.answer) {
        (Role::Ignored, Answer::Has(_)) => Some(Verdict::Ignored { cache: cache() }),
        (Role::NotConfigured, Answer::Has(_)) => Some(Verdict::NotConfigured { cache: cache() }),
        (Role::Upstream { proxy, name, down: Some(said) }, answer) if *answer != Answer::Absent => {
            let (proxy, upstream, said) = (proxy.clone(), name.clone(), said.clone());
            Some(Verdict::UpstreamDown { proxy, upstream, said })
        }
        (Role::Upstream { proxy, name, down: None }, Answer::Has(Offer { trust, .. })) => {
            let signers = match trust {
                Trust::Good => return None,
                Trust::Unsigned => Vec::new(),
                Trust::Strangers { signers } => signers.clone(),
                Trust::Forged { signer } => vec![signer.clone()],
            };
            let (proxy, upstream) = (proxy.clone(), name.clone());
            Some(Verdict::UpstreamUntrusted { proxy, upstream, signers })
        }
        _ => None,
    }
}

fn collected(asked: &Asked) -> Option<Verdict> {
    match (&asked.answer, asked.remembered) {
        (Answer::Absent, Some(Remembered::Present { at })) => {
            Some(Verdict::Collected { cache: asked.cache.clone(), had: at })
        }
        _ => None,
    }
}

fn could_not_tell(asked: &Asked) -> Option<Verdict> {
    let cache = asked.cache.clone();
    match &asked.answer {
        Answer::Unreachable { said } => Some(Verdict::Unreachable { cache, said: said.clone() }),
        Answer::NoCache { said } => Some(Verdict::NoCache { cache, said: said.clone() }),
        Answer::Denied { said } => Some(Verdict::Denied { cache, said: said.clone() }),
        // One that refuses it would not have come so far.
        Answer::NoScheme => Some(Verdict::NoScheme { substituter: cache, refuses: false }),
        _ => None,
    }
}
