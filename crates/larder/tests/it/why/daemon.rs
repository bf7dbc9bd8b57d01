//! Through a daemon, its settings count, and of a user's what it lets that user say.

use std::time::Duration;

use larder_testkit::{Background, Finished, Machine, Network, Nix, NixVersion, nix::busybox};
use serde_json::Value;

use super::{World, hello, key, kinds};
use crate::upgrade_world::with_every_client;

/// A machine with a daemon, whose root has its home where the machine's is.
fn daemon(network: &Network, version: NixVersion, conf: &str) -> (Machine, Background) {
    let machine = Machine::new(network, "pc", version);
    machine.configure_nix(conf);
    let _ = machine.nix(&["nix-store", "--init"]).success();
    let home = machine.home().display().to_string();
    let passwd = format!(
        "sed -i 's|^root:.*|root:x:0:0:root:{home}:/bin/sh|' /etc/passwd; \
                          mkdir -p /run/user; chown 65534 /run/user"
    );
    let _ = machine.sh(&passwd).success();
    let mut daemon = machine.spawn(&[version.bin("nix-daemon")]);
    let socket = machine.path_outside("/nix/var/nix/daemon-socket/socket");
    daemon.wait_for("socket", Duration::from_secs(20), |_| socket.exists().then_some(()));
    (machine, daemon)
}

fn why(machine: &Machine, user: &str, args: &[&str]) -> Finished {
    let words = ["--reuid", user, "--clear-groups", env!("CARGO_BIN_EXE_larder"), "why", "--json"];
    let program = machine.command("setpriv").args(words).args(args).dir("/run/user");
    let home = if user == "0" { machine.home() } else { "/run/user".into() };
    program.env("NIX_REMOTE", "daemon").env("HOME", home).run()
}

with_every_client! {
    fn a_cache_of_the_users_own_is_told_where_the_daemon_does_not_ask_it(version: NixVersion) {
        let world = World::new(version);
        let _ = world.publish(&hello(""), true);
        let cache = format!("file://{}", world.cache().display());
        let network = Network::new();
        let public = key("origin-1", 1).public();
        let (machine, _daemon) = daemon(&network, version, &format!("trusted-public-keys = {public}"));
        let derivation = machine.nix(&["nix-instantiate", "-E", &hello("")]).success().text().to_owned();
        machine.write("/run/user/.config/nix/nix.conf", format!("substituters = {cache}\n"));
        let verdicts = |user: &str| {
            let told = why(&machine, user, &[&derivation]);
            let said: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told}"));
            assert_eq!(said["throughDaemon"], true);
            kinds(&said["subject"])
        };
        assert_eq!(verdicts("65534"), ["noSubstituters", "ignored"]);
        // Root is trusted; it has no settings of its own.
        assert_eq!(verdicts("0"), ["noSubstituters"]);
        // Neighbour: root's own are asked.
        machine.write(&format!("{}/.config/nix/nix.conf", machine.home().display()), format!("substituters = {cache}\n"));
        assert_eq!(verdicts("0"), ["downloaded"]);
    }

    fn the_machines_caches_are_asked_for_every_user(version: NixVersion) {
        let world = World::new(version);
        let _ = world.publish(&hello(""), true);
        let cache = format!("file://{}", world.cache().display());
        let network = Network::new();
        let public = key("origin-1", 1).public();
        let conf = format!("trusted-public-keys = {public}\ntrusted-substituters = {cache}");
        let (machine, _daemon) = daemon(&network, version, &conf);
        let derivation = machine.nix(&["nix-instantiate", "-E", &hello("")]).success().text().to_owned();
        // One that any user may ask for; and a key of the user's, which does not count.
        machine.write("/run/user/.config/nix/nix.conf", format!("substituters = {cache}\n"));
        let told = why(&machine, "65534", &[&derivation]);
        assert_eq!(told.code(), 0, "{told}");
        let stranger = key("stranger-1", 9).public();
        machine.configure_nix(&conf.replace(&public.to_string(), &stranger.to_string()));
        machine.write("/run/user/.config/nix/nix.conf", format!("substituters = {cache}\ntrusted-public-keys = {public}\n"));
        let told = why(&machine, "65534", &[&derivation]);
        assert!(told.stdout.contains("\"untrusted\""), "{told}");
    }

    fn the_daemons_own_memory_counts_and_who_may_not_see_it_is_told(version: NixVersion) {
        let world = World::new(version);
        let network = Network::new();
        let public = key("origin-1", 1).public();
        let conf = format!("substituters = http://127.0.0.1:8080\ntrusted-public-keys = {public}");
        let (machine, _daemon) = daemon(&network, version, &conf);
        let busybox = busybox().display().to_string();
        machine.write("/run/www/nix-cache-info", "StoreDir: /nix/store\n");
        let mut httpd = machine.spawn(&[&*busybox, "httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/run/www"]);
        let up = || machine.sh("curl -sf http://127.0.0.1:8080/nix-cache-info").ok().then_some(());
        httpd.wait_for("httpd", Duration::from_secs(20), |_| up());
        let derivation = machine.nix(&["nix-instantiate", "-E", &hello("")]).success().text().to_owned();
        let look = machine.program("nix-store").args(["--realise", "--dry-run", &derivation]);
        let _ = look.env("NIX_REMOTE", "daemon").run();
        let _ = world.publish(&hello(""), true);
        let copy = format!("cp -r {}/. /run/www/; chmod 700 {}", world.cache().display(), machine.home().display());
        let _ = machine.sh(&copy).success();
        let told = |user: &str| {
            let told = why(&machine, user, &[&derivation]);
            let said: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told}"));
            (kinds(&said["subject"]), said["memoryUnknown"].is_null())
        };
        assert_eq!(told("0"), (vec!["remembered".to_owned()], true));
        assert_eq!(told("65534"), (vec!["downloaded".to_owned()], false));
    }
}
