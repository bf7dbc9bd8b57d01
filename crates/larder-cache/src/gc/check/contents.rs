//! Reading every NAR, to find out whether it is what is said of it.

use std::{collections::HashMap, io};

use futures::{StreamExt, stream};
use larder_formats::{
    nar_file::NarFile,
    narinfo::{Compression, NarInfo},
    store_path::StorePathHash,
};

use super::{Checker, Found, Problem, Said};
use crate::{
    gc::snapshot::{NarEntry, Snapshot},
    source::object_storage::{Limits, StageError, agree},
};

/// What came of reading a NAR's file.
enum Verdict {
    /// It is gone meanwhile.
    Gone,
    /// It is a NAR, and these narinfos say something else of it.
    Sound(Vec<(NarInfo, String)>),
    /// It is wrong, and these narinfos lead to it.
    Damaged(String, Vec<NarInfo>),
    Unsure(String),
}

impl Checker {
    /// Reads the NAR files that are wanted, several at once, each in little memory. `passed` is told the size of each
    /// that was read.
    pub async fn read(
        &self,
        snapshot: &Snapshot,
        found: &mut Found,
        wanted: &(dyn Fn(&NarFile, &[StorePathHash]) -> bool + Sync),
        passed: &(dyn Fn(u64) + Sync),
    ) {
        let mut users: HashMap<NarFile, Vec<StorePathHash>> = HashMap::new();
        for entry in snapshot.paths() {
            if let Some(nar) = entry.nar {
                users.entry(nar).or_default().push(entry.hash);
            }
        }
        let users = &users;
        let nars = snapshot.nars().iter().map(|nar| {
            let paths = users.get(&nar.file).map(Vec::as_slice).unwrap_or_default();
            (nar, paths)
        });
        let work = stream::iter(nars.filter(|(nar, paths)| wanted(&nar.file, paths)));
        let work = work.map(|(nar, paths)| async move {
            let verdict = self.verdict(nar, paths).await;
            passed(nar.size);
            (nar.file, verdict)
        });
        let mut verdicts = work.buffer_unordered(self.at_once.max(1)).boxed();
        while let Some((file, verdict)) = verdicts.next().await {
            found.read += 1;
            match verdict {
                Verdict::Gone => {}
                Verdict::Sound(others) => {
                    for (info, reason) in others {
                        found.note(info, Problem::Contents(reason));
                    }
                }
                Verdict::Damaged(reason, users) => {
                    for info in users {
                        found.note(info, Problem::Contents(reason.clone()));
                    }
                    found.damaged.insert(file, reason);
                }
                Verdict::Unsure(reason) => {
                    found.unsure.push(format!("{}: {reason}", file.url()));
                }
            }
        }
    }

    async fn verdict(&self, nar: &NarEntry, paths: &[StorePathHash]) -> Verdict {
        let mut users = Vec::new();
        for hash in paths {
            match self.said(*hash).await {
                Ok(Said::Info(info)) if NarFile::of_url(&info.url) == Some(nar.file) => {
                    users.push(*info);
                }
                Ok(_) => {}
                Err(error) => return Verdict::Unsure(error.to_string()),
            }
        }
        // What unpacks to more than anybody says of it need not be read to its end.
        let said = users.iter().map(|info| info.nar_size).max();
        let nar_size = said.unwrap_or(Limits::default().nar_size);
        let limits = Limits { file_size: u64::MAX, nar_size };
        match self.cache.examine(nar.file, limits).await {
            Ok(None) => Verdict::Gone,
            Ok(Some((staged, _))) => {
                let wrong = |info: NarInfo| {
                    let error = agree(&info, &nar.file, &staged).err()?;
                    Some((info, error.to_string()))
                };
                Verdict::Sound(users.into_iter().filter_map(wrong).collect())
            }
            Err(error) if is_damage(&error, said.is_some()) => {
                Verdict::Damaged(error.to_string(), users)
            }
            Err(error) => Verdict::Unsure(error.to_string()),
        }
    }
}

/// Whether the bytes are to blame, for certain.
fn is_damage(error: &StageError, has_users: bool) -> bool {
    match error {
        StageError::OtherHash { .. } | StageError::NotANar(_) => true,
        StageError::TooLarge { .. } => has_users,
        // It may need more memory than we give it.
        StageError::Packed { compression: Compression::Xz, source } => {
            source.kind() != io::ErrorKind::Other
        }
        StageError::Packed { .. } => true,
        StageError::Unsupported(_)
        | StageError::BrokeOff(_)
        | StageError::Lost(_)
        | StageError::Storage(_)
        | StageError::Lease(_)
        | StageError::Key(_) => false,
    }
}
