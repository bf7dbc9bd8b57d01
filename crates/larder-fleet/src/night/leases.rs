//! What a client with local edits needs to build, and can fetch from nobody but us, stays.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use larder_cache::pin::built::{BuiltPinError, BuiltPins};
use larder_formats::{
    signature::{PublicKey, Signature},
    store_path::StorePath,
};
use larder_nix::database::Database;

use super::report::Job;

/// Keeps it, by leases that each run renews.
#[derive(Debug)]
pub struct BuildTimeLeases {
    /// The leases.
    pub pins: BuiltPins,
    /// The keys of the caches that clients ask as well.
    pub trusted_upstream_keys: Vec<PublicKey>,
}

impl BuildTimeLeases {
    /// Leases what the hosts that built were built with: compilers too, which no system refers to, and which a client's
    /// edit would have it build from nothing.
    pub(super) fn renew<'a>(
        &self,
        database: &Database,
        jobs: impl Iterator<Item = &'a Job>,
        now: Timestamp,
    ) -> Result<(), BuiltPinError> {
        let evaluated: Vec<_> = jobs.filter_map(|job| job.state.as_ref().ok()).collect();
        let derivations: Vec<_> = evaluated.iter().map(|host| host.derivation.clone()).collect();
        let mut needed = database.build_closure(&derivations)?;
        // How many of the systems themselves stay is said by `keep-revisions`.
        evaluated.iter().for_each(|host| drop(needed.remove(&host.output)));
        let paths = self.not_upstream(needed);
        self.pins.renew(&paths, now)
    }

    /// Nix has verified a signature before it kept it, so that whose it is says enough.
    fn not_upstream(
        &self,
        needed: BTreeMap<StorePath, BTreeSet<Signature>>,
    ) -> BTreeSet<StorePath> {
        let trusted = |signature: &Signature| {
            self.trusted_upstream_keys.iter().any(|key| key.name() == signature.key_name())
        };
        let ours =
            |(_, signatures): &(StorePath, BTreeSet<Signature>)| !signatures.iter().any(trusted);
        needed.into_iter().filter(ours).map(|(path, _)| path).collect()
    }
}
