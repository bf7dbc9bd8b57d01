//! A server that is reached over SSH, where a `.rev` file names the nixpkgs commit: by `larder upgrade`,
//! and by the scripts that people had before.

use larder_testkit::{Nix, NixVersion, sshd::Sshd};

use crate::upgrade_world::{CHECKOUT, Client, World, with_every_client};

/// The world's server with an sshd, and a client whose ssh knows it as `server`.
fn over_ssh(world: &World, version: NixVersion) -> (Sshd, Client) {
    let sshd = Sshd::on_machine(&world.server, &[]);
    let client = world.client_with_edit(version);
    client.machine.write("/etc/ssh/ssh_config", sshd.ssh_config("server"));
    client.configure_wholly(&format!(
        "[client]\nservers = [\"ssh://server\"]\nflake = {CHECKOUT:?}\n"
    ));
    (sshd, client)
}

with_every_client! {
    fn a_rev_file_moves_nixpkgs_and_keeps_the_local_edit(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_26);
        let (_sshd, client) = over_ssh(&world, version);
        world.move_on();
        let checkout = client.checkout_state();
        let told = client.upgrade(&[]).success();
        let commit = world.fleet.nixpkgs.rev();
        assert!(told.stderr.contains(&format!("ssh://server built pc with nixpkgs {commit}")), "{told}");
        assert_eq!(client.built(), ["etc", "nixos-system-pc-25.05"], "no package: {told}");
        assert_eq!(client.machine.read("/run/current-system/etc/motd"), "edited here");
        let library = world.fleet.shared_library();
        let moved = format!("-{library}-{}", world.fleet.packages()[&library].version);
        let closure = client.machine.closure(&client.current().unwrap());
        assert!(closure.iter().any(|path| path.ends_with(&moved)), "{closure:#?}");
        assert_eq!(client.checkout_state(), checkout);
        // There is nothing signed to take as it is.
        let told = client.upgrade(&["--prebuilt"]);
        assert_eq!(told.code(), 1, "{told}");
        assert!(told.stderr.contains("signed revision"), "{told}");
    }

    /// `upgrade-from-cache.sh` of the seeds: ask by ssh which commit was built, then rebuild with that.
    /// nixos-rebuild is not here, so its two steps are spelled out.
    fn the_script_people_had_before_works_unchanged(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_34);
        let (_sshd, client) = over_ssh(&world, version);
        world.move_on();
        let nixpkgs = world.fleet.nixpkgs.flake_url();
        let script = format!(
            "REMOTE_COMMIT_HASH=$(ssh server cat /var/lib/nix-auto-build/$(hostname).rev)\n\
             cd {CHECKOUT}\n\
             nix build --no-write-lock-file --out-link /run/result \
               \".#nixosConfigurations.$(hostname).config.system.build.toplevel\" \
               --override-input nixpkgs \"{nixpkgs}?rev=$REMOTE_COMMIT_HASH\"\n\
             nix-env -p /nix/var/nix/profiles/system --set \"$(readlink /run/result)\"\n\
             /nix/var/nix/profiles/system/bin/switch-to-configuration switch\n"
        );
        let _ = client.machine.sh(&script).success();
        assert_eq!(client.built(), ["etc", "nixos-system-pc-25.05"], "all else came from the cache");
        let closure = client.machine.closure(&client.current().unwrap());
        let served = world.server.closure(&world.system("pc"));
        let own = closure.iter().filter(|path| !served.contains(path)).count();
        assert_eq!(own, 3, "the system, its etc and the edited file: {closure:#?}");
    }
}

#[test]
fn what_is_no_commit_or_no_file_or_no_server_is_said() {
    let world = World::new(NixVersion::V2_34);
    let (_sshd, client) = over_ssh(&world, NixVersion::V2_34);
    world.server.write("/var/lib/nix-auto-build/pc.rev", "$(reboot)\n");
    let told = client.upgrade(&[]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("pc.rev holds \"$(reboot)\""), "{told}");
    let _ = world.server.sh("rm /var/lib/nix-auto-build/pc.rev").success();
    let told = client.upgrade(&[]);
    assert!(told.code() == 1 && told.stderr.contains("No such file"), "{told}");
    // ssh itself would wait for ever.
    let _ = world.server.sh("mkfifo /var/lib/nix-auto-build/pc.rev").success();
    let told = client.upgrade(&[]);
    assert!(told.code() == 1 && told.stderr.contains("no answer within"), "{told}");
    // After a dead SSH server, HTTP is asked: an address is an address.
    client.configure(
        "servers = [\"ssh://server:1\", \"http://server:5000\"]\nflake = \"/etc/nixos\"",
    );
    let told = client.upgrade(&[]).success();
    assert!(told.stderr.contains("http://server:5000/ built"), "{told}");
}
