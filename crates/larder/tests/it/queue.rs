//! What Nix builds is pushed by itself: handed in by the hook, kept through whatever happens, sent by one process.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use larder_testkit::{Background, Nix, NixVersion, Program, TestStore, Tree, tree::random_bytes};

/// A machine that builds, with a cache `main` in a folder.
struct Builder {
    store: TestStore,
}

impl Builder {
    fn new(version: NixVersion) -> Self {
        let builder = Self { store: TestStore::new(version) };
        let hook = builder.store.work_dir().join("hook");
        let larder = env!("CARGO_BIN_EXE_larder");
        let script =
            format!("#!/bin/sh\nexec {larder} --config {} hook\n", builder.config().display());
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        builder.store.configure(&format!("post-build-hook = {}", hook.display()));
        // A Nix that is installed has a database, if an empty one.
        let _ = builder.store.nix(&["nix-store", "--init"]).success();
        builder.configure("", "");
        builder
    }

    /// Writes the configuration, with more lines for the cache and more for `[push]`.
    fn configure(&self, cache: &str, push: &str) {
        let text = format!(
            "state-dir = {:?}\n[serve]\nstore = {:?}\nlisten = [\"127.0.0.1:0\"]\n\
             [build]\npin-built = \"off\"\n\
             [[cache]]\nname = \"main\"\nurl = {:?}\nreadable-by-others = false\nlevel = 1\n{cache}\n\
             [push]\nto = [\"main\"]\ntrusted-upstreams = []\n{push}\n",
            self.state_dir(),
            self.store.root(),
            self.cache(),
        );
        fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.store.work_dir().join("larder.toml")
    }

    fn state_dir(&self) -> PathBuf {
        self.store.work_dir().join("state")
    }

    fn cache(&self) -> PathBuf {
        self.store.work_dir().join("cache")
    }

    fn queue(&self) -> PathBuf {
        self.store.state_dir().join("gcroots/larder/queue")
    }

    fn larder(&self, words: &[&str]) -> Program {
        let program = self.store.program(env!("CARGO_BIN_EXE_larder"));
        program.env("LARDER_CONFIG", self.config()).args(words)
    }

    fn watch(&self) -> Background {
        self.larder(&["push", "--watch"]).spawn()
    }

    fn build(&self, name: &str) -> String {
        let seed = name.bytes().map(u64::from).sum();
        self.store.add_tree(name, &Tree::new().file("content", random_bytes(seed, 20_000)))
    }

    fn has(&self, path: &str) -> bool {
        let base = path.rsplit('/').next().unwrap();
        self.cache().join(format!("{}.narinfo", &base[..32])).exists()
    }

    /// Waits until the cache has it and nothing waits any more.
    fn wait_until_sent(&self, path: &str) {
        wait_until(&format!("{path} is sent"), || self.has(path) && self.waiting().is_empty());
    }

    /// The base names of what waits, for whomever.
    fn waiting(&self) -> Vec<String> {
        ["new", "to/main"].iter().flat_map(|folder| names(&self.queue().join(folder))).collect()
    }

    /// A second machine that takes a path from the cache.
    fn is_had_by(&self, version: NixVersion, path: &str) -> bool {
        let client = TestStore::with_config(version, "require-sigs = false");
        let from = format!("file://{}", self.cache().display());
        client.nix(&["nix", "copy", "--no-check-sigs", "--from", &from, path]).ok()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not after a minute: {what}");
        sleep(Duration::from_millis(50));
    }
}

fn base(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn what_every_nix_builds_is_handed_in_kept_from_its_collector_and_pushed() {
    for version in NixVersion::all() {
        let builder = Builder::new(version);
        let path = builder.build("built");
        assert_eq!(names(&builder.queue().join("new")), [base(&path)], "{version}");
        let _ = builder.store.nix(&["nix-store", "--gc"]).success();
        assert!(builder.store.is_valid(&path), "{version}: what waits is a root");
        let mut watch = builder.watch();
        builder.wait_until_sent(&path);
        assert!(builder.is_had_by(version, &path), "{version}");
        let next = builder.build("next");
        builder.wait_until_sent(&next);
        assert_eq!(watch.stop(), 0);
        let _ = builder.store.nix(&["nix-store", "--gc"]).success();
        assert!(!builder.store.is_valid(&path), "{version}: what was sent is none any more");
    }
}

#[test]
fn the_hook_never_stops_a_build() {
    let builder = Builder::new(NixVersion::V2_34);
    let hook = |program: Program| program.args(["hook"]).run().success().stderr;
    let said = hook(builder.larder(&[]));
    assert!(said.contains("post-build-hook"), "{said}");
    let said = hook(builder.larder(&[]).env("OUT_PATHS", "/etc/passwd ../x"));
    assert!(said.contains("/etc/passwd"), "{said}");
    builder.configure("", "");
    let text = fs::read_to_string(builder.config()).unwrap();
    fs::write(builder.config(), text.replace("to = [\"main\"]", "")).unwrap();
    let path = builder.build("for-nobody");
    assert_eq!(builder.waiting(), [""; 0], "nobody would ever fetch {path}");
    // What is wrong with the configuration can be put right later. Where the store is can be told by it alone.
    fs::write(builder.config(), "[[cache]\n").unwrap();
    let out = "/nix/store/00000000000000000000000000000000-x";
    let program = builder.larder(&[]).env("OUT_PATHS", out).env("NIX_REMOTE", builder.store.root());
    let said = hook(program);
    assert!(said.contains("larder.toml"), "{said}");
    assert_eq!(builder.waiting(), [base(out)]);
}

#[test]
fn a_derivation_whose_outputs_nobody_names_is_looked_up() {
    let builder = Builder::new(NixVersion::V2_34);
    let path = builder.build("built");
    let deriver = builder.store.nix(&["nix-store", "-q", "--deriver", &path]).success();
    let deriver = deriver.text().to_owned();
    fs::remove_file(builder.queue().join("new").join(base(&path))).unwrap();
    let _ = builder.larder(&["hook"]).env("DRV_PATH", &deriver).run().success();
    assert_eq!(builder.waiting(), [base(&path)]);
    // Handed in as it is while the database could not be read, it is looked up later.
    fs::remove_file(builder.queue().join("new").join(base(&path))).unwrap();
    fs::write(builder.queue().join("new").join(base(&deriver)), "").unwrap();
    let _watch = builder.watch();
    builder.wait_until_sent(&path);
    assert!(!builder.has(&deriver), "nobody needs the derivation");
}

#[test]
fn a_full_disk_keeps_nothing_from_being_handed_in() {
    let builder = Builder::new(NixVersion::V2_34);
    let path = builder.build("built");
    fs::remove_file(builder.queue().join("new").join(base(&path))).unwrap();
    // A file system without room for another file, and a /run that nobody else sees.
    let script = format!(
        "set -eu\nmount -t tmpfs -o nr_inodes=3 tmpfs {queue}\nmkdir {queue}/new\n\
         touch {queue}/new/last\nmount -t tmpfs tmpfs /run\n\
         OUT_PATHS={path} {larder} hook\nls {queue}/new /run/larder/queue\numount {queue}\n\
         timeout 5 {larder} push --watch & sleep 4\nls /run/larder/queue\n",
        queue = builder.queue().display(),
        larder = env!("CARGO_BIN_EXE_larder"),
    );
    let program = builder.store.program("/usr/bin/env").env("LARDER_CONFIG", builder.config());
    let program = program.args(["unshare", "--mount", "--propagation", "private", "sh", "-c"]);
    let finished = program.arg(script).run().success();
    assert!(finished.stdout.contains(&base(&path)), "{finished}");
    assert!(builder.has(&path), "it went from there to the cache: {finished}");
    let left = finished.stdout.lines().last().unwrap();
    assert!(!left.contains(&base(&path)), "and is gone from there: {finished}");
}

#[test]
fn a_target_that_is_down_loses_nothing_and_is_told_of() {
    let builder = Builder::new(NixVersion::V2_34);
    // Where the cache should be is a file.
    fs::write(builder.cache(), "not a folder").unwrap();
    let path = builder.build("built");
    let before = builder.larder(&["push", "--status"]).run();
    assert_eq!(before.code(), 3, "{before}");
    assert!(before.stdout.contains("nobody is at work"), "{before}");
    let _watch = builder.watch();
    let status = || builder.larder(&["push", "--status"]).run();
    wait_until("it is told", || status().stdout.contains("tried again at"));
    let told = status();
    assert_eq!(told.code(), 3);
    assert!(told.stdout.contains("main: 1 path waits"), "{told}");
    assert!(told.stdout.contains(&builder.cache().display().to_string()), "{told}");
    let other = builder.build("other");
    fs::remove_file(builder.cache()).unwrap();
    builder.wait_until_sent(&path);
    builder.wait_until_sent(&other);
    wait_until("the trouble is over", || status().code() == 0);
    assert_eq!(status().stdout.trim(), "main: nothing waits");
}

#[test]
fn killed_at_any_moment_the_next_one_sends_the_rest_and_nothing_twice() {
    let builder = Builder::new(NixVersion::V2_34);
    let paths: Vec<String> = (0..12)
        .map(|n| {
            let tree = Tree::new().file("content", random_bytes(n, 400_000));
            builder.store.add_tree(&format!("path-{n}"), &tree)
        })
        .collect();
    let mut killed = 0;
    while !builder.waiting().is_empty() && killed < 100 {
        let mut watch = builder.watch();
        sleep(Duration::from_millis(20 + 8 * killed));
        watch.kill();
        killed += 1;
    }
    assert!(killed > 1, "it was interrupted");
    let _watch = builder.watch();
    for path in &paths {
        builder.wait_until_sent(path);
    }
    let nars = names(&builder.cache().join("nar"));
    let files = nars.iter().filter(|name| !name.starts_with('.'));
    assert_eq!(files.count(), paths.len(), "one file each: {nars:?}");
    assert!(paths.iter().all(|path| builder.is_had_by(NixVersion::V2_26, path)));
}

#[test]
fn one_process_sends_and_the_server_is_as_good_as_a_watcher() {
    let builder = Builder::new(NixVersion::V2_34);
    let mut server = builder.larder(&["serve"]).spawn();
    let line = server.wait_for_line("listening on 127.0.0.1:");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    let path = builder.build("built");
    builder.wait_until_sent(&path);
    let second = builder.larder(&["push", "--watch"]).run();
    assert_eq!(second.code(), 75, "{second}");
    assert!(second.stderr.contains("another process sends"), "{second}");
    let metrics = || {
        let url = format!("http://{address}/metrics");
        Program::new("curl").args(["-sf", &url]).run().success().stdout
    };
    wait_until("it is counted", || {
        metrics().contains("larder_push_waiting_paths{cache=\"main\"} 0")
    });
    assert!(metrics().contains("larder_pushed_paths_total{cache=\"main\"} 1"), "{}", metrics());
    // A reload hands the work over to itself.
    server.signal(Signal::HUP);
    let next = builder.build("next");
    builder.wait_until_sent(&next);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_secret_keeps_back_what_refers_to_it_and_nothing_else() {
    let builder = Builder::new(NixVersion::V2_34);
    builder.configure("", "");
    let text = fs::read_to_string(builder.config()).unwrap();
    let open = text.replace("readable-by-others = false\n", "");
    fs::write(builder.config(), &open).unwrap();
    let token = format!("ghp_{}\n", "0123456789abcdefghijABCDEFGHIJ012345");
    let key = builder.store.work_dir().join("id_test");
    let generate = ["-q", "-t", "ed25519", "-N", "", "-f"];
    let _ = Program::new("ssh-keygen").args(generate).arg(&key).run().success();
    let tree = Tree::new().file("id_test", fs::read(&key).unwrap()).file("token", token);
    let secret = builder.store.add_tree("secret", &tree);
    let tree = Tree::new().file("content", "refers");
    let referrer =
        builder.store.add_tree_referring("referrer", &tree, std::slice::from_ref(&secret));
    let harmless = builder.build("harmless");
    let mut watch = builder.watch();
    wait_until("the harmless one is sent", || builder.has(&harmless));
    let status = || builder.larder(&["push", "--status"]).run();
    wait_until("it is told", || status().stdout.contains("refused"));
    let told = status();
    assert_eq!(told.code(), 3);
    assert!(told.stdout.contains("id_test"), "the file is named: {told}");
    assert!(told.stdout.contains("referrer"), "and who refers to it: {told}");
    assert!(!builder.has(&secret) && !builder.has(&referrer));
    assert!(builder.store.is_valid(&secret));
    // Dropped, it is gone from the queue; allowed, it is sent after a restart.
    let forget = ["push", "--forget", "--to", "main", referrer.as_str()];
    let _ = builder.larder(&forget).run().success();
    assert_eq!(builder.waiting(), [base(&secret)]);
    assert_eq!(watch.stop(), 0);
    fs::write(builder.config(), open.replace("level = 1", "allow-secrets = [\"path secret **\"]"))
        .unwrap();
    let _watch = builder.watch();
    builder.wait_until_sent(&secret);
}

#[test]
fn on_request_every_new_path_of_the_store_is_pushed() {
    let builder = Builder::new(NixVersion::V2_34);
    let text = fs::read_to_string(builder.config()).unwrap();
    fs::write(builder.config(), text + "watch-store = true\n").unwrap();
    let old = builder.store.add_source("old", &Tree::new().file("x", "before"));
    let mut watch = builder.watch();
    wait_until("it has looked", || builder.state_dir().join("push/last-path").exists());
    let source = builder.store.add_source("source", &Tree::new().file("x", "from elsewhere"));
    builder.wait_until_sent(&source);
    assert!(!builder.has(&old), "what was there before is not new");
    // What is added while nobody looks is seen later.
    assert_eq!(watch.stop(), 0);
    let missed = builder.store.add_source("missed", &Tree::new().file("x", "meanwhile"));
    let _watch = builder.watch();
    builder.wait_until_sent(&missed);
}
