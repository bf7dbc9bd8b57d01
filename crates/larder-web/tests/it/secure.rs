//! What tests of TLS and HTTP/2 need: certificates, clients, and servers with them.

use std::{
    fs, io,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use larder_testkit::{Finished, Program, TestStore, scratch::scratch, tree::random_bytes};
use larder_web::{
    base_path::BasePath,
    server::{Address, Limits, Place, Server as InThisProcess, Serving, tls::Tls},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use crate::{http, support::Server};

/// The setting that listens by TLS, where its port can be told from the other: all of 127.0.0.0/8 is this
/// machine.
const LISTEN: &str = "tls-listen = [\"127.0.0.2:0\"]";

/// Who signs certificates for `localhost`.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    folder: TempDir,
}

/// What was signed, as PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = scratch("authority");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let signed = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("authority.crt"), signed.pem()).unwrap();
        let certificate = signed.der().clone();
        let authority = Self { issuer: Issuer::new(params, key), certificate, folder };
        authority.install(&authority.sign());
        authority
    }

    /// A new certificate and key for `localhost` and this machine's addresses.
    pub(crate) fn sign(&self) -> Signed {
        let names = ["localhost", "127.0.0.1", "127.0.0.2"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "server");
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    /// Puts it where the server looks.
    pub(crate) fn install(&self, signed: &Signed) {
        fs::write(self.server_certificate(), &signed.certificate).unwrap();
        write_key(&self.server_key(), &signed.key);
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("authority.crt")
    }

    pub(crate) fn server_certificate(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    pub(crate) fn server_key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// The settings that name both files.
    pub(crate) fn setting(&self) -> String {
        format!(
            "tls-certificate = \"{}\"\ntls-key = \"{}\"\n",
            self.server_certificate().display(),
            self.server_key().display()
        )
    }

    /// A client that trusts this authority and speaks these protocols.
    fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        // The first test of a process that does this does it for all.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Connects without saying which protocol.
    pub(crate) fn connect(&self, address: &str) -> Stream {
        let client = ClientConnection::new(self.client(&[]), localhost()).unwrap();
        let mut stream = StreamOwned::new(client, http::connect(address));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        stream
    }

    /// Connects by HTTP/2; the connection lives in a task of the runtime.
    pub(crate) async fn http2(
        &self,
        address: &str,
        settings: &h2::client::Builder,
    ) -> h2::client::SendRequest<axum::body::Bytes> {
        let stream = self.tls(address).await;
        let (client, connection) = settings.handshake(stream).await.unwrap();
        drop(tokio::spawn(connection));
        client.ready().await.unwrap()
    }

    /// Agrees on HTTP/2, and says nothing more.
    pub(crate) async fn tls(
        &self,
        address: &str,
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let connector = TlsConnector::from(self.client(&["h2"]));
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        connector.connect(localhost(), stream).await.unwrap()
    }

    /// curl, for an address of a server with such a certificate.
    pub(crate) fn curl(&self, options: &[&str], url: &str) -> Finished {
        let program = Program::new("curl").args(["--silent", "--show-error", "--max-time", "60"]);
        program.arg("--cacert").arg(self.file()).args(options).arg(url).run()
    }
}

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// The certificate that was shown.
pub(crate) fn shown(stream: &Stream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

impl Signed {
    pub(crate) fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap().to_vec()
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Writes a key that only its owner reads, from its beginning on.
pub(crate) fn write_key(file: &Path, key: &str) {
    fs::write(file, key).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// `larder serve` with a port for TLS beside the other.
pub(crate) struct Secure {
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    pub(crate) address: String,
}

impl Secure {
    pub(crate) fn of(store: &TestStore) -> Self {
        Self::with(store, "")
    }

    pub(crate) fn with(store: &TestStore, lines: &str) -> Self {
        let authority = Authority::new();
        let mut server = Server::with(store, &format!("{LISTEN}\n{}{lines}", authority.setting()));
        let line = server.process().wait_for_line("listening on 127.0.0.2:");
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { server, authority, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn curl(&self, options: &[&str], target: &str) -> Finished {
        self.authority.curl(options, &format!("{}{target}", self.url()))
    }
}

/// The bytes of `/large`.
pub(crate) fn large() -> Vec<u8> {
    random_bytes(5, 3_000_000)
}

/// Limits that never apply, so that a test sets the one it is about.
pub(crate) fn patient() -> Limits {
    let forever = Duration::from_secs(3600);
    Limits { head: forever, idle: forever, stall: forever, ..Limits::default() }
}

/// A server in this process that speaks TLS, with answers that need no store: `/`, `/large`, `/endless`.
pub(crate) async fn in_this_process(
    authority: &Authority,
    limits: Limits,
) -> (InThisProcess, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endless = || async {
        Body::from_stream(futures::stream::repeat_with(|| Ok::<_, io::Error>(vec![7_u8; 65536])))
    };
    let bytes = axum::body::Bytes::from(large());
    let router = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .route("/large", get(move || async move { bytes }))
        .route("/endless", get(endless));
    let tls = Tls::load(&authority.server_certificate(), &authority.server_key()).unwrap();
    let serving = Serving {
        router,
        base_path: BasePath::default(),
        proxies: Arc::default(),
        tls: Some(Arc::new(tls)),
    };
    let mut server = InThisProcess::new(serving, limits);
    let address = Address::Tcp("127.0.0.1".to_owned(), 0);
    let listening = server.listen_on(&[Place { address, secure: true }]).await.unwrap();
    (server, listening[0].to_string())
}
