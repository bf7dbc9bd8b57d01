//! What Nix would do to realise something: its own answer to `--dry-run`.
//!
//! The answer is a text for people. Read here: the lists (`… will be built:`, `… will be fetched
//! (X MiB download, Y MiB unpacked):`) that Nix has printed in this form since 2.0.

use std::collections::BTreeSet;

use larder_formats::store_path::{StoreDir, StorePath};
use larder_nix::{
    command::{CancellationToken, CommandError, Invocation, Output},
    nix::Nix,
};
use serde::{Deserialize, Serialize};

/// What would be built and what would be downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildPlan {
    /// Derivations to build here.
    pub build: BTreeSet<StorePath>,
    /// Store paths to download.
    pub fetch: BTreeSet<StorePath>,
    /// Paths that can neither be built nor downloaded.
    pub unknown: BTreeSet<StorePath>,
    /// Bytes to download, as far as the caches say; to about one percent.
    pub download_bytes: u64,
    /// Bytes those paths take in the store; to about one percent.
    pub unpacked_bytes: u64,
}

impl BuildPlan {
    /// What Nix would do to realise a derivation or a store path.
    pub(crate) async fn of(
        nix: &Nix,
        path: &StorePath,
        cancel: &CancellationToken,
    ) -> Result<Self, CommandError> {
        let store_dir = &nix.layout().store_dir;
        let command = nix.command("nix-store").args(["--realise", "--dry-run"]);
        let command = command.arg(store_dir.display(path));
        Ok(Self::ask(&command, store_dir, cancel).await?.1)
    }

    /// Runs a command with `--dry-run` in it, and reads what it wrote.
    pub(crate) async fn ask(
        command: &Invocation,
        store_dir: &StoreDir,
        cancel: &CancellationToken,
    ) -> Result<(Output, Self), CommandError> {
        let mut text = String::new();
        let output = command
            .run(cancel, |line| {
                text.push_str(line);
                text.push('\n');
            })
            .await?;
        let Output { finished, stdout } = output;
        let output = Output { finished: finished.check(command)?, stdout };
        Ok((output, Self::parse(&text, store_dir)))
    }

    /// Reads what a `--dry-run` wrote to standard error.
    pub fn parse(text: &str, store_dir: &StoreDir) -> Self {
        let mut plan = Self::default();
        let mut list = None;
        for line in text.lines() {
            let path = line.strip_prefix("  ").and_then(|path| store_dir.parse(path.trim()).ok());
            match (path, list) {
                (Some(path), Some(List::Build)) => plan.build.insert(path),
                (Some(path), Some(List::Fetch)) => plan.fetch.insert(path),
                (Some(path), Some(List::Unknown)) => plan.unknown.insert(path),
                _ => {
                    list = List::of(line);
                    if list == Some(List::Fetch) {
                        plan.download_bytes += size_before(line, " download");
                        plan.unpacked_bytes += size_before(line, " unpacked");
                    }
                    false
                }
            };
        }
        plan
    }

    /// Whether everything is there already.
    pub fn is_empty(&self) -> bool {
        self.build.is_empty() && self.fetch.is_empty() && self.unknown.is_empty()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Build,
    Fetch,
    Unknown,
}

impl List {
    fn of(line: &str) -> Option<Self> {
        if !line.trim_end().ends_with(':') {
            None
        } else if line.contains("will be built") {
            Some(Self::Build)
        } else if line.contains("will be fetched") {
            Some(Self::Fetch)
        } else if line.contains("know how to build") {
            Some(Self::Unknown)
        } else {
            None
        }
    }
}

/// The number of bytes in `12.34 MiB` before this word.
fn size_before(line: &str, word: &str) -> u64 {
    let size = || {
        let before = &line[..line.find(word)?];
        let mut words = before.rsplit(' ');
        let unit = match words.next()? {
            "B" => 1.0,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        };
        let number: f64 = words.next()?.trim_start_matches('(').parse().ok()?;
        Some(number * unit)
    };
    // Out-of-range floats saturate, and none of these is negative.
    size().unwrap_or(0.0) as u64
}
