//! An S3 server in this process: real requests, signatures, parts and listings over files in a temporary
//! folder.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::S3Result;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::scratch::scratch;
use crate::tree::make_dir;

/// The public half of the only key that opens it.
pub const ACCESS_KEY: &str = "larder-test-key";

/// The secret half.
pub const SECRET_KEY: &str = "larder-test-secret";

/// The only bucket.
pub const BUCKET: &str = "larder-test";

/// A running server; gone on drop.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    /// On a loopback port, with one empty bucket.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start() -> Self {
        Self::with_access(None)
    }

    /// The same, where everybody may read objects without a key.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start_public() -> Self {
        Self::with_access(Some(PublicReads))
    }

    fn with_access(access: Option<PublicReads>) -> Self {
        let dir = scratch("s3");
        make_dir(&dir.path().join(BUCKET));
        let mut builder = S3ServiceBuilder::new(
            FileSystem::new(dir.path()).expect("a folder that is there can be served"),
        );
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        if let Some(access) = access {
            builder.set_access(access);
        }
        let service = builder.build();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        // On a thread of its own: the tests' own runtimes come and go.
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime can be started");
            runtime.block_on(async move {
                let listener =
                    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                let _ = tell.send(listener.local_addr().expect("a bound socket has an address"));
                tokio::select! {
                    () = serve(listener, service) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        let address = told.recv().expect("the server says where it listens");
        Self { address, dir, stop: Some(stop), thread: Some(thread) }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The bucket, or what lies below a prefix of it, as Larder and Nix write it.
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!(
            "s3://{BUCKET}{slash}{prefix}?endpoint={}&scheme=http&region=us-east-1",
            self.address
        )
    }

    /// The folder that holds the bucket's objects by their names.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.dir.path().join(BUCKET)
    }
}

/// Lets everybody read objects.
struct PublicReads;

#[async_trait::async_trait]
impl S3Access for PublicReads {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        match (cx.credentials(), cx.s3_op().name()) {
            (Some(_), _) | (None, "GetObject" | "HeadObject") => Ok(()),
            (None, _) => Err(s3s::s3_error!(AccessDenied, "Signature is required")),
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    while let Ok((connection, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            // A client that goes away in mid-request is none of ours to report.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
