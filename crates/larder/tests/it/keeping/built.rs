//! What was built here or elsewhere, and what edits are built with, survives Nix's own collector until its lease ends.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use larder_testkit::{Finished, Nix, NixVersion, TestStore, Tree, nix::system, sshd::Sshd};

use crate::build_server::{BuildServer, SmallFleet};

/// A machine whose Nix calls `larder hook`, and nothing is pushed.
struct Builder {
    store: TestStore,
}

impl Builder {
    fn new(version: NixVersion, pin_built: &str, nix_conf: &str) -> Self {
        let builder = Self { store: TestStore::new(version) };
        let text = format!(
            "state-dir = {:?}\n[serve]\nstore = {:?}\n[build]\npin-built = {pin_built:?}\n",
            builder.store.work_dir().join("state"),
            builder.store.root()
        );
        fs::write(builder.config(), text).unwrap();
        let hook = builder.store.work_dir().join("hook");
        let (larder, config) = (env!("CARGO_BIN_EXE_larder"), builder.config());
        let script = format!("#!/bin/sh\nexec {larder} --config {} hook\n", config.display());
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        builder.store.configure(&format!("post-build-hook = {}\n{nix_conf}", hook.display()));
        let _ = builder.store.nix(&["nix-store", "--init"]).success();
        builder
    }

    fn config(&self) -> PathBuf {
        self.store.work_dir().join("larder.toml")
    }

    fn larder(&self, words: &[&str]) -> Finished {
        let program = self.store.program(env!("CARGO_BIN_EXE_larder"));
        program.env("LARDER_CONFIG", self.config()).args(words).run()
    }

    fn roots(&self) -> PathBuf {
        self.store.state_dir().join("gcroots/larder/built")
    }
}

/// As a machine's nightly timer does.
fn collect(store: &TestStore) {
    let _ = store.nix(&["nix-collect-garbage", "--delete-older-than", "1d"]).success();
    let _ = store.nix(&["nix-store", "--gc"]).success();
}

/// Lets go of what has ended until that is one path more.
fn wait_for_the_end(builder: &Builder) {
    let begun = std::time::Instant::now();
    while !builder.larder(&["pin", "prune"]).success().stdout.contains("no longer kept") {
        assert!(begun.elapsed().as_secs() < 60, "a lease of a second does not end");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn what_is_built_survives_the_collector_of_every_nix_until_its_lease_ends() {
    for version in NixVersion::all() {
        let builder = Builder::new(version, "1s", "");
        let path = builder.store.add_tree("built", &Tree::new().file("x", "y"));
        collect(&builder.store);
        assert!(builder.store.is_valid(&path), "{version}");
        let listed = builder.larder(&["pin", "list"]).success();
        assert!(listed.stdout.contains("built here: 1 path is kept"), "{listed}");
        let dry = builder.larder(&["pin", "prune", "--dry-run"]).success();
        assert_eq!(dry.stdout, "", "its lease begins now");
        wait_for_the_end(&builder);
        assert_eq!(fs::read_dir(builder.roots()).unwrap().count(), 0);
        collect(&builder.store);
        assert!(!builder.store.is_valid(&path), "{version}");
        assert_eq!(builder.larder(&["pin", "list"]).success().text(), "");
    }
}

#[test]
fn what_comes_back_from_a_remote_builder_is_kept_as_well() {
    for version in NixVersion::builders() {
        let remote = TestStore::new(version);
        let _ = remote.nix(&["nix-store", "--init"]).success();
        let path = format!("{}:/usr/bin:/bin", version.bin_dir().display());
        let own = remote.environment();
        let mut environment: Vec<(&str, &str)> =
            own.iter().map(|(name, value)| (*name, value.to_str().unwrap())).collect();
        environment.push(("PATH", &path));
        let sshd = Sshd::on_loopback(&environment);
        let builders = format!("max-jobs = 0\nbuilders = ssh://far {} - 1 1 - - -", system());
        let builder = Builder::new(version, "30d", &builders);
        let options = format!("-F {}", sshd.ssh_config_file("far").display());
        let expression = format!(
            "derivation {{ name = \"far\"; system = \"{}\"; builder = \"/bin/sh\"; \
             args = [ \"-c\" \"echo far > $out\" ]; }}",
            system()
        );
        let build = builder.store.program("nix-build").env("NIX_SSHOPTS", &options);
        let built = build.args(["--no-out-link", "-E", &expression]).run().success();
        let far = built.text().to_owned();
        assert!(remote.is_valid(&far), "it was built there");
        collect(&builder.store);
        assert!(builder.store.is_valid(&far), "{version}");
    }
}

#[test]
fn killed_at_any_moment_a_look_ends_nothing_early_and_the_next_needs_no_repair() {
    let builder = Builder::new(NixVersion::V2_34, "1h", "");
    fs::create_dir_all(builder.roots()).unwrap();
    let name = |number: usize| format!("{number:0>32}-built");
    (0..300).for_each(|number| fs::write(builder.roots().join(name(number)), "").unwrap());
    for round in 0..12 {
        let program = builder.store.program(env!("CARGO_BIN_EXE_larder"));
        let program = program.env("LARDER_CONFIG", builder.config()).args(["pin", "prune"]);
        let mut look = program.spawn();
        std::thread::sleep(std::time::Duration::from_millis(4 * round));
        look.kill();
    }
    assert_eq!(fs::read_dir(builder.roots()).unwrap().count(), 300);
    let listed = builder.larder(&["pin", "prune"]).success();
    assert_eq!(listed.stdout, "");
    let listed = builder.larder(&["pin", "list"]).success();
    assert!(listed.stdout.contains("built here: 300 paths are kept, the first until"), "{listed}");
    // The same where all of them have ended.
    let record = builder.store.work_dir().join("state/built.sqlite");
    let sql = |text: &str| {
        let asked = larder_testkit::Program::new("sqlite3").arg(&record).arg(text).run();
        asked.success().text().to_owned()
    };
    let now = sql("update leases set until = 1; select strftime('%s', 'now') * 1000");
    for round in 0..12 {
        let program = builder.store.program(env!("CARGO_BIN_EXE_larder"));
        let program = program.env("LARDER_CONFIG", builder.config()).args(["pin", "prune"]);
        let mut look = program.spawn();
        std::thread::sleep(std::time::Duration::from_millis(4 * round));
        look.kill();
    }
    let _ = builder.larder(&["pin", "prune"]).success();
    let mut left: Vec<String> = fs::read_dir(builder.roots())
        .unwrap()
        .map(|root| root.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let hour = 60 * 60 * 1000;
    let whole =
        sql(&format!("select path from leases where until >= {now} + {hour} order by path"));
    assert_eq!(whole.lines().collect::<Vec<_>>(), left, "what a kill left has a whole lease");
    assert_eq!(sql("select count(*) from leases"), left.len().to_string(), "and nothing else");
}

#[test]
fn pinning_can_be_switched_off() {
    let builder = Builder::new(NixVersion::V2_34, "off", "");
    let path = builder.store.add_tree("built", &Tree::new().file("x", "y"));
    assert!(!builder.roots().exists());
    let hook = builder.larder(&["hook"]).success();
    assert!(hook.stderr.contains("nothing is configured to push to"), "{hook}");
    collect(&builder.store);
    assert!(!builder.store.is_valid(&path));
}

#[test]
fn a_full_disk_keeps_nothing_from_being_kept() {
    let builder = Builder::new(NixVersion::V2_34, "30d", "");
    let path = builder.store.add_tree("built", &Tree::new().file("x", "y"));
    let base = path.rsplit('/').next().unwrap();
    fs::remove_file(builder.roots().join(base)).unwrap();
    // A file system without room for another file, and a /run that nobody else sees.
    let script = format!(
        "set -eu\nmount -t tmpfs -o nr_inodes=2 tmpfs {roots}\ntouch {roots}/last\n\
         mount -t tmpfs tmpfs /run\nOUT_PATHS={path} {larder} hook\nls /run/larder/built\n\
         ! {larder} pin prune\numount {roots}\n{larder} pin prune\nls {roots}\nls /run/larder/built\n",
        roots = builder.roots().display(),
        larder = env!("CARGO_BIN_EXE_larder"),
    );
    let program = builder.store.program("/usr/bin/env").env("LARDER_CONFIG", builder.config());
    let program = program.args(["unshare", "--mount", "--propagation", "private", "sh", "-c"]);
    let finished = program.arg(script).run().success();
    assert_eq!(finished.lines(), [base, base], "there, then among the roots: {finished}");
    assert!(finished.stderr.contains("No space left"), "{finished}");
    collect(&builder.store);
    assert!(builder.store.is_valid(&path));
}

#[test]
fn a_derivation_whose_outputs_nobody_names_keeps_them() {
    let builder = Builder::new(NixVersion::V2_34, "30d", "");
    let path = builder.store.add_tree("built", &Tree::new().file("x", "y"));
    let deriver = builder.store.nix(&["nix-store", "-q", "--deriver", &path]).success();
    let base = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    fs::remove_file(builder.roots().join(base(&path))).unwrap();
    fs::write(builder.roots().join(base(deriver.text())), "").unwrap();
    let _ = builder.larder(&["pin", "prune"]).success();
    let names = fs::read_dir(builder.roots()).unwrap();
    let names: Vec<_> =
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, [base(&path)]);
}

/// A host that is built with a tool which its system does not refer to.
const WITH_TOOL: &str = "alpha = let tool = make \"tool\" \"echo tool > $out\"; \
     in make \"nixos-system\" ''$builder cat ${tool} > $out'';\n";

/// A server with that host, which has built it. Gives the tool.
fn with_tool(
    build: &str,
    before: impl FnOnce(&BuildServer, &str) -> String,
) -> (BuildServer, String) {
    let (mut server, fleet) = SmallFleet::with_server(NixVersion::V2_34, build);
    let _ = fleet.write_hosts(WITH_TOOL);
    let expression = format!(
        "let flake = builtins.getFlake \"{}\"; in flake.outputs.make \"tool\" \"echo tool > $out\"",
        fleet.nixpkgs.flake_url()
    );
    let tool = server.store.build_expr(&expression).remove(0);
    let more = before(&server, &tool);
    server.set(&format!("{build}\n{more}"));
    let built = server.build(&["--json"]).success();
    assert_eq!(BuildServer::report(&built)["built"], 1, "the tool is the one of before: {built}");
    (server, tool)
}

#[test]
fn what_an_edit_is_built_with_survives_a_collection() {
    for (build, stays) in [("", true), ("pin-built = \"off\"", false)] {
        let (server, tool) = with_tool(build, |_, _| String::new());
        collect(&server.store);
        assert_eq!(server.store.is_valid(&tool), stays, "{build}");
        assert!(server.store.is_valid(&server.system("alpha")));
    }
}

#[test]
fn what_an_upstream_has_is_not_kept_and_a_strangers_signature_says_nothing() {
    for (signer, stays) in [("upstream-1", false), ("stranger-1", true)] {
        let (server, tool) = with_tool("", |server, tool| {
            let key = |name: &str| {
                let file = server.store.work_dir().join(name).display().to_string();
                let made = server.larder(&["key", "generate", name, "--output", &file]).run();
                (file, made.success().text().to_owned())
            };
            let (upstream, public) = key("upstream-1");
            let (stranger, _) = key("stranger-1");
            let key = if signer == "upstream-1" { upstream } else { stranger };
            let _ = server.store.nix(&["nix", "store", "sign", "-k", &key, tool]).success();
            format!("[push]\ntrusted-upstream-keys = [{public:?}]")
        });
        collect(&server.store);
        assert_eq!(server.store.is_valid(&tool), stays, "{signer}");
    }
}
