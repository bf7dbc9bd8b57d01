//! A file under way to the other machine, which has no name yet.

use std::{io::SeekFrom, path::PathBuf, sync::Arc, task::Poll};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::{StreamExt, future::BoxFuture, poll, stream::FuturesUnordered};
use openssh_sftp_client::{file::File, metadata::Permissions};
use tokio::io::AsyncSeekExt;

use super::{
    super::{Draft, Key, StorageError, StorageErrorKind},
    AHEAD, PIECE, Sftp,
    connection::{Failure, Session},
    make_folder,
};

/// Anybody may read what is published; who may enter the folder is its owner's business.
const MODE: u16 = 0o644;

/// A file that has no name yet.
pub(super) struct SftpDraft {
    sftp: Sftp,
    session: Arc<Session>,
    /// Away once it is published, or after a failure.
    open: Option<Open>,
    path: PathBuf,
    /// Whether it has its name.
    written: bool,
}

/// The file, and what was sent to it and not yet answered.
struct Open {
    // Before the file: what shares its handle goes first.
    under_way: FuturesUnordered<BoxFuture<'static, Result<(), Failure>>>,
    file: File,
    /// Where what comes next belongs.
    end: u64,
}

impl Open {
    /// Sends something, once there is room for it. Its answer is waited for later.
    async fn send(
        &mut self,
        request: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) -> Result<(), Failure> {
        while self.under_way.len() >= AHEAD {
            self.answer().await?;
        }
        self.under_way.push(Box::pin(request));
        // A request is on its way once it was looked at.
        while let Poll::Ready(Some(done)) = poll!(self.under_way.next()) {
            done?;
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        self.under_way.next().await.unwrap_or(Ok(()))
    }

    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE as usize));
            let (file, at) = (self.file.clone(), self.end);
            self.end += piece.len() as u64;
            self.send(write(file, at, piece)).await?;
        }
        Ok(())
    }

    /// Until the other machine has all of it, on its disk where its server can do that.
    async fn finish(&mut self, session: &Session) -> Result<(), Failure> {
        while !self.under_way.is_empty() {
            self.answer().await?;
        }
        if session.client.support_fsync() {
            self.file.sync_all().await?;
        }
        Ok(())
    }
}

async fn write(mut file: File, at: u64, mut piece: Bytes) -> Result<(), Failure> {
    let _ = file.seek(SeekFrom::Start(at)).await.map_err(openssh_sftp_client::Error::from)?;
    while piece.has_remaining() {
        // A server may take less at once than was meant.
        let written = file.write_zero_copy(std::slice::from_ref(&piece)).await?;
        piece.advance(written);
    }
    Ok(())
}

impl SftpDraft {
    pub(super) fn new(sftp: Sftp, session: Arc<Session>, file: File, path: PathBuf) -> Self {
        let open = Some(Open { under_way: FuturesUnordered::new(), file, end: 0 });
        Self { sftp, session, open, path, written: false }
    }

    /// Does the next thing with the file, and never again anything after a failure.
    async fn step(
        &mut self,
        what: impl FnOnce() -> String,
        step: impl AsyncFnOnce(&mut Open, &Session) -> Result<(), Failure>,
    ) -> Result<(), StorageError> {
        let Some(mut open) = self.open.take() else {
            let reason = "an earlier write failed";
            return Err(StorageError::new(StorageErrorKind::Permanent, what(), reason));
        };
        let session = Arc::clone(&self.session);
        match self.sftp.connection.watched(&session, step(&mut open, &session)).await {
            Ok(()) => {
                self.open = Some(open);
                Ok(())
            }
            Err(failure) => Err(self.sftp.perhaps_full(failure).await.into_error(what())),
        }
    }
}

#[async_trait]
impl Draft for SftpDraft {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let what = format!("writing to {}", self.sftp.url);
        self.step(|| what, async |open, _| open.write(bytes).await).await
    }

    async fn publish(mut self: Box<Self>, key: &Key) -> Result<(), StorageError> {
        let what = self.sftp.what("writing", key);
        let (draft, to) = (self.path.clone(), self.sftp.path(key));
        self.step(
            || what,
            async |open, session| {
                let mut file = open.file.clone();
                let mode = Permissions::from(MODE);
                open.send(async move { Ok(file.set_permissions(mode).await?) }).await?;
                open.finish(session).await?;
                let mut fs = session.client.fs();
                match fs.rename(&draft, &to).await.map_err(Failure::from) {
                    Err(failure) if failure.is_missing() => {
                        make_folder(session, to.parent().unwrap_or(&to)).await?;
                        Ok(fs.rename(&draft, &to).await?)
                    }
                    renamed => renamed,
                }
            },
        )
        .await?;
        self.written = true;
        Ok(())
    }
}

impl Drop for SftpDraft {
    fn drop(&mut self) {
        if self.written {
            return;
        }
        let (connection, path) = (self.sftp.connection.clone(), self.path.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // As far as it goes: what stays is a draft, which a collector removes.
            runtime.spawn(async move {
                let removed = connection.once(|session| async move {
                    Ok(session.client.fs().remove_file(path).await?)
                });
                drop(removed.await);
            });
        }
    }
}
