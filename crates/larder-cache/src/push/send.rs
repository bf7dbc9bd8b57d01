//! Carries a plan out.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use larder_formats::{
    narinfo::NarInfo,
    store_path::{StorePath, StorePathHash},
};
use tokio::sync::{Semaphore, watch};

use super::{Event, Observer, Plan, Push};
use crate::{
    cache::{Cache, CacheError, NarIdentity},
    lease::LeaseError,
    names::Names,
    source::object_storage::{CommitError, PackError, Packed},
    storage::StorageError,
};

/// Paths whose turn has come: more than are worked on at once, since some wait for what they refer to.
const IN_TURN: usize = 64;

/// How long is waited before a path is tried again, each time. The places try again by themselves, too, but
/// not for as long.
const TRY_AGAIN: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(8),
    Duration::from_secs(30),
];

/// Bytes of a build log that is sent along.
const LOG_LIMIT: usize = 64 * 1024 * 1024;

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Sent {
    /// What is there now.
    pub paths: Vec<StorePath>,
    /// Bytes of their files.
    pub bytes: u64,
    /// What is not.
    pub failures: Vec<Failure>,
}

/// A path that is not there, and why.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Failure {
    /// The path.
    pub path: StorePath,
    /// Why.
    pub reason: SendError,
}

/// Why a path was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It is gone from where it was.
    #[error("it is no longer in the store")]
    Gone,
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] CacheError),
    /// Its NAR was not brought there.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Its narinfo was not written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It could not be kept from being collected meanwhile.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// This took so long that something it needs was collected.
    #[error(
        "the push stood still for hours, and what this needs was collected meanwhile; push again"
    )]
    Lapsed,
    /// What it refers to failed.
    #[error("it refers to {0}, which failed")]
    Reference(StorePath),
    /// It was written, and is not there.
    #[error("it was sent, but the target does not have it; push again")]
    Lost,
    /// The target does not say whether it is there.
    #[error("it was sent, but the target does not say whether it has it: {0}")]
    Unsure(String),
}

impl SendError {
    fn is_transient(&self) -> bool {
        let storage = match self {
            Self::Pack(PackError::Storage(error)) | Self::Commit(CommitError::Storage(error)) => {
                error
            }
            _ => return false,
        };
        StorageError::is_transient(storage)
    }
}

/// How far the paths of a plan are: `Some(whether it is there)` in the end.
type Progress = HashMap<StorePathHash, watch::Sender<Option<bool>>>;

/// What the paths of a plan have in common while they are sent.
struct Common<'a> {
    slots: Semaphore,
    progress: Progress,
    /// What the target has, or will.
    expected: HashSet<StorePathHash>,
    /// What is written over what is there.
    again: &'a HashSet<StorePathHash>,
    /// Since when that is kept from being collected.
    held: Timestamp,
    observer: &'a Observer,
}

impl Push {
    /// Sends what is planned. Goes on past failures: what does not refer to what failed is sent.
    pub async fn send(&self, plan: &Plan, observer: &Observer) -> Sent {
        let progress: Progress = plan
            .send
            .iter()
            .map(|info| (info.store_path.hash(), watch::Sender::new(None)))
            .collect();
        let expected = plan.send.iter().chain(&plan.there).map(|info| info.store_path.hash());
        let common = &Common {
            slots: Semaphore::new(self.at_once.max(1)),
            progress,
            expected: expected.collect(),
            again: &plan.again,
            held: plan.held,
            observer,
        };
        let under_way = stream::iter(&plan.send).map(|info| async move {
            let sent = self.when_references_are_there(info, common).await;
            if let Some(done) = common.progress.get(&info.store_path.hash()) {
                done.send_replace(Some(sent.is_ok()));
            }
            let path = info.store_path.clone();
            match &sent {
                Ok(bytes) => observer(Event::Finished(path, *bytes)),
                Err(error) => observer(Event::Failed(path, error.to_string())),
            }
            (info, sent)
        });
        let under_way = under_way.buffer_unordered(IN_TURN).boxed().collect::<Vec<_>>();
        let outcomes = tokio::select! {
            outcomes = under_way => outcomes,
            never = self.to.keep_holding() => never,
        };
        let mut sent = Sent::default();
        let mut done = HashSet::new();
        for (info, outcome) in outcomes {
            match outcome {
                Ok(bytes) => {
                    sent.bytes += bytes;
                    done.insert(info.store_path.clone());
                }
                Err(reason) => {
                    sent.failures.push(Failure { path: info.store_path.clone(), reason });
                }
            }
        }
        self.verify(plan, done, &mut sent).await;
        sent
    }

    async fn when_references_are_there(
        &self,
        info: &Arc<NarInfo>,
        common: &Common<'_>,
    ) -> Result<u64, SendError> {
        let Common { slots, progress, observer, .. } = common;
        let mut attempts = TRY_AGAIN.iter();
        let packed = loop {
            // Never closed.
            let slot = slots.acquire().await.ok();
            observer(Event::Started(Arc::clone(info)));
            let error = match self.pack(info, common).await {
                Ok(packed) => break packed,
                Err(error) => error,
            };
            drop(slot);
            self.or_give_up(info, error, attempts.next(), observer).await?;
        };
        for path in info.references.iter().filter(|path| **path != info.store_path) {
            let Some(reference) = progress.get(&path.hash()) else { continue };
            let there = reference
                .subscribe()
                .wait_for(Option::is_some)
                .await
                .is_ok_and(|it| *it == Some(true));
            if !there {
                return Err(SendError::Reference(path.clone()));
            }
        }
        loop {
            match self.commit(info, &packed, common).await {
                Ok(()) => return Ok(packed.file_size),
                Err(error) => self.or_give_up(info, error, attempts.next(), observer).await?,
            }
        }
    }

    async fn or_give_up(
        &self,
        info: &NarInfo,
        error: SendError,
        wait: Option<&Duration>,
        observer: &Observer,
    ) -> Result<(), SendError> {
        match wait {
            Some(wait) if error.is_transient() => {
                observer(Event::TriedAgain(info.store_path.clone(), error.to_string()));
                tokio::time::sleep(*wait).await;
                Ok(())
            }
            _ => Err(error),
        }
    }

    async fn pack(&self, info: &Arc<NarInfo>, common: &Common<'_>) -> Result<Packed, SendError> {
        let identity = NarIdentity { path: info.store_path.hash(), nar_hash: info.nar_hash };
        let nar = self.from.nar(identity, 0..info.nar_size).await?.ok_or(SendError::Gone)?;
        let observer = Arc::clone(common.observer);
        let passed = move |bytes| observer(Event::Passed(bytes));
        if common.again.contains(&info.store_path.hash()) {
            return Ok(self.to.pack_anew(info, nar, self.packing, passed).await?);
        }
        Ok(self.to.pack(info, nar, self.packing, passed).await?)
    }

    async fn commit(
        &self,
        info: &NarInfo,
        packed: &Packed,
        common: &Common<'_>,
    ) -> Result<(), SendError> {
        let mut there = NarInfo {
            url: packed.file.url(),
            compression: packed.compression,
            file_hash: Some(packed.file.hash),
            file_size: Some(packed.file_size),
            ..info.clone()
        };
        if common.again.contains(&info.store_path.hash()) {
            self.keep_signatures(&mut there).await;
        }
        if let Some(listing) = &packed.listing {
            self.to.put_listing(info.store_path.hash(), listing, &packed.file).await?;
        }
        if let Some(deriver) = &info.deriver {
            self.send_log(deriver).await?;
        }
        self.make_sure(info, packed, common).await?;
        Ok(self.to.put_narinfo(there, &self.keys).await?)
    }

    /// Who has signed the same of what is there, signed this too. A narinfo that cannot be read says nothing.
    async fn keep_signatures(&self, info: &mut NarInfo) {
        let Ok(Some(there)) = self.to.narinfo(info.store_path.hash()).await else { return };
        let store_dir = self.to.store_dir();
        if there.fingerprint(store_dir) == info.fingerprint(store_dir) {
            info.signatures.extend(there.signatures.iter().cloned());
        }
    }

    /// Makes sure that what the narinfo needs is held, and looks for it again where that has lapsed: this machine
    /// may have slept for a night since it looked.
    async fn make_sure(
        &self,
        info: &NarInfo,
        packed: &Packed,
        common: &Common<'_>,
    ) -> Result<(), SendError> {
        let references = info.references.iter().map(StorePath::hash);
        let references: HashSet<_> = references.filter(|it| common.expected.contains(it)).collect();
        let mut names = Names::of_paths(references.iter().copied());
        names.paths.insert(info.store_path.hash());
        names.nars.insert(packed.file);
        let held = self.to.hold(&names).await?;
        if held.paths <= common.held && held.nars <= packed.held {
            return Ok(());
        }
        let others = references.into_iter().filter(|it| *it != info.store_path.hash());
        let others: Vec<_> = others.collect();
        let there = self.to.present(others.clone()).await?;
        let is_whole = others.iter().all(|path| there.contains(path));
        if is_whole && self.to.has_nar(packed).await? { Ok(()) } else { Err(SendError::Lapsed) }
    }

    /// The log of the build goes along where there is one, and is not too large to be of use.
    async fn send_log(&self, deriver: &StorePath) -> Result<(), SendError> {
        let Some(mut log) = self.from.log(deriver).await? else { return Ok(()) };
        let mut text = Vec::new();
        while let Some(chunk) = log.next().await {
            text.extend_from_slice(&chunk?);
            if text.len() > LOG_LIMIT {
                return Ok(());
            }
        }
        Ok(self.to.put_log(deriver, text.into()).await?)
    }

    /// Looks whether the target has what was sent, and still has what was there.
    async fn verify(&self, plan: &Plan, mut done: HashSet<StorePath>, sent: &mut Sent) {
        done.extend(plan.there.iter().map(|info| info.store_path.clone()));
        let here = self.to.present(done.iter().map(StorePath::hash).collect()).await;
        for path in done {
            let reason = match &here {
                Ok(here) if here.contains(&path.hash()) => {
                    sent.paths.push(path);
                    continue;
                }
                Ok(_) => SendError::Lost,
                Err(error) => SendError::Unsure(error.to_string()),
            };
            sent.failures.push(Failure { path, reason });
        }
        sent.paths.sort();
    }
}
