//! The units in `packaging/`, run by the real systemd: with all that they forbid themselves, Larder does its work.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use larder_testkit::{
    Finished, Machine, Network, Nix, NixVersion, Program, Systemd, nix::workspace_root,
    scratch::scratch,
};

/// Where the machine has the program.
const LARDER: &str = "/etc/larder/bin/larder";

/// A machine with the units installed as the guides say, and a path in its store.
struct Installed {
    systemd: Systemd,
    machine: Machine,
    _network: Network,
    path: String,
}

impl Installed {
    /// One with this configuration, and these lines below `[Service]` of a unit.
    fn new(config: &str, unit: &str, lines: &str) -> Self {
        let network = Network::new();
        let machine = Machine::new(&network, "box", NixVersion::V2_34);
        machine.write(LARDER, fs::read(env!("CARGO_BIN_EXE_larder")).unwrap());
        let program = machine.path_outside(LARDER);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        for unit in units() {
            let text = fs::read_to_string(&unit).unwrap().replace("/usr/bin/env larder", LARDER);
            let name = unit.file_name().unwrap().to_str().unwrap();
            machine.write(&format!("/etc/systemd/system/{name}"), text);
        }
        let drop_in = format!("/etc/systemd/system/{unit}.d/test.conf");
        machine.write(&drop_in, format!("[Service]\n{lines}\n"));
        let path = machine.build_expr(&expression("first")).remove(0);
        let made =
            machine.run(&[LARDER, "key", "generate", "box-1", "--output", "/etc/larder/cache.key"]);
        let key = made.success().text().to_owned();
        machine.write("/etc/larder/larder.toml", config.replace("KEY", &key));
        let systemd = Systemd::of(&machine);
        Self { systemd, machine, _network: network, path }
    }

    fn larder(&self, words: &[&str]) -> Finished {
        self.machine.run(&[&[LARDER], words].concat())
    }

    /// Has systemd do something with a unit.
    fn do_with(&self, words: &[&str], unit: &str) {
        let done = self.systemd.ctl(&[words, &[unit]].concat());
        assert!(done.ok(), "{done}\n{}", self.systemd.journal(unit));
    }

    fn start(&self, unit: &str) {
        self.do_with(&["start"], unit);
    }

    /// Whether a Nix of this machine finds a path in a cache.
    fn finds(&self, url: &str, path: &str) -> bool {
        let nix = self.machine.nix(&["nix", "path-info", "--refresh", "--store", url, path]);
        nix.ok()
    }
}

fn units() -> Vec<PathBuf> {
    let files = fs::read_dir(workspace_root().join("packaging")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let is_unit = |file: &PathBuf| file.extension().is_some_and(|ending| ending != "conf");
    files.filter(is_unit).collect()
}

fn expression(name: &str) -> String {
    format!(
        "derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
         args = [ \"-c\" \"echo $name > $out\" ]; }}"
    )
}

const SERVER: &str = "[serve]\nlisten = [\"127.0.0.1:5000\"]\n\
     signing-keys = [\"/run/credentials/larder.service/cache.key\"]\n";

#[test]
#[ignore = "needs systemd: ./dev units"]
fn systemd_understands_every_line_of_them() {
    // The drop-in beside its unit, as systemd looks for it.
    let dir = scratch("units");
    let packaging = workspace_root().join("packaging");
    let (unit, drop_in) = (dir.path().join("larder.service"), dir.path().join("larder.service.d"));
    fs::copy(packaging.join("larder.service"), &unit).unwrap();
    fs::create_dir(&drop_in).unwrap();
    fs::copy(packaging.join("larder-builds.conf"), drop_in.join("builds.conf")).unwrap();
    for unit in units().into_iter().chain([unit]) {
        let told = Program::new("systemd-analyze").arg("verify").arg(&unit).run().success();
        // Which systemd knows since its version 254.
        let odd = |line: &&str| line.contains("larder") && !line.contains("'DelegateSubgroup'");
        assert_eq!(told.stderr.lines().find(odd), None, "{told}");
    }
}

#[test]
#[ignore = "needs systemd: ./dev units"]
fn the_server_reads_the_store_reloads_and_is_started_again_when_it_hangs() {
    let all = Installed::new(SERVER, "larder.service", "WatchdogSec=2");
    all.start("larder");
    assert_eq!(all.systemd.property("larder", "ActiveState"), "active");
    assert!(all.finds("http://127.0.0.1:5000", &all.path));
    let journal = || all.systemd.journal("larder");
    all.do_with(&["reload"], "larder");
    all.systemd.wait_for("reload", || journal().contains("reloaded /etc/larder/larder.toml"));
    let pid = || all.systemd.property("larder", "MainPID");
    let first = pid();
    let _ = all.systemd.program("kill").args(["-STOP", &first]).run().success();
    let url = "http://127.0.0.1:5000";
    all.systemd.wait_for("other process", || pid() != first && all.finds(url, &all.path));
    assert!(journal().contains("Watchdog timeout"), "{}", journal());
    all.do_with(&["stop"], "larder");
    assert_eq!(all.systemd.property("larder", "Result"), "success");
}

#[test]
#[ignore = "needs systemd: ./dev units"]
fn who_asks_while_the_server_restarts_waits_at_the_socket() {
    let all = Installed::new(SERVER, "larder.service", "");
    all.start("larder.socket");
    assert_eq!(all.systemd.property("larder", "ActiveState"), "inactive");
    assert!(all.finds("http://127.0.0.1:5000", &all.path));
    assert_eq!(all.systemd.property("larder", "ActiveState"), "active");
    for _ in 0..3 {
        all.do_with(&["restart", "--no-block"], "larder");
        assert!(all.finds("http://127.0.0.1:5000", &all.path));
    }
}

#[test]
#[ignore = "needs systemd: ./dev units"]
fn the_proxy_keeps_what_it_fetched_when_it_is_killed() {
    let config = "[proxy]\nkeep-size = \"1GB\"\n\
         [[upstream]]\nname = \"folder\"\nurls = [\"/var/lib/cache\"]\npublic-keys = [\"KEY\"]\n";
    let all = Installed::new(config, "larder-proxy.service", "");
    let to = "file:///var/lib/cache?secret-key=/etc/larder/cache.key&compression=zstd";
    let _ = all.machine.nix(&["nix", "copy", "--to", to, &all.path]).success();
    all.start("larder-proxy");
    let url = "http://127.0.0.1:5001";
    all.systemd.wait_for("path", || all.finds(url, &all.path));
    let _ = all.machine.nix(&["nix-store", "--delete", &all.path]).success();
    let fetch = ["nix", "copy", "--no-check-sigs", "--from", url, &all.path];
    let _ = all.machine.nix(&fetch).success();
    let kept = "/var/lib/private/larder/proxy/kept/nar";
    all.systemd.wait_for("NAR that is kept", || all.machine.run(&["ls", kept]).lines().len() == 1);
    all.do_with(&["reload"], "larder-proxy");
    all.do_with(&["kill", "--signal=KILL"], "larder-proxy");
    let _ = all.machine.run(&["rm", "-r", "/var/lib/cache"]).success();
    let _ = all.machine.nix(&["nix-store", "--delete", &all.path]).success();
    all.systemd.wait_for("path", || all.finds(url, &all.path));
    let _ = all.machine.nix(&fetch).success();
}

#[test]
#[ignore = "needs systemd: ./dev units"]
fn what_is_handed_in_is_pushed_and_the_collection_of_the_night_may_run() {
    let config = "[[cache]]\nname = \"main\"\nurl = \"/var/lib/cache\"\nmax-age = \"90d\"\n\
         signing-keys = [\"/etc/larder/cache.key\"]\n\
         [push]\nto = [\"main\"]\ntrusted-upstreams = []\n";
    let all = Installed::new(config, "larder-gc.service", "ReadWritePaths=/var/lib/cache");
    all.start("larder-push");
    let hook = all.machine.command(LARDER).arg("hook").env("OUT_PATHS", &all.path).run();
    let _ = hook.success();
    let cache = "file:///var/lib/cache";
    all.systemd.wait_for("pushed path", || all.finds(cache, &all.path));
    let _ = all.larder(&["pin", "add", "--in", "main", "kept", &all.path]).success();
    all.start("larder-gc");
    assert_eq!(all.systemd.property("larder-gc", "Result"), "success");
    assert!(all.finds(cache, &all.path));
    all.start("larder-gc.timer");
    assert_ne!(all.systemd.property("larder-gc.timer", "NextElapseUSecRealtime"), "");
}

/// A host that waits, and tells of that. Before that it writes a file where Nix builds, and afterwards reads it; and it
/// is built as one for 32 bits would be.
const FLEET: &str = r#"{
  outputs = _: {
    nixosConfigurations.box.config.system.build.toplevel = derivation {
      name = "nixos-system";
      system = "@system@";
      builder = "/bin/sh";
      args = [ "-euc" "echo box > /tmp/file; echo > /var/lib/waiting; while [ ! -e /var/lib/open ]; do /bin/sleep 0.1; done; /usr/bin/setarch linux32 /bin/cat /tmp/file > $out" ];
    };
  };
}
"#;

#[test]
#[ignore = "needs systemd: ./dev units"]
fn a_run_goes_on_while_the_server_that_began_it_is_restarted() {
    let lines = fs::read_to_string(workspace_root().join("packaging/larder-builds.conf"));
    let config = format!(
        "{SERVER}[build]\nflake = \"path:/etc/fleet\"\n\
         [[schedule]]\nname = \"nightly\"\nat = \"02:00\"\njitter = \"off\"\nupdate = false\n"
    );
    let path = larder_testkit::process::path_with(&NixVersion::V2_34.bin_dir());
    let lines = lines.unwrap().lines().filter(|line| !line.starts_with('[')).fold(
        String::new(),
        |lines, line| match line.starts_with("Environment=PATH=") {
            true => format!("{lines}Environment=PATH={}\n", path.display()),
            false => format!("{lines}{line}\n"),
        },
    );
    let all = Installed::new(&config, "larder.service", &lines);
    let flake = FLEET.replace("@system@", &larder_testkit::nix::system());
    all.machine.write("/etc/fleet/flake.nix", flake);
    let key = ["key", "generate", "fleet-1", "--output", "/var/lib/larder/fleet.key"];
    let _ = all.machine.sh("mkdir -p /var/lib/larder").success();
    let _ = all.larder(&key).success();
    let missed = "{\"version\":1,\"schedules\":{\"nightly\":{\"at\":\"02:00\",\
         \"settled\":\"2020-01-01T00:00:00Z\"}}}";
    all.machine.write("/var/lib/larder/schedule.json", missed);
    all.start("larder");
    let journal = || all.systemd.journal("larder");
    let there = |file: &str| all.machine.path_outside(file).exists();
    let log = all.machine.path_outside("/var/lib/larder/schedule/nightly.log");
    all.systemd.wait_for("build", || {
        let told = journal();
        let ended = told.contains("has ended") || told.contains("not resumed any more");
        assert!(!ended, "{told}\n{}", fs::read_to_string(&log).unwrap_or_default());
        there("/var/lib/waiting")
    });
    all.do_with(&["restart"], "larder");
    all.systemd.wait_for("run that goes on", || journal().contains("goes on"));
    all.machine.write("/var/lib/open", "");
    all.systemd.wait_for("end", || journal().contains("the run of nightly has ended: all is well"));
    assert!(!journal().contains("resumed"), "{}", journal());
    let listed = all.larder(&["schedule"]).success();
    assert!(listed.stdout.contains(": all is well"), "{listed}");
    // Anybody may ask.
    let mode = all.machine.run(&["stat", "--format=%a", "/var/lib/larder/schedule"]).success();
    assert_eq!(mode.text(), "755");
    for (name, value) in [
        ("SystemCallArchitectures", ""),
        ("RestrictAddressFamilies", "~"),
        ("RestrictRealtime", "no"),
        ("ProtectClock", "no"),
        ("Delegate", "yes"),
    ] {
        assert_eq!(all.systemd.property("larder", name), value, "{name}");
    }
}

#[test]
fn the_guide_shows_the_drop_in_as_it_is() {
    let read = |path: &str| fs::read_to_string(workspace_root().join(path)).unwrap();
    let (drop_in, guide) = (read("packaging/larder-builds.conf"), read("docs/nights.md"));
    let (_, lines) = drop_in.split_once('\n').unwrap();
    assert!(guide.contains(&format!("```ini\n{lines}```")), "docs/nights.md shows another");
}
