//! The store between two rounds: what was made is kept, and garbage makes room.

use std::collections::BTreeSet;

use larder_cache::words::size;
use larder_formats::store_path::StorePath;
use larder_nix::command::CommandError;

use super::Drive;
use crate::night::{
    build::{BuildError, rounds::Stop, watch::free as free_bytes},
    progress::Notice,
};

/// Roots made by one call of Nix: a command line has an end.
const ROOTS_AT_ONCE: usize = 1000;

impl Drive<'_> {
    /// Roots what was made so far. Its derivations are, but a collection in between, by whomever, would take it.
    pub(super) async fn keep(&mut self, outputs: &BTreeSet<StorePath>) -> Result<(), BuildError> {
        let store_dir = &self.nix.layout().store_dir;
        let mut there = Vec::new();
        for path in outputs {
            if self.database.is_valid(path)? {
                there.push(store_dir.display(path));
            }
        }
        for some in there.chunks(ROOTS_AT_ONCE) {
            let root = self.work.roots.join(self.work.guard.name_for_roots());
            let command = self.nix.command("nix-store").arg("--realise").args(some);
            let command = command.arg("--add-root").arg(root).arg("--indirect");
            match command.output(self.work.cancel).await {
                Err(error @ CommandError::Cancelled { .. }) => return Err(error.into()),
                // It is built again, should it really be collected.
                Err(error) => self.work.observer.notice(Notice::Message(&error.to_string())),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Makes room: to twice the floor, so that the next stop is not near.
    pub(super) async fn collect(&mut self) -> Result<(), BuildError> {
        let folder = &self.nix.layout().real_dir;
        let floor = self.work.guard.bounds().min_free_disk;
        let free = || free_bytes(folder).unwrap_or(floor);
        let before = free();
        let wanted = floor.saturating_mul(2).saturating_sub(before).max(1);
        let command = self.nix.command("nix-store").args(["--gc", "--max-freed"]);
        let command = command.arg(wanted.to_string());
        // What it has deleted when the night is over stays deleted.
        let stopped = self.work.cancel.child_token();
        let deadline = self.work.guard.deadline();
        let collecting = command.output(&stopped);
        tokio::pin!(collecting);
        let ended = match deadline {
            None => collecting.await,
            Some(deadline) => match tokio::time::timeout_at(deadline, &mut collecting).await {
                Ok(ended) => ended,
                Err(_) => {
                    stopped.cancel();
                    collecting.await
                }
            },
        };
        match ended {
            Err(error @ CommandError::Cancelled { .. }) if self.work.cancel.is_cancelled() => {
                return Err(error.into());
            }
            Err(CommandError::Cancelled { .. }) => {
                self.note_stop(&Stop::Deadline);
                self.rounds.end();
                return Ok(());
            }
            Err(error) => self.work.observer.notice(Notice::Message(&error.to_string())),
            Ok(_) => {}
        }
        let after = free();
        let freed = size(after.saturating_sub(before));
        self.work.observer.notice(Notice::Message(&format!("garbage collected: {freed} freed")));
        if !self.rounds.collected(after >= floor) {
            let why = match after < floor {
                true => format!("{}, and collecting garbage did not help", room(after, floor)),
                false => "garbage was collected for the last time in this run, and what is built \
                          fills the room again and again"
                    .to_owned(),
            };
            let text = format!(
                "stopped: the disk is nearly full: {why}. What was built is kept. Make room, or lower \
                 `min-free-disk` under [build]"
            );
            self.leave_open(&text);
            self.work.observer.notice(Notice::Message(&text));
        }
        Ok(())
    }
}

fn room(free: u64, floor: u64) -> String {
    format!("{} free, and {} are to stay so", size(free), size(floor))
}
