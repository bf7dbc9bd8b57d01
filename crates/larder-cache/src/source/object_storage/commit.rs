//! The second step of an upload: the narinfo, by which a path is there for everybody.
//!
//! Promises that it is written only when its NAR is there and is what it says, and its references are
//! there.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use larder_formats::{
    nar::{Listing, ListingNode},
    nar_file::NarFile,
    narinfo::NarInfo,
    realisation::Realisation,
    signature::{PublicKey, SecretKey, Signature},
    store_path::{StorePath, StorePathHash},
};

use super::{
    Limits, ObjectStorage, StageError, Staged,
    layout::{self, BuildId},
};
use crate::{
    cache::{Cache, CacheError},
    lease::LeaseError,
    names::Names,
    storage::{Key, KeyError, StorageError},
    upstream::Upstream,
};

/// Questions asked at once.
const AT_ONCE: usize = 32;

/// How often it is looked whether a reference has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What a cache takes in, and what it makes of it.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What is too large.
    pub limits: Limits,
    /// How long a narinfo waits for its references.
    pub patience: Duration,
    /// Those whose signatures are kept.
    pub trusted: Vec<PublicKey>,
    /// Those that sign here.
    pub own: Vec<SecretKey>,
    /// Where clients get paths from as well: what they have may be missing here.
    pub upstreams: Vec<Upstream>,
}

/// What became of a narinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It was written.
    New,
    /// The path was there, and its NAR is another; that stays, since clients know it.
    Kept,
}

/// Why a narinfo was not written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Its URL is not `nar/<hash of the file>.nar[.<suffix>]`.
    #[error(
        "the URL {0:?} of the narinfo is not nar/<hash of the file>.nar with a compression's suffix"
    )]
    Url(String),
    /// The NAR is not here.
    #[error("{file}, the NAR of {path}, is not here; upload it first")]
    NoNar {
        /// The path.
        path: StorePath,
        /// The file.
        file: NarFile,
    },
    /// The NAR is not what the narinfo says.
    #[error("the narinfo of {path} says {field} {said}, but {found} was uploaded")]
    OtherNar {
        /// The path.
        path: StorePath,
        /// Which of its fields.
        field: &'static str,
        /// What it says.
        said: String,
        /// What is so.
        found: String,
    },
    /// References did not arrive.
    #[error("{path} refers to {missing}, which is not here; upload that first")]
    MissingReferences {
        /// The path.
        path: StorePath,
        /// One of them.
        missing: StorePath,
    },
    /// The NAR cannot be checked.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// What is here cannot be read.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The place for it failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It could not be kept from being collected meanwhile.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A name that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl ObjectStorage {
    /// Writes the narinfo that somebody uploaded, if its NAR is here and what it says, and its references
    /// are here, or at an upstream, or arrive in time.
    ///
    /// # Errors
    /// When something is missing or untrue. Nothing was changed then.
    pub async fn commit(&self, mut info: NarInfo, terms: &Terms) -> Result<Committed, CommitError> {
        let file = NarFile::of_url(&info.url).ok_or_else(|| CommitError::Url(info.url.clone()))?;
        let mut held = Names::of_paths(info.references.iter().map(StorePath::hash));
        held.paths.insert(info.store_path.hash());
        held.nars.insert(file);
        self.hold(&held).await?;
        let missing = || CommitError::NoNar { path: info.store_path.clone(), file };
        let staged = self.staged(file, terms.limits).await?.ok_or_else(missing)?;
        agree(&info, &file, &staged)?;
        info.file_hash = Some(file.hash);
        info.file_size = Some(staged.file_size);
        self.await_references(&info, terms).await?;
        let fingerprint = info.fingerprint(&self.info.store_dir);
        let trusted = |signature: &Signature| {
            terms.trusted.iter().any(|key| key.verify(fingerprint.as_bytes(), signature))
        };
        info.signatures.retain(trusted);
        if let Some(there) = self.intact(info.store_path.hash()).await? {
            if there.nar_hash != info.nar_hash {
                return Ok(Committed::Kept);
            }
            // Some other packing of it: what clients know stays, and has all signatures.
            let signatures = std::mem::take(&mut info.signatures);
            info = there;
            info.signatures.extend(signatures);
        }
        if let Some(listing) = self.staged_listing(&file).await? {
            self.put_listing(info.store_path.hash(), &listing, &file).await?;
        }
        self.put_narinfo(info, &terms.own).await?;
        self.unstage(&file).await?;
        Ok(Committed::New)
    }

    /// Writes a narinfo, of which the caller knows that its NAR and its references are here, signed by
    /// these keys as well.
    ///
    /// # Errors
    /// When the place fails.
    pub async fn put_narinfo(
        &self,
        mut info: NarInfo,
        keys: &[SecretKey],
    ) -> Result<(), CommitError> {
        for key in keys {
            info.sign_with(&self.info.store_dir, key);
        }
        let text = info.to_text(&self.info.store_dir);
        Ok(self.storage.put(&layout::narinfo(info.store_path.hash())?, text.into()).await?)
    }

    /// Writes what is in a path: its listing, and for each file with debug information where that is.
    ///
    /// # Errors
    /// When the place fails.
    pub async fn put_listing(
        &self,
        path: StorePathHash,
        listing: &Listing,
        file: &NarFile,
    ) -> Result<(), CommitError> {
        let text = Bytes::from(listing.to_json());
        self.storage.put(&layout::listing(path)?, text).await?;
        for (build_id, member) in debug_files(listing) {
            let link =
                serde_json::json!({ "archive": format!("../{}", file.url()), "member": member });
            let text = Bytes::from(link.to_string());
            self.storage.put(&layout::debuginfo(build_id)?, text).await?;
        }
        Ok(())
    }

    /// Writes the log of a build.
    ///
    /// # Errors
    /// When the place fails.
    pub async fn put_log(&self, derivation: &StorePath, text: Bytes) -> Result<(), CommitError> {
        Ok(self.storage.put(&layout::log(derivation)?, text).await?)
    }

    /// Writes a realisation that somebody uploaded, with the signatures that are believed and our own.
    ///
    /// # Errors
    /// When the place fails.
    pub async fn commit_realisation(
        &self,
        mut realisation: Realisation,
        terms: &Terms,
    ) -> Result<(), CommitError> {
        let texts = realisation.fingerprints();
        let by = |signature: &Signature, key: &PublicKey| {
            texts.iter().any(|text| key.verify(text.as_bytes(), signature))
        };
        realisation.signatures.retain(|it| terms.trusted.iter().any(|key| by(it, key)));
        for key in &terms.own {
            realisation.sign_with(key);
        }
        self.put_realisation(&realisation).await
    }

    /// Writes a realisation.
    ///
    /// # Errors
    /// When the place fails.
    pub async fn put_realisation(&self, realisation: &Realisation) -> Result<(), CommitError> {
        let key = layout::realisation(&realisation.key)?;
        Ok(self.storage.put(&key, realisation.to_json().into()).await?)
    }

    /// Which of these paths have a narinfo here.
    ///
    /// # Errors
    /// When the place does not tell.
    pub async fn present(
        &self,
        paths: Vec<StorePathHash>,
    ) -> Result<BTreeSet<StorePathHash>, CommitError> {
        let questions = paths.into_iter().map(|hash| async move {
            let there = self.storage.stat(&layout::narinfo(hash)?).await?;
            Ok::<_, CommitError>(there.map(|_| hash))
        });
        stream::iter(questions)
            .buffer_unordered(AT_ONCE)
            .boxed()
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }

    /// The narinfo that is here, if its NAR is.
    async fn intact(&self, hash: StorePathHash) -> Result<Option<NarInfo>, CommitError> {
        let Some(info) = self.narinfo(hash).await? else { return Ok(None) };
        let object = self.storage.stat(&Key::new(&info.url)?).await?;
        let fits = object.is_some_and(|object| info.file_size.is_none_or(|it| it == object.size));
        Ok(fits.then(|| (*info).clone()))
    }

    async fn await_references(&self, info: &NarInfo, terms: &Terms) -> Result<(), CommitError> {
        let path = &info.store_path;
        let mut missing: Vec<&StorePath> =
            info.references.iter().filter(|it| *it != path).collect();
        let mut waited = Duration::ZERO;
        loop {
            let here = self.present(missing.iter().map(|path| path.hash()).collect()).await?;
            missing.retain(|path| !here.contains(&path.hash()));
            // What is anywhere else will not come, so they are asked once.
            if waited.is_zero() {
                missing = not_elsewhere(missing, &terms.upstreams).await;
            }
            match missing.first() {
                None => return Ok(()),
                Some(missing) if waited >= terms.patience => {
                    return Err(CommitError::MissingReferences {
                        path: path.clone(),
                        missing: (*missing).clone(),
                    });
                }
                Some(_) => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            waited += LOOK_AGAIN;
        }
    }
}

/// Those that no upstream has. Who does not tell has none: they may still come.
async fn not_elsewhere<'a>(
    paths: Vec<&'a StorePath>,
    upstreams: &[Upstream],
) -> Vec<&'a StorePath> {
    let asked = paths.into_iter().map(|path| async move {
        for upstream in upstreams {
            match upstream.has(path).await {
                Ok(true) => return None,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, upstream = upstream.name, "an upstream did not tell");
                }
            }
        }
        Some(path)
    });
    let left = stream::iter(asked).buffered(AT_ONCE).boxed();
    left.filter_map(|path| async move { path }).collect().await
}

/// Whether a narinfo says of its NAR what is so.
pub(crate) fn agree(info: &NarInfo, file: &NarFile, staged: &Staged) -> Result<(), CommitError> {
    let differ = |field, said: &dyn ToString, found: &dyn ToString| {
        let path = info.store_path.clone();
        Err(CommitError::OtherNar { path, field, said: said.to_string(), found: found.to_string() })
    };
    if info.compression != staged.compression {
        return differ("Compression", &info.compression, &staged.compression);
    }
    if let Some(said) = info.file_hash.filter(|said| *said != file.hash) {
        return differ("FileHash", &said, &file.hash);
    }
    if let Some(said) = info.file_size.filter(|said| *said != staged.file_size) {
        return differ("FileSize", &said, &staged.file_size);
    }
    if info.nar_hash != staged.nar_hash {
        return differ("NarHash", &info.nar_hash, &staged.nar_hash);
    }
    if info.nar_size != staged.nar_size {
        return differ("NarSize", &info.nar_size, &staged.nar_size);
    }
    Ok(())
}

/// The build ids of `lib/debug/.build-id/<2 characters>/<38 characters>.debug`, and where each lies.
fn debug_files(listing: &Listing) -> Vec<(BuildId, String)> {
    const FOLDER: &str = "lib/debug/.build-id";
    let mut found = Vec::new();
    for (start, _) in listing.entries(FOLDER) {
        let folder = format!("{FOLDER}/{start}");
        for (name, node) in listing.entries(&folder) {
            let id = name.strip_suffix(".debug").map(|rest| format!("{start}{rest}"));
            if let (Some(id), ListingNode::Regular { .. }) =
                (id.as_deref().and_then(BuildId::parse), node)
            {
                found.push((id, format!("{folder}/{name}")));
            }
        }
    }
    found
}
