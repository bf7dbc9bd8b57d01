//! A real proxy before `larder serve`, run by the very examples that the documentation gives.

use std::{fs, path::PathBuf};

use larder_testkit::{
    Finished, Program,
    caddy::Caddy,
    nginx::{Nginx, free_port},
    nix::workspace_root,
    scratch::scratch,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Which proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Nginx,
    Caddy,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Nginx, Kind::Caddy];

/// Where the cache lies at the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Root,
    /// Below `/cache`, which the proxy takes away.
    Stripped,
    /// Below `/cache`, which the proxy passes on.
    PassedOn,
}

pub(crate) const PLACES: [Place; 3] = [Place::Root, Place::Stripped, Place::PassedOn];

impl Place {
    /// What the server's configuration says.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Root | Self::Stripped => "",
            Self::PassedOn => "base-path = \"/cache\"\n",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Stripped | Self::PassedOn => "/cache",
        }
    }
}

/// How the proxy reaches the server.
#[derive(Clone, Debug)]
pub(crate) enum Upstream {
    Tcp(String),
    Unix(PathBuf),
}

/// A running proxy.
pub(crate) struct Front {
    process: Process,
    folder: TempDir,
    port: u16,
    address: String,
}

enum Process {
    Nginx(Nginx),
    Caddy(Caddy),
}

impl Front {
    /// The example of the documentation, with this machine's addresses and a certificate of its own.
    pub(crate) fn new(kind: Kind, place: Place, upstream: &Upstream) -> Self {
        Self::start(kind, place, upstream, true)
    }

    /// The same without TLS.
    pub(crate) fn plain(kind: Kind, place: Place, upstream: &Upstream) -> Self {
        Self::start(kind, place, upstream, false)
    }

    fn start(kind: Kind, place: Place, upstream: &Upstream, tls: bool) -> Self {
        let folder = scratch("front");
        certificate(&folder);
        let port = free_port();
        let text = adapted(kind, place, upstream);
        let at = |name: &str| folder.path().join(name).display().to_string();
        let (certificate, key) = (at("front.crt"), at("front.key"));
        let process = match kind {
            Kind::Nginx => {
                let of_tls = |line: &&str| !tls && line.contains("ssl_certificate");
                let lines: Vec<&str> = text.lines().filter(|line| !of_tls(line)).collect();
                let listen = format!("listen 127.0.0.1:{port}{};", if tls { " ssl" } else { "" });
                let text = replaced(&lines.join("\n"), "listen 443 ssl;", &listen)
                    .replace("/etc/ssl/cache.example.org.crt", &certificate)
                    .replace("/etc/ssl/cache.example.org.key", &key);
                Process::Nginx(Nginx::with_http_lines(&text, port))
            }
            Kind::Caddy => {
                let site = match tls {
                    true => {
                        format!(
                            "https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {key}"
                        )
                    }
                    false => format!("http://localhost:{port} {{\n\tbind 127.0.0.1"),
                };
                Process::Caddy(Caddy::start(&replaced(&text, "cache.example.org {", &site), port))
            }
        };
        let scheme = if tls { "https" } else { "http" };
        let address = format!("{scheme}://localhost:{port}{}", place.path());
        Self { process, folder, port, address }
    }

    /// The address of the cache, as clients should know it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `127.0.0.1:PORT`, for who connects without HTTP.
    pub(crate) fn socket(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate that signed the proxy's.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.crt")
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.process {
            Process::Nginx(nginx) => nginx.pid(),
            Process::Caddy(caddy) => caddy.pid(),
        }
    }

    /// curl, for what lies there below the address.
    pub(crate) fn curl(&self, options: &[&str], target: &str) -> Finished {
        let program = Program::new("curl").args(["--silent", "--show-error", "--max-time", "60"]);
        let program = program.arg("--cacert").arg(self.authority()).args(options);
        program.arg(format!("{}{target}", self.address)).run().success()
    }

    /// What curl writes of an answer: `%{http_code}`.
    pub(crate) fn told(&self, options: &[&str], target: &str, format: &str) -> String {
        let all = [options, &["--output", "/dev/null", "--write-out", format]].concat();
        self.curl(&all, target).text().to_owned()
    }
}

/// The example file for a proxy and a place, made to fit to the server's address; each change is one that the
/// documentation tells people to make.
fn adapted(kind: Kind, place: Place, upstream: &Upstream) -> String {
    let name = match (kind, place) {
        (Kind::Nginx, Place::Root) => "nginx.conf",
        (Kind::Nginx, _) => "nginx-sub-path.conf",
        (Kind::Caddy, Place::Root) => "Caddyfile",
        (Kind::Caddy, _) => "Caddyfile-sub-path",
    };
    let mut text = fs::read_to_string(workspace_root().join("docs/examples").join(name)).unwrap();
    if place == Place::PassedOn {
        text = match kind {
            Kind::Nginx => replaced(
                &replaced(&text, "proxy_pass http://larder/;", "proxy_pass http://larder;"),
                "X-Forwarded-Prefix /cache;",
                "X-Forwarded-Prefix \"\";",
            ),
            Kind::Caddy => replaced(
                &replaced(&text, "handle_path /cache/*", "handle /cache/*"),
                "header_up X-Forwarded-Prefix /cache",
                "header_up -X-Forwarded-Prefix",
            ),
        };
    }
    match (kind, upstream) {
        (_, Upstream::Tcp(address)) => replaced(&text, "127.0.0.1:5000", address),
        (kind, Upstream::Unix(socket)) => {
            let (tcp, unix) = match kind {
                Kind::Nginx => ("server 127.0.0.1:5000;", "# server unix:"),
                Kind::Caddy => ("to 127.0.0.1:5000", "# to unix/"),
            };
            let text = replaced(&replaced(&text, tcp, ""), unix, unix.trim_start_matches("# "));
            replaced(&text, "/run/larder/http.sock", &socket.display().to_string())
        }
    }
}

/// What is not there cannot have been replaced: then the example has moved on without its test.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to)
}

/// An authority of a test's own, and what it signed for `localhost`.
fn certificate(folder: &TempDir) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let signed = authority.self_signed(&authority_key).unwrap();
    fs::write(folder.path().join("authority.crt"), signed.pem()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "front");
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    fs::write(folder.path().join("front.crt"), leaf.pem()).unwrap();
    fs::write(folder.path().join("front.key"), key.serialize_pem()).unwrap();
}

#[test]
fn the_documentation_shows_the_examples_that_are_tested() {
    let docs = workspace_root().join("docs");
    let page = fs::read_to_string(docs.join("server.md")).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(docs.join("examples")).unwrap().map(|file| file.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 4, "each is run here: {names:?}");
    for file in names {
        let text = fs::read_to_string(&file).unwrap();
        assert!(page.contains(&format!("\n{text}```\n")), "{} is not in server.md", file.display());
    }
}
