//! `larder why`: each verdict where exactly that is broken, on a real Nix, and not where its neighbour is.

mod caches;
mod daemon;
mod differences;
mod proxy;
mod settings;

use std::{fs, path::PathBuf};

use larder_formats::signature::SecretKey;
use larder_testkit::{
    Finished, Nix, NixVersion, Program, TestStore, nginx::Nginx, nix::system, scratch::scratch,
};
use serde_json::Value;
use tempfile::TempDir;

/// A package that both know, `hello-1.0`, with more attributes.
pub(crate) fn hello(attributes: &str) -> String {
    package("hello-1.0", attributes)
}

/// A package with more attributes.
pub(crate) fn package(name: &str, attributes: &str) -> String {
    format!(
        "derivation {{ name = \"{name}\"; system = \"{}\"; builder = \"/bin/sh\"; \
         args = [ \"-c\" \"echo $name > $out\" ]; {attributes} }}",
        system()
    )
}

/// A key by that name.
pub(crate) fn key(name: &str, seed: u8) -> SecretKey {
    SecretKey::from_seed(name, [seed; 32]).unwrap()
}

/// Somebody who builds and fills a static cache, and a client who knows the key `origin-1`.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) origin: TestStore,
    pub(crate) client: TestStore,
}

impl World {
    pub(crate) fn new(version: NixVersion) -> Self {
        let world = Self {
            folder: scratch("why"),
            origin: TestStore::new(NixVersion::V2_34),
            client: TestStore::new(version),
        };
        fs::write(world.folder.path().join("key"), key("origin-1", 1).expose().as_bytes()).unwrap();
        let _ = world.client.nix(&["nix-store", "--init"]).success();
        world.configure("");
        // A cache that has something, and says what it is.
        world.publish(&package("other", ""), true);
        world
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub(crate) fn served(&self) -> Nginx {
        Nginx::files(&self.cache())
    }

    /// Builds it and puts it into the cache, signed by `origin-1` or by nobody; its path.
    pub(crate) fn publish(&self, expression: &str, signed: bool) -> String {
        let path = self.origin.build_expr(expression).remove(0);
        self.put(&path, signed);
        path
    }

    /// Puts a path of the origin's into the cache.
    pub(crate) fn put(&self, path: &str, signed: bool) {
        let key = self.folder.path().join("key");
        let key = if signed { format!("&secret-key={}", key.display()) } else { String::new() };
        let url = format!("file://{}?compression=none{key}", self.cache().display());
        let _ = self.origin.nix(&["nix", "copy", "--to", &url, path]).success();
    }

    /// The client's Larder knows this of the world.
    pub(crate) fn configure(&self, lines: &str) {
        let text = format!(
            "state-dir = {:?}\n[serve]\nstore = {:?}\n{lines}\n",
            self.folder.path().join("state"),
            self.client.root()
        );
        fs::write(self.folder.path().join("larder.toml"), text).unwrap();
    }

    /// The client asks these, and trusts `origin-1`.
    pub(crate) fn asks(&self, urls: &[&str]) {
        self.asks_with(urls, "");
    }

    /// The same with more lines in nix.conf.
    pub(crate) fn asks_with(&self, urls: &[&str], lines: &str) {
        let keys = key("origin-1", 1).public();
        self.client.configure(&format!(
            "substituters = {}\ntrusted-public-keys = {keys}\nconnect-timeout = 2\n\
             download-attempts = 1\n{lines}\n",
            urls.join(" ")
        ));
    }

    /// The derivation, at the client, who has not built it.
    pub(crate) fn wanted(&self, expression: &str) -> String {
        self.client.nix(&["nix-instantiate", "-E", expression]).success().text().to_owned()
    }

    pub(crate) fn program(&self, args: &[&str]) -> Program {
        let program = self.client.program(env!("CARGO_BIN_EXE_larder"));
        program.env("LARDER_CONFIG", self.folder.path().join("larder.toml")).arg("why").args(args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        self.program(args).run()
    }

    /// What is said of it, for programs.
    pub(crate) fn why(&self, args: &[&str]) -> Value {
        let told = self.run(&[args, &["--json"]].concat());
        assert!([0, 3].contains(&told.code()), "{told}");
        let said: Value = serde_json::from_str(&told.stdout).unwrap();
        let first = said["subject"]["verdicts"][0]["kind"].as_str().unwrap_or_default();
        let well = ["here", "downloaded"].contains(&first);
        assert_eq!(told.code(), if well { 0 } else { 3 }, "{told}");
        said
    }

    /// The kinds of verdicts on it, the nearest first.
    pub(crate) fn kinds(&self, what: &str) -> Vec<String> {
        kinds(&self.why(&[what])["subject"])
    }

    /// What Nix itself would do.
    pub(crate) fn nix_would(&self, derivation: &str) -> Would {
        let told = self.client.nix(&["nix-store", "--realise", "--dry-run", derivation]);
        if told.stderr.contains("will be fetched") {
            Would::Fetch
        } else if told.stderr.contains("will be built") {
            Would::Build
        } else {
            Would::Neither
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Would {
    Fetch,
    Build,
    Neither,
}

/// The kinds of verdicts on something.
pub(crate) fn kinds(subject: &Value) -> Vec<String> {
    let verdicts = subject["verdicts"].as_array().unwrap();
    verdicts.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect()
}
