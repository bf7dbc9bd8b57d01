//! What several modules need: `larder serve` as a process, keys, and tests once per Nix version.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use larder_formats::{
    narinfo::NarInfo,
    signature::SecretKey,
    store_path::{StoreDir, StorePath},
};
use larder_testkit::{
    Background, Finished, Nix, NixVersion, Program, TestStore, process::built_program,
    scratch::scratch,
};
use tempfile::TempDir;

use crate::http;

/// Makes one test of each claim for each Nix version, so that a failure names the version.
macro_rules! with_every_client {
    ($($claim:ident),+ $(,)?) => {
        mod nix_2_8 {
            $(#[test] fn $claim() { super::$claim(larder_testkit::NixVersion::V2_8); })+
        }
        mod nix_2_26 {
            $(#[test] fn $claim() { super::$claim(larder_testkit::NixVersion::V2_26); })+
        }
        mod nix_2_34 {
            $(#[test] fn $claim() { super::$claim(larder_testkit::NixVersion::V2_34); })+
        }
    };
}
pub(crate) use with_every_client;

/// `larder serve`, on a port of the system's choice unless its settings say otherwise.
pub(crate) struct Server {
    process: Background,
    folder: TempDir,
    address: String,
}

impl Server {
    /// Serves a store with nothing else configured.
    pub(crate) fn of(store: &TestStore) -> Self {
        Self::with(store, "")
    }

    /// Serves a store with more lines below `[serve]`.
    pub(crate) fn with(store: &TestStore, lines: &str) -> Self {
        let folder = scratch("server");
        let config = configure(folder.path(), &store.uri(), lines);
        Self::started(folder, serve(&config).spawn())
    }

    /// The same, with more in its environment.
    pub(crate) fn with_environment(
        store: &TestStore,
        lines: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let folder = scratch("server");
        let config = configure(folder.path(), &store.uri(), lines);
        let program = environment
            .iter()
            .fold(serve(&config), |program, (name, value)| program.env(name, value));
        Self::started(folder, program.spawn())
    }

    /// The same, started by another program, which replaces itself by the one it is given.
    pub(crate) fn behind(store: &TestStore, lines: &str, starter: &[&str]) -> Self {
        let folder = scratch("server");
        let config = configure(folder.path(), &store.uri(), lines);
        let words = [built_program("larder"), "serve".into(), "--config".into(), config];
        let program = Program::new(starter[0]).args(&starter[1..]).args(words);
        Self::started(folder, program.spawn())
    }

    fn started(folder: TempDir, mut process: Background) -> Self {
        let line = process.wait_for_line("listening on 127.0.0.1:");
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { process, folder, address }
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        let config = self.folder.path().join("larder.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("127.0.0.1:0", &self.address)).unwrap();
        self.process = serve(&config).spawn();
        self.process.wait_for_port(&self.address.clone());
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its configuration lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn process(&mut self) -> &mut Background {
        &mut self.process
    }

    /// The narinfo of a full store path.
    pub(crate) fn narinfo(&self, path: &str) -> NarInfo {
        let target = format!("/{}.narinfo", parse(path).hash());
        let answer = http::get(&self.address, &target);
        assert_eq!(answer.status, 200, "{target}");
        NarInfo::parse(&answer.text(), &StoreDir::default()).unwrap()
    }

    /// Where the NAR of a full store path is: `/nar/…`.
    pub(crate) fn nar_target(&self, path: &str) -> String {
        format!("/{}", self.narinfo(path).url)
    }
}

/// Writes a configuration for a server.
pub(crate) fn configure(folder: &Path, store: &str, lines: &str) -> PathBuf {
    let says = lines.lines().any(|line| line.starts_with("listen ="));
    let listen = if says { "" } else { "listen = [\"127.0.0.1:0\"]\n" };
    let config = folder.join("larder.toml");
    let text = format!(
        "state-dir = \"{}/state\"\n[serve]\nstore = \"{store}\"\n{listen}{lines}\n",
        folder.display()
    );
    fs::write(&config, text).unwrap();
    config
}

/// The program that serves by this configuration.
pub(crate) fn serve(config: &Path) -> Program {
    Program::new(built_program("larder")).args(["serve", "--config"]).arg(config)
}

/// A signing key in a file that only its owner reads.
pub(crate) struct Key {
    pub(crate) file: PathBuf,
    pub(crate) public: String,
}

impl Key {
    pub(crate) fn new(folder: &Path, name: &str, seed: u8) -> Self {
        let key = SecretKey::from_seed(name, [seed; 32]).unwrap();
        let file = folder.join(format!("{name}-{seed}.key"));
        fs::write(&file, key.expose().as_bytes()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Self { file, public: key.public().to_string() }
    }
}

/// The setting that signs with these keys.
pub(crate) fn signing(keys: &[&Key]) -> String {
    let files: Vec<String> = keys.iter().map(|key| format!("\"{}\"", key.file.display())).collect();
    format!("signing-keys = [{}]", files.join(", "))
}

/// An empty store that substitutes from there and trusts these keys.
pub(crate) fn client(version: NixVersion, url: &str, trusted: &[&str]) -> TestStore {
    let keys = trusted.join(" ");
    let lines = format!("substituters = {url}\ntrusted-public-keys = {keys}\nfallback = false");
    TestStore::with_config(version, &lines)
}

/// Has a client fetch a path.
pub(crate) fn realise(client: &TestStore, path: &str) -> Finished {
    client.nix(&["nix-store", "--realise", path])
}

pub(crate) fn parse(path: &str) -> StorePath {
    StoreDir::default().parse(path).unwrap()
}

/// The NAR that Nix itself makes of a path.
pub(crate) fn nix_dump(store: &TestStore, path: &str) -> Vec<u8> {
    let real = store.real_path(path);
    store.nix(&["nix-store", "--dump", real.to_str().unwrap()]).success().stdout_bytes
}
