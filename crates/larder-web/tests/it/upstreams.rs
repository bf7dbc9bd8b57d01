//! `larder proxy`: whatever becomes of its upstreams, Nix gets what any of them has, and an answer in time.

mod faults;
mod health;
mod kept;
mod kinds;
mod lan;
mod wrong;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use larder_testkit::{
    Background, Nix, NixVersion, Program, TestStore, Tree, nginx::Nginx, process::built_program,
    scratch::scratch, tree::random_bytes,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http,
    support::{Key, client, nix_dump, parse, realise, with_every_client},
};

with_every_client!(
    it_hands_out_what_an_upstream_has_as_it_is,
    it_hands_out_what_was_kept_when_every_upstream_is_gone,
    it_begins_with_everything_down,
);

/// A static cache in a folder, made by Nix itself.
pub(crate) struct Origin {
    pub(crate) folder: TempDir,
    pub(crate) key: Key,
    pub(crate) store: TestStore,
}

impl Origin {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let folder = scratch(name);
        let key = Key::new(folder.path(), &format!("{name}-1"), seed);
        Self { folder, key, store: TestStore::new(NixVersion::V2_34) }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Puts the closure of a path of this store there.
    pub(crate) fn publish(&self, store: &TestStore, path: &str, compression: &str) {
        let url = format!(
            "file://{}?secret-key={}&compression={compression}",
            self.root().display(),
            self.key.file.display()
        );
        let _ = store.nix(&["nix", "copy", "--to", &url, path]).success();
    }

    /// A closure of small and not so small paths.
    pub(crate) fn with_closure(self, compression: &str) -> (Self, String) {
        let chain = self.store.add_closure("chain", 4, 60_000);
        let large = self.store.add_tree("large", &Tree::new().file("x", random_bytes(3, 9 << 20)));
        let all = [chain[chain.len() - 1].clone(), large];
        let top = self.store.add_tree_referring("top", &Tree::odd(), &all);
        self.publish(&self.store, &top, compression);
        (self, top)
    }

    pub(crate) fn served(&self) -> Nginx {
        Nginx::files(&self.root())
    }

    /// Where the NAR of a path lies there.
    pub(crate) fn nar(&self, path: &str) -> PathBuf {
        let text = fs::read_to_string(self.narinfo(path)).unwrap();
        let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
        self.root().join(url)
    }

    pub(crate) fn narinfo(&self, path: &str) -> PathBuf {
        self.root().join(format!("{}.narinfo", parse(path).hash()))
    }
}

/// `larder proxy`, at work.
pub(crate) struct Proxy {
    pub(crate) process: Background,
    pub(crate) folder: TempDir,
    pub(crate) address: String,
}

/// One of those that it asks.
pub(crate) struct Asked<'a> {
    name: &'a str,
    urls: Vec<String>,
    key: &'a Key,
}

impl<'a> Asked<'a> {
    pub(crate) fn at(name: &'a str, url: impl Into<String>, key: &'a Key) -> Self {
        Self { name, urls: vec![url.into()], key }
    }

    /// The same cache, which has another address, too.
    pub(crate) fn or_at(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }
}

/// What has a proxy keep what it fetched.
pub(crate) const KEEPING: &str = "keep-size = \"1GB\"";

impl Proxy {
    /// One that asks these, with more lines below `[proxy]`.
    pub(crate) fn of(upstreams: &[Asked<'_>], lines: &str) -> Self {
        Self::with_environment(upstreams, lines, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn with_environment(
        upstreams: &[Asked<'_>],
        lines: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let folder = scratch("proxy");
        configure(folder.path(), upstreams, lines);
        Self::started(folder, environment)
    }

    /// One that has these sections, and nothing else, in its configuration.
    pub(crate) fn saying(sections: &str, environment: &[(&str, &str)]) -> Self {
        let folder = scratch("proxy");
        let text = format!(
            "state-dir = {:?}\n[proxy]\nlisten = [\"127.0.0.1:0\"]\n{sections}",
            folder.path().join("state"),
        );
        fs::write(folder.path().join("larder.toml"), text).unwrap();
        Self::started(folder, environment)
    }

    fn started(folder: TempDir, environment: &[(&str, &str)]) -> Self {
        let program = environment
            .iter()
            .fold(run(&folder.path().join("larder.toml")), |it, (name, value)| it.env(name, value));
        let mut process = program.spawn();
        let line = process.wait_for_line("listening on ");
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { process, folder, address }
    }

    /// Reads another configuration.
    pub(crate) fn reload(&mut self, upstreams: &[Asked<'_>], lines: &str) {
        configure(self.folder.path(), upstreams, lines);
        self.process.signal(rustix::process::Signal::HUP);
        let _ = self.process.wait_for_line("reloaded ");
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        let config = self.folder.path().join("larder.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("127.0.0.1:0", &self.address)).unwrap();
        self.process = run(&config).spawn();
        self.process.wait_for_port(&self.address.clone());
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn kept(&self) -> PathBuf {
        self.folder.path().join("state/proxy/kept")
    }

    /// The NARs that are kept, once there are so many of them with their narinfos.
    pub(crate) fn wait_for_kept(&self, count: usize) -> Vec<PathBuf> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let narinfos = files(&self.kept());
            let narinfos =
                narinfos.iter().filter(|it| it.extension().is_some_and(|it| it == "narinfo"));
            let (narinfos, nars) = (narinfos.count(), files(&self.kept().join("nar")));
            if (narinfos, nars.len()) == (count, count) {
                return nars;
            }
            assert!(Instant::now() < end, "{narinfos} narinfos, {nars:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it has the NAR of a path.
    pub(crate) fn nar(&self, path: &str) -> String {
        let info = http::get(&self.address, &target(path)).text();
        format!("/{}", info.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap())
    }

    /// The status of a narinfo that somebody asks for.
    pub(crate) fn asked(&self, path: &str) -> u16 {
        http::get(&self.address, &target(path)).status
    }

    /// How often an upstream did not answer.
    pub(crate) fn failures(&self, upstream: usize) -> u64 {
        self.status()["upstreams"][upstream]["addresses"][0]["failed"].as_u64().unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&http::get(&self.address, "/status").body).unwrap()
    }

    /// Waits until the first address of each upstream is in this state.
    pub(crate) fn wait_until(&self, health: &[&str]) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status();
            let upstreams = status["upstreams"].as_array().unwrap();
            let now: Vec<_> =
                upstreams.iter().map(|it| it["addresses"][0]["health"].as_str().unwrap()).collect();
            if now == health {
                return;
            }
            assert!(Instant::now() < end, "{status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The files in a folder, if there is one.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|it| it.unwrap().path())
        .filter(|it| it.is_file())
        .collect()
}

fn run(config: &Path) -> Program {
    Program::new(built_program("larder")).args(["proxy", "--config"]).arg(config)
}

fn configure(folder: &Path, upstreams: &[Asked<'_>], lines: &str) {
    let listen = if lines.contains("listen =") { "" } else { "listen = [\"127.0.0.1:0\"]\n" };
    let text = format!(
        "state-dir = \"{}\"\n[push]\nnetrc = \"/nowhere\"\n[proxy]\n{listen}{lines}\n{}",
        folder.join("state").display(),
        sections(upstreams)
    );
    fs::write(folder.join("larder.toml"), text).unwrap();
}

/// What a configuration says of upstreams.
pub(crate) fn sections(upstreams: &[Asked<'_>]) -> String {
    let mut text = String::new();
    for Asked { name, urls, key } in upstreams {
        let keys = &key.public;
        let _ = writeln!(
            text,
            "[[upstream]]\nname = {name:?}\nurls = {urls:?}\npublic-keys = [{keys:?}]"
        );
    }
    text
}

/// Has a client fetch a path and everything that it needs, and makes sure that it got what was there.
pub(crate) fn fetches(version: NixVersion, url: &str, origin: &Origin, path: &str) {
    let reader = client(version, url, &[&origin.key.public]);
    let _ = realise(&reader, path).success();
    for path in reader.closure(path) {
        assert!(nix_dump(&reader, &path) == nix_dump(&origin.store, &path), "{path}");
    }
}

/// Where the narinfo of a path is.
pub(crate) fn target(path: &str) -> String {
    format!("/{}.narinfo", parse(path).hash())
}

/// A path that nobody has.
pub(crate) const NOWHERE: &str = "/nix/store/0000000000000000000000000000000z-nowhere";

fn it_hands_out_what_an_upstream_has_as_it_is(version: NixVersion) {
    for compression in ["zstd", "none"] {
        let (origin, top) = Origin::new("origin", 1).with_closure(compression);
        let nginx = origin.served();
        let proxy = Proxy::of(&[Asked::at("origin", nginx.url(), &origin.key)], "");
        fetches(version, &proxy.url(), &origin, &top);
        let answer = http::get(&proxy.address, &target(&top));
        let text = answer.text();
        assert!(text.contains("\nCompression: none\n") && text.contains("\nURL: nar/"), "{text}");
        assert!(text.contains(&format!("?hash={}\n", parse(&top).hash())), "{text}");
    }
}

fn it_hands_out_what_was_kept_when_every_upstream_is_gone(version: NixVersion) {
    let (origin, top) = Origin::new("origin", 1).with_closure("zstd");
    let nginx = origin.served();
    let asked = [Asked::at("origin", nginx.url(), &origin.key)];
    let mut proxy = Proxy::of(&asked, KEEPING);
    fetches(version, &proxy.url(), &origin, &top);
    let nars = nginx.access_log().iter().filter(|line| line.contains("GET /nar/")).count();
    let paths = origin.store.closure(&top).len();
    assert_eq!(nars, paths, "each was fetched once");
    // What is not kept yet when it is killed is fetched again.
    let _ = proxy.wait_for_kept(paths);
    drop(nginx);
    proxy.restart();
    fetches(version, &proxy.url(), &origin, &top);
    // What is kept is a cache that any Nix reads.
    let kept = format!("file://{}", proxy.kept().display());
    fetches(version, &kept, &origin, &top);
}

fn it_begins_with_everything_down(version: NixVersion) {
    let (origin, top) = Origin::new("origin", 1).with_closure("zstd");
    let port = larder_testkit::nginx::free_port();
    let proxy =
        Proxy::of(&[Asked::at("origin", format!("http://127.0.0.1:{port}"), &origin.key)], "");
    assert_eq!(proxy.asked(NOWHERE), 404);
    let lines = format!("server {{ listen 127.0.0.1:{port}; root {}; }}", origin.root().display());
    let _nginx = Nginx::with_http_lines(&lines, port);
    proxy.wait_until(&["up"]);
    fetches(version, &proxy.url(), &origin, &top);
}
