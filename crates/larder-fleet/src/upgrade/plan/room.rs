//! Whether there is room for it.

use std::path::PathBuf;

use serde::Serialize;

/// What is kept free beside what is known to be needed: builds, Nix's database, logs.
const MARGIN: u64 = 64 * 1024 * 1024;

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Partition {
    /// Nix's store.
    Store,
    /// Kernels and initial RAM disks.
    Boot,
}

/// Room on a partition, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// What it holds.
    pub partition: Partition,
    /// A folder on it.
    pub folder: PathBuf,
    /// What will be written.
    pub needed: u64,
    /// What is free.
    pub free: u64,
}

impl Room {
    /// Room for this many bytes of NARs, and a margin.
    pub fn in_store(folder: PathBuf, unpacked: u64, free: u64) -> Self {
        let needed = unpacked.saturating_add(MARGIN);
        Self { partition: Partition::Store, folder, needed, free }
    }

    /// Whether it does not suffice.
    pub fn is_short(&self) -> bool {
        self.needed > self.free
    }
}
