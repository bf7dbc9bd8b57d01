//! `larder push`: what it is told to send it sends, and it says beforehand what that is.

mod elsewhere;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

use larder_testkit::{
    Finished, Nix, NixVersion, Program, TestStore, Tree, process::path_with, tree::random_bytes,
};

/// A store, and a cache `main` in a folder.
struct Sender {
    store: TestStore,
}

impl Sender {
    fn new(version: NixVersion) -> Self {
        let sender = Self { store: TestStore::new(version) };
        let _ = sender.store.nix(&["nix-store", "--init"]).success();
        let text = format!(
            "state-dir = {:?}\n[serve]\nstore = {:?}\n\
             [[cache]]\nname = \"main\"\nurl = {:?}\n\
             [push]\nto = [\"main\"]\ntrusted-upstreams = []\n",
            sender.store.work_dir().join("state"),
            sender.store.root(),
            sender.cache(),
        );
        fs::write(sender.config(), text).unwrap();
        sender
    }

    fn config(&self) -> PathBuf {
        self.store.work_dir().join("larder.toml")
    }

    fn cache(&self) -> PathBuf {
        self.store.work_dir().join("cache")
    }

    fn program(&self, words: &[&str]) -> Program {
        let program = self.store.program(env!("CARGO_BIN_EXE_larder"));
        program.env("LARDER_CONFIG", self.config()).arg("push").args(words)
    }

    fn push(&self, words: &[&str]) -> Finished {
        self.program(words).run()
    }

    fn chain(&self, length: usize) -> Vec<String> {
        self.store.add_closure("chain", length, 30_000)
    }

    fn count(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.cache()) else { return 0 };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".narinfo")).count()
    }

    /// A second machine with this Nix takes a path from the cache.
    fn is_had_by(&self, version: NixVersion, path: &str) -> bool {
        let client = TestStore::new(version);
        let from = format!("file://{}", self.cache().display());
        client.nix(&["nix", "copy", "--no-check-sigs", "--from", &from, path]).ok()
    }
}

#[test]
fn a_closure_is_planned_sent_and_had_by_every_nix() {
    let sender = Sender::new(NixVersion::V2_34);
    let chain = sender.chain(4);
    let top = chain.last().unwrap();
    let planned = sender.push(&["--dry-run", top]).success();
    assert!(planned.stdout.starts_with("main: 4 paths to send ("), "{planned}");
    assert!(!sender.cache().exists(), "nothing was written");
    let first = sender.push(&[&chain[1]]).success();
    assert!(first.stdout.contains("main: 2 paths sent"), "{first}");
    let rest = sender.push(&[top]).success();
    assert!(rest.stdout.contains("main: 2 paths to send"), "{rest}");
    assert!(rest.stdout.contains("; 2 there already"), "{rest}");
    let again = sender.push(&[top]).success();
    assert!(again.stdout.starts_with("main: nothing to send; 4 there already"), "{again}");
    for version in NixVersion::all() {
        assert!(sender.is_had_by(version, top), "{version}");
    }
}

#[test]
fn paths_are_named_in_all_the_ways_people_do() {
    for version in NixVersion::all() {
        let sender = Sender::new(version);
        let chain = sender.chain(3);
        // A link, as `nix build` makes them.
        let link = sender.store.work_dir().join("result");
        symlink(&chain[0], &link).unwrap();
        let _ = sender.push(&["./result"]).success();
        assert_eq!(sender.count(), 1, "{version}");
        // A file in a store path.
        let _ = sender.push(&["--no-closure", &format!("{}/content", chain[1])]).success();
        assert_eq!(sender.count(), 2, "{version}");
        let _ = sender.program(&["--stdin"]).stdin(format!("{}\n\n", chain[2])).run().success();
        assert_eq!(sender.count(), 3, "{version}");
        let _ = sender.push(&["--to", &format!("file://{}", sender.cache().display()), &chain[2]]);
        assert_eq!(sender.count(), 3, "{version}: the same cache by its URL");
        // An installable, which is built first.
        let flake = sender.store.work_dir().join("flake");
        fs::create_dir(&flake).unwrap();
        let text = format!(
            "{{ outputs = _: {{ packages.{system}.made = derivation {{ name = \"made\"; \
             system = \"{system}\"; builder = \"/bin/sh\"; args = [ \"-c\" \"echo made > $out\" ]; \
             }}; }}; }}",
            system = larder_testkit::nix::system(),
        );
        fs::write(flake.join("flake.nix"), text).unwrap();
        let _ = sender.push(&[&format!("{}#made", flake.display())]).success();
        assert_eq!(sender.count(), 4, "{version}");
    }
}

#[test]
fn the_running_system_is_pushed() {
    let sender = Sender::new(NixVersion::V2_26);
    let chain = sender.chain(2);
    let script = format!(
        "set -eu\nmount -t tmpfs tmpfs /run\nln -s {} /run/current-system\nexec {} push --system\n",
        chain[1],
        env!("CARGO_BIN_EXE_larder"),
    );
    let program = sender.store.program("/usr/bin/env").env("LARDER_CONFIG", sender.config());
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script];
    let _ = program.args(words).run().success();
    assert_eq!(sender.count(), 2);
}

#[test]
fn what_cannot_be_meant_is_said_with_its_remedy() {
    let sender = Sender::new(NixVersion::V2_34);
    let path = &sender.chain(1)[0];
    let gone = "/nix/store/00000000000000000000000000000000-gone";
    for (words, part) in [
        (vec![], "say what to push"),
        (vec!["/etc/hostname"], "is not in /nix/store"),
        (vec![gone], "not in the store"),
        (vec!["--to", "mian", path], "Configured: main"),
        (vec!["--to", "cachix:../x", path], "NAME.cachix.org"),
        (vec!["--to", "s3://x", path], "AWS_ACCESS_KEY_ID"),
    ] {
        // No machine in the internet is asked whether it has the bucket's credentials.
        let told = sender.program(&words).env("AWS_EC2_METADATA_DISABLED", "true").run().failure();
        assert!(told.stderr.contains(part), "{words:?}: {told}");
        assert!(told.stderr.starts_with("larder: "), "{words:?}: {told}");
    }
    assert_eq!(sender.count(), 0);
    // A folder that somebody keeps other things in is no cache, and stays as it is.
    let _ = fs::remove_dir_all(sender.cache());
    fs::create_dir(sender.cache()).unwrap();
    fs::write(sender.cache().join("letter.txt"), "dear").unwrap();
    let told = sender.push(&[path]).failure();
    assert!(told.stderr.contains(&sender.cache().display().to_string()), "{told}");
    assert_eq!(fs::read_dir(sender.cache()).unwrap().count(), 1, "{told}");
}

#[test]
fn a_secret_is_found_before_anything_is_sent() {
    let sender = Sender::new(NixVersion::V2_34);
    let key = sender.store.work_dir().join("key");
    let generate = ["-q", "-t", "ed25519", "-N", "", "-f"];
    let _ = Program::new("ssh-keygen").args(generate).arg(&key).run().success();
    let tree = Tree::new().file("etc/id_test", fs::read(&key).unwrap());
    let secret = sender.store.add_tree("secret", &tree);
    let top = sender.store.add_tree_referring("top", &Tree::new(), std::slice::from_ref(&secret));
    let told = sender.push(&[&top]);
    assert_eq!(told.code(), 5, "{told}");
    assert!(told.stderr.contains("etc/id_test") && told.stderr.contains("-secret/etc"), "{told}");
    assert_eq!(sender.count(), 0);
    let _ = sender.push(&["--allow-secret", "path secret etc/*", &top]).success();
    assert_eq!(sender.count(), 2);
}

#[test]
fn build_time_needs_go_along_when_asked_for() {
    let sender = Sender::new(NixVersion::V2_34);
    let built = sender.store.build_expr(&format!(
        "let make = name: needs: derivation {{ inherit name needs; system = \"{}\"; builder = \"/bin/sh\"; \
         args = [ \"-c\" \"echo {{}} > $out\" ]; }}; in make \"program\" (make \"compiler\" \"\")",
        larder_testkit::nix::system(),
    ));
    let _ = sender.push(&[&built[0]]).success();
    assert_eq!(sender.count(), 1);
    let _ = sender.push(&["--build-closure", &built[0]]).success();
    assert_eq!(sender.count(), 2, "the compiler, too");
    let files = fs::read_dir(sender.cache()).unwrap();
    let names = files.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default());
    assert!(names.into_iter().any(|text| text.contains("-compiler\n")));
    let source = sender.store.add_source("source", &Tree::new().file("x", "y"));
    let told = sender.push(&["--build-closure", &source]).failure();
    assert!(told.stderr.contains("without `--build-closure`"), "{told}");
}

#[test]
fn cachix_is_run_as_its_user_would() {
    let sender = Sender::new(NixVersion::V2_34);
    let chain = sender.chain(2);
    let empty = sender.store.work_dir().join("no-programs");
    fs::create_dir(&empty).unwrap();
    let nix = sender.store.version().bin_dir();
    let to = ["--to", "cachix:fleet", chain[1].as_str()];
    let told = sender.program(&to).env("PATH", &nix).run().failure();
    assert!(told.stderr.contains("install it"), "{told}");
    // Says what it was asked for.
    let stand_in = empty.join("cachix");
    let record = sender.store.work_dir().join("asked");
    let script = format!("#!/bin/sh\nfor word; do echo \"$word\"; done > {}\n", record.display());
    fs::write(&stand_in, script).unwrap();
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = sender.program(&to).env("PATH", path_with(&empty)).run().success();
    let asked = fs::read_to_string(&record).unwrap();
    assert_eq!(asked.lines().collect::<Vec<_>>(), ["push", "fleet", chain[1].as_str()]);
    // It is public: secrets are looked for.
    fs::remove_file(&record).unwrap();
    let token = format!("ghp_{}", "0123456789abcdefghijABCDEFGHIJ012345");
    let key = sender.store.work_dir().join("key");
    let generate = ["-q", "-t", "ed25519", "-N", "", "-f"];
    let _ = Program::new("ssh-keygen").args(generate).arg(&key).run().success();
    let tree = Tree::new().file("token", token).file("key", fs::read(&key).unwrap());
    let secret = sender.store.add_tree("secret", &tree);
    let to = ["--to", "cachix:fleet", secret.as_str()];
    let told = sender.program(&to).env("PATH", path_with(&empty)).run();
    assert_eq!(told.code(), 5, "{told}");
    assert!(!record.exists());
    // What it says when it fails is passed on.
    fs::write(&stand_in, "#!/bin/sh\necho 'no such cache' >&2; exit 1\n").unwrap();
    let to = ["--to", "cachix:fleet", chain[1].as_str()];
    let told = sender.program(&to).env("PATH", path_with(&empty)).run().failure();
    assert!(told.stderr.contains("no such cache"), "{told}");
}

#[test]
fn interrupted_again_and_again_it_sends_no_nar_twice() {
    let sender = Sender::new(NixVersion::V2_34);
    let mut paths = Vec::new();
    for n in 0..10 {
        let tree = Tree::new().file("content", random_bytes(n, 3_000_000));
        paths.push(sender.store.add_tree(&format!("path-{n}"), &tree));
    }
    let words: Vec<&str> = paths.iter().map(String::as_str).collect();
    let nars = || -> Vec<(String, std::time::SystemTime)> {
        let Ok(entries) = fs::read_dir(sender.cache().join("nar")) else { return Vec::new() };
        let entries = entries.map(|entry| entry.unwrap());
        let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry));
        let finished =
            named.filter(|(name, _)| name.ends_with(".nar.zst") && !name.starts_with('.'));
        finished
            .map(|(name, entry)| (name, entry.metadata().unwrap().modified().unwrap()))
            .collect()
    };
    let mut interruptions = 0;
    while sender.count() < paths.len() {
        let before = nars();
        let mut push = sender.program(&words).spawn();
        sleep(Duration::from_millis(100 + 40 * interruptions));
        interruptions += u64::from(push.is_running());
        push.kill();
        let after = nars();
        assert!(before.iter().all(|file| after.contains(file)), "none is written again");
        assert!(interruptions < 100, "it gets on");
    }
    assert!(interruptions > 1, "it was interrupted");
    assert_eq!(nars().len(), paths.len());
    assert!(sender.is_had_by(NixVersion::V2_8, &paths[9]));
}
