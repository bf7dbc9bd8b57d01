//! Building the local flake with the server's inputs: edits stay, the checkout is never written to, and
//! the forge is not needed.

use larder_testkit::{Machine, NixVersion, git::Forge};

use crate::upgrade_world::{CHECKOUT, World, with_every_client};

with_every_client! {
    fn inputs_come_from_the_servers_cache_when_the_forge_is_gone(version: NixVersion) {
        let mut world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        world.move_on();
        world.take_forge_away();
        let checkout = client.checkout_state();
        let _ = client.upgrade(&[]).success();
        assert_eq!(client.built(), ["etc", "nixos-system-pc-25.05"]);
        assert_eq!(client.machine.read("/run/current-system/etc/motd"), "edited here");
        assert_eq!(client.checkout_state(), checkout);
    }

    fn arguments_after_the_dashes_reach_nix(version: NixVersion) {
        let world = World::new(NixVersion::V2_34);
        let client = world.client_with_edit(version);
        // Only Nix knows whether this is an option.
        let told = client.upgrade(&["build", "--", "--no-such-option"]);
        assert_eq!(told.code(), 1, "{told}");
        assert!(told.stderr.contains("no-such-option"), "{told}");
        // A dead cache before the good one is passed over, with the options that make Nix do so.
        let unreachable = ["build", "--allow-builds", "--", "--option", "substituters", ""];
        let told = client.upgrade(&unreachable).success();
        assert!(client.built().len() > 10, "built without a cache: {told}");
    }
}

#[test]
fn a_forge_behind_a_pulled_cable_is_never_waited_for() {
    let mut world = World::new(NixVersion::V2_34);
    let machine = Machine::new(&world.network, "forge", NixVersion::V2_34);
    let forge = Forge::on_machine(&machine, world.dir());
    // Whoever comes later knows the forge by its address: names are told when a machine is made.
    let url = forge.url("nixpkgs").replace("forge", machine.address());
    world.fleet.set_nixpkgs_url(&url);
    let _ = world.fleet.lock(&world.server);
    world.move_on();
    let client = world.client_with_edit(NixVersion::V2_34);
    machine.set_connected(&world.network, false);
    let asked = forge.log();
    let _ = client.upgrade(&[]).success();
    assert_eq!(client.built(), ["etc", "nixos-system-pc-25.05"]);
    assert_eq!(forge.log(), asked);
}

#[test]
fn a_flake_on_the_command_line_goes_before_the_configured_one() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    let copy = "/run/copy";
    let _ = client.machine.sh(&format!("cp -R {CHECKOUT} {copy}; rm -rf {copy}/.git")).success();
    let hosts = client.machine.path_outside(copy);
    larder_testkit::fleet::edit_motd(&hosts, "pc", "another edit");
    // A folder that git knows nothing of, relative, with the host behind it.
    let relative = client.larder(&["upgrade", "--flake", ".#pc"]);
    let _ = relative.dir("/").run().failure();
    let in_copy = format!("cd {copy}; exec {} upgrade --flake .#pc", env!("CARGO_BIN_EXE_larder"));
    let _ = client.machine.sh(&in_copy).success();
    assert_eq!(client.machine.read("/run/current-system/etc/motd"), "another edit");
    // And `--prebuilt` before both.
    let _ = client.upgrade(&["--prebuilt"]).success();
    assert_eq!(client.current(), Some(world.system("pc")));
}

#[test]
fn only_what_git_tracks_is_built_and_a_flake_in_a_folder_of_its_repository_is_found() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    let repository = "/run/repository";
    let _ = client.machine.sh(&format!(
        "mkdir {repository}; cp -R {CHECKOUT} {repository}/nixos; cd {repository}; rm -rf nixos/.git\n\
         git init -q .; git add nixos\n\
         git -c user.name=a -c user.email=a@b commit -q -m all\n\
         mkfifo nixos/pipe; mkdir secret; echo secret > secret/key; chmod 0 secret\n\
         echo 'throw \"not tracked\"' > nixos/hosts/untracked.nix"
    ))
    .success();
    let before = client.machine.sh(&format!("cd {repository}; git status --porcelain")).success();
    let told = client.upgrade(&["--flake", &format!("{repository}/nixos")]).success();
    assert_eq!(client.machine.read("/run/current-system/etc/motd"), "edited here", "{told}");
    let after = client.machine.sh(&format!("cd {repository}; git status --porcelain")).success();
    assert_eq!(after.stdout, before.stdout);
}

#[test]
fn an_edit_that_does_not_evaluate_or_build_is_told_and_switches_nothing() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    let host = format!("{CHECKOUT}/hosts/pc.nix");
    let good = client.machine.read(&host);
    client.machine.write(&host, good.replace("\"edited here\"", "throw \"a slip of the pen\""));
    let told = client.upgrade(&[]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("a slip of the pen"), "{told}");
    let failing = good.replace(
        "environment.etc.\"motd\"",
        "system.extraDependencies = [ (pkgs.failing \"mine\") ];\n  environment.etc.\"motd\"",
    );
    client.machine.write(&host, failing);
    let told = client.upgrade(&["--allow-build", "mine"]);
    assert_eq!(told.code(), 1, "{told}");
    assert!(told.stderr.contains("mine.c:42: error"), "the end of the log: {told}");
    assert_eq!((client.current(), client.profile(), client.calls().len()), (None, None, 0));
}

#[test]
fn a_lock_file_that_is_a_link_leads_nothing_out_of_the_copy() {
    let world = World::new(NixVersion::V2_34);
    let client = world.client_with_edit(NixVersion::V2_34);
    client.machine.write("/var/lib/precious", "mine");
    let link =
        format!("cd {CHECKOUT} && ln -sfn /var/lib/precious flake.lock && git add flake.lock");
    let _ = client.machine.sh(&link).success();
    let _ = client.upgrade(&["build"]).success();
    assert_eq!(client.machine.read("/var/lib/precious"), "mine");
}
