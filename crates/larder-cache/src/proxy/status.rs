//! What a proxy tells of itself, for people and programs.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::{Health, Proxy, tier::Address};

/// A proxy and its upstreams, since it was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Those it asks, the most wanted first.
    pub upstreams: Vec<UpstreamStatus>,
    /// Paths it was asked for; not again those that were just asked for.
    pub asked: u64,
    /// Of these, those of which every upstream said that it has them not.
    pub absent: u64,
    /// Of these, those of which not every upstream told, and nobody else had them: Nix was told that they are
    /// absent, and may have built them.
    pub could_not_tell: u64,
    /// NARs that were begun to be fetched from upstreams.
    pub fetched: u64,
    /// Bytes of NARs that clients got, unpacked.
    pub bytes: u64,
    /// What was kept, where anything is.
    pub kept: Option<KeptStatus>,
}

/// What did not have to be asked or fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptStatus {
    /// Paths that were asked for and kept.
    pub hits: u64,
    /// Bytes of NARs that clients got of these, unpacked.
    pub bytes: u64,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Where it is, the best address first.
    pub addresses: Vec<AddressStatus>,
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressStatus {
    /// The address.
    pub url: String,
    /// Whether it answers.
    pub health: Health,
    /// Paths that it had.
    pub found: u64,
    /// Paths that it had not.
    pub absent: u64,
    /// Paths that it had without a signature by one of its keys.
    pub untrusted: u64,
    /// Questions that it did not answer.
    pub failed: u64,
    /// Bytes of NARs that came from it, as they were packed.
    pub bytes: u64,
    /// The mean time of its last answers, in milliseconds.
    pub latency_ms: Option<f64>,
    /// What it did wrong last.
    pub last_failure: Option<String>,
}

impl Proxy {
    /// What it did so far.
    #[must_use]
    pub fn status(&self) -> Status {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let upstream = |tier: &std::sync::Arc<super::Tier>| UpstreamStatus {
            name: tier.name.clone(),
            addresses: tier.addresses.iter().map(|address| address.status()).collect(),
        };
        Status {
            upstreams: self.tiers().iter().map(upstream).collect(),
            asked: read(&self.counts.asked),
            absent: read(&self.counts.absent),
            could_not_tell: read(&self.counts.could_not_tell),
            fetched: self.fetches.begun(),
            bytes: read(&self.counts.bytes),
            kept: self.fetches.means.kept.as_ref().map(|_| KeptStatus {
                hits: read(&self.counts.kept),
                bytes: read(&self.counts.bytes_kept),
            }),
        }
    }
}

impl Address {
    fn status(&self) -> AddressStatus {
        let figures = self.figures().clone();
        AddressStatus {
            url: self.url().to_owned(),
            health: self.breaker().health(),
            found: figures.found,
            absent: figures.absent,
            untrusted: figures.untrusted,
            failed: figures.failed,
            bytes: figures.bytes,
            latency_ms: figures.latency.map(|latency| latency.as_secs_f64() * 1000.0),
            last_failure: figures.last_failure,
        }
    }
}
