//! TLS, with a certificate that is looked at again whenever somebody comes.
//!
//! Promise: a certificate that was renewed is shown to the next client, without a restart or a signal.
//! While the files make no whole (the certificate is new and its key is not yet there), the last that did
//! is shown.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_blocking,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What both sides may agree on, ours first (RFC 7301, RFC 9113).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate and its key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error(
        "cannot read {path}: {source}. `tls-certificate` and `tls-key` name two files of PEM that Larder's \
         user may read"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error(
        "{path} is not PEM with {what}: {source}. Take the file that came with the certificate, in PEM"
    )]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The reason.
        source: pem::Error,
    },
    /// A file without a certificate.
    #[error("{0} holds no certificate: it begins with `-----BEGIN CERTIFICATE-----`")]
    NoCertificate(PathBuf),
    /// A key that everybody on the machine can read.
    #[error("{0} is a secret that everybody here can read: `chmod o= {0}`")]
    Open(PathBuf),
    /// The two do not belong together, or are of a kind that is not known.
    #[error(
        "{certificate} and {key} cannot be used together: {source}. The key must be the one that the first \
         certificate of the file was made for"
    )]
    Unfit {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
}

/// A certificate in a file, with its chain, and its key in another; both PEM.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// What the files looked like that were read last, whether they were of use or not.
    seen: Stamp,
}

/// What tells one state of both files from the next: device, inode, size and time of change of each.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 2];

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Tls {
    /// Reads both files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let seen = stamp(certificate, key);
        let acceptor = acceptor(certificate, key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: Mutex::new(Current { acceptor, seen }),
        })
    }

    /// Agrees with a client, with the certificate of this moment.
    pub(super) async fn accept<S>(
        self: Arc<Self>,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Protocol)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = spawn_blocking(move || self.acceptor()).await.map_err(io::Error::other)?;
        let stream = acceptor.accept(stream).await?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok((stream, protocol))
    }

    /// The acceptor for the files as they are now.
    fn acceptor(&self) -> TlsAcceptor {
        // Before they are read: what changes in between is seen the next time.
        let seen = stamp(&self.certificate, &self.key);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.seen != seen {
            current.seen = seen;
            match acceptor(&self.certificate, &self.key) {
                Ok(acceptor) => {
                    tracing::info!(certificate = %self.certificate.display(), "the certificate was renewed");
                    current.acceptor = acceptor;
                }
                Err(error) => {
                    tracing::warn!("the certificate of before is still shown: {error}");
                }
            }
        }
        current.acceptor.clone()
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
    })
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let malformed = |path: &Path, what| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, what, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(malformed(certificate, "certificates"))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    if fs::metadata(key).is_ok_and(|file| file.mode() & 0o007 != 0) {
        return Err(TlsError::Open(key.to_owned()));
    }
    let secret =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(malformed(key, "a private key"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|source| TlsError::Unfit {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source,
        })?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
