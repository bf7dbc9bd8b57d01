//! As root without a daemon, and as an ordinary client of one; and after being killed at any point.

use std::time::Duration;

use larder_testkit::{Nix, NixVersion};

use crate::upgrade_world::{World, with_every_client};

with_every_client! {
    fn a_client_of_a_nix_daemon_upgrades_by_flake_and_prebuilt(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        let mut daemon = client.machine.spawn(&[version.bin("nix-daemon")]);
        let socket = client.machine.path_outside("/nix/var/nix/daemon-socket/socket");
        daemon.wait_for("socket", Duration::from_secs(20), |_| socket.exists().then_some(()));
        let through = |args: &[&str]| {
            client.larder(&["upgrade"]).args(args).env("NIX_REMOTE", "daemon").run().success()
        };
        let _ = through(&[]);
        assert_eq!(client.built(), ["etc", "nixos-system-pc-25.05"]);
        assert_eq!(client.machine.read("/run/current-system/etc/motd"), "edited here");
        world.move_on();
        let _ = through(&["--prebuilt"]);
        assert_eq!(client.current(), Some(world.system("pc")));
        assert_eq!(client.profile(), Some(world.system("pc")));
        assert!(daemon.output().contains("accepted connection"), "{}", daemon.output());
        // Its roots hold: a collector that runs through the daemon leaves the system.
        let collected = client.machine.program("nix-store").arg("--gc").env("NIX_REMOTE", "daemon");
        let _ = collected.run().success();
        assert!(client.machine.is_valid(&world.system("pc")));
    }

    fn killed_at_any_point_the_next_run_finishes(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        let _ = client.upgrade(&[]).success();
        let before = client.current().unwrap();
        world.move_on();
        // Killed as soon as it has said each of these.
        for word in ["built revision", "to download", "switch: "] {
            let mut running = client.larder(&["upgrade"]).spawn();
            let _ = running.wait_for_line(word);
            running.kill();
            let now = client.current().unwrap();
            assert!(client.machine.is_valid(&now), "{now} runs, and is whole");
        }
        let _ = client.upgrade(&[]).success();
        assert_ne!(client.current().as_deref(), Some(&*before));
        assert_eq!(client.current(), client.profile());
        assert_eq!(client.state()["accepted"]["number"], world.revision("pc").number);
        let _ = client.upgrade(&["--rollback"]).success();
        assert_eq!(client.current().as_deref(), Some(&*before), "what ran before the first try");
    }
}

#[test]
fn killed_while_the_system_switches_the_next_run_finishes() {
    let mut world = World::new(NixVersion::V2_34);
    let client = world.client(NixVersion::V2_34);
    let _ = client.upgrade(&[]).success();
    let before = client.current().unwrap();
    world.move_on();
    let after = world.system("pc");
    // The switch waits for its exit status to be told.
    let _ = client.machine.sh("mkfifo /run/larder-sample/exit-code").success();
    let mut running = client.larder(&["upgrade"]).spawn();
    let calls = || (client.calls().len() == 2).then_some(());
    running.wait_for("switch", Duration::from_secs(60), |_| calls());
    running.kill();
    assert_eq!((client.profile(), client.current()), (Some(after.clone()), Some(before.clone())));
    let unblock =
        "timeout 5 sh -c 'echo 1 > /run/larder-sample/exit-code'; rm /run/larder-sample/exit-code";
    let _ = client.machine.sh(unblock).success();

    let _ = client.upgrade(&[]).success();
    assert_eq!((client.profile(), client.current()), (Some(after.clone()), Some(after)));
    let _ = client.upgrade(&["--rollback"]).success();
    assert_eq!((client.profile(), client.current()), (Some(before.clone()), Some(before)));
}

#[test]
fn a_user_of_the_daemon_may_look_what_an_upgrade_would_bring() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    let mut daemon = client.machine.spawn(&[NixVersion::V2_34.bin("nix-daemon")]);
    let socket = client.machine.path_outside("/nix/var/nix/daemon-socket/socket");
    daemon.wait_for("socket", Duration::from_secs(20), |_| socket.exists().then_some(()));
    let _ = client
        .machine
        .sh("mkdir /run/user; chown 65534 /run/user; chown -R 65534 /etc/nixos")
        .success();
    let look = |args: &[&str]| {
        let user = ["--reuid", "65534", "--clear-groups", env!("CARGO_BIN_EXE_larder"), "upgrade"];
        let program = client.machine.command("setpriv").args(user).args(args).dir("/run/user");
        program.env("NIX_REMOTE", "daemon").env("HOME", "/run/user").run()
    };
    for args in [&["dry-run"][..], &["dry-run", "--prebuilt"]] {
        let told = look(args).success();
        assert!(told.stderr.contains("to download"), "{told}");
    }
    let told = look(&[]).failure();
    assert!(told.stderr.contains("/var/lib/larder"), "what may not be written is named: {told}");
    assert_eq!((client.current(), client.profile(), client.calls().len()), (None, None, 0));
}
