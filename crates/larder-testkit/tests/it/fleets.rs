//! The sample fleet builds with the versions that build, runs, switches, and breaks where it is told to.

use std::collections::BTreeSet;

use larder_testkit::fleet::{HOSTS, edit_motd};
use larder_testkit::{Machine, Network, Nix, NixVersion, SampleFleet, TestStore};

fn fleet() -> (tempfile::TempDir, SampleFleet) {
    let dir = larder_testkit::scratch::scratch("fleet");
    let fleet = SampleFleet::create(dir.path());
    (dir, fleet)
}

#[test]
fn three_hosts_of_real_software_build_with_every_builder() {
    let (_dir, fleet) = fleet();
    assert!(fleet.packages().len() >= 30, "{}", fleet.packages().len());
    let mut systems = BTreeSet::new();
    for version in NixVersion::builders() {
        let store = TestStore::new(version);
        if version == NixVersion::V2_26 {
            fleet.lock(&store);
        }
        for host in HOSTS {
            let system = fleet.build(&store, host);
            assert!(system.ends_with(&format!("-nixos-system-{host}-25.05")), "{system}");
            let programs = fleet.programs_of(host);
            let closure = store.closure(&system);
            assert!(closure.len() > programs.len() + 6, "{host}: {closure:?}");
            systems.insert(system);
        }
    }
    assert_eq!(systems.len(), HOSTS.len(), "both versions make the same paths: {systems:?}");
}

#[test]
fn moving_a_package_changes_its_dependents_and_nothing_else() {
    let (_dir, mut fleet) = fleet();
    let store = TestStore::new(NixVersion::V2_34);
    fleet.lock(&store);
    let library = fleet.shared_library();
    let before = fleet.build(&store, "pc");
    let old: BTreeSet<String> = store.closure(&before).into_iter().collect();
    fleet.bump(&library);
    assert_eq!(fleet.build(&store, "pc"), before, "the lock file holds it");
    fleet.lock(&store);
    let after = fleet.build(&store, "pc");
    let names = |path: &String| path["/nix/store/".len() + 33..].to_owned();
    let new: BTreeSet<String> = store
        .closure(&after)
        .into_iter()
        .filter(|path| !old.contains(path))
        .map(|p| names(&p))
        .collect();
    let mut expected: BTreeSet<String> = fleet
        .dependents(&library)
        .iter()
        .map(|name| format!("{name}-{}", fleet.packages()[name].version))
        .collect();
    expected.extend(["system-path".to_owned(), "nixos-system-pc-25.05".to_owned()]);
    assert_eq!(new, expected);
}

#[test]
fn a_system_switches_on_a_machine_and_its_programs_run_there() {
    let (_dir, fleet) = fleet();
    let network = Network::new();
    let machine = Machine::new(&network, "pc", NixVersion::V2_26);
    fleet.lock(&machine);
    let system = fleet.build(&machine, "pc");
    let profile = "/nix/var/nix/profiles/system";
    let _ = machine.nix(&["nix-env", "-p", profile, "--set", &system]).success();
    let switch = format!("{profile}/bin/switch-to-configuration");
    let _ = machine.run(&[&switch, "switch"]).success();
    assert_eq!(machine.read("/run/larder-sample/calls"), format!("switch {system}\n"));
    assert_eq!(machine.resolve("/run/current-system"), system);
    for program in ["bash", "curl", "git"] {
        if fleet.packages().contains_key(program) {
            let own = format!("/run/current-system/sw/bin/{program}");
            let said = machine.run(&[own.as_str(), "--version"]).success();
            assert!(said.stdout.contains("version") || said.stdout.contains("curl"), "{said}");
        }
    }
    machine.write("/run/larder-sample/exit-code", "4");
    assert_eq!(machine.run(&[&switch, "test"]).code(), 4);
    assert_eq!(machine.run(&[&switch, "sideways"]).code(), 1);
    for file in
        ["init", "kernel", "initrd", "kernel-modules", "nixos-version", "etc/motd", "sw/bin/sh"]
    {
        let _ = machine.sh(&format!("test -e {system}/{file}")).success();
    }
}

#[test]
fn a_broken_host_leaves_the_others_as_they_are_and_can_be_mended() {
    let (_dir, fleet) = fleet();
    let store = TestStore::new(NixVersion::V2_34);
    fleet.lock(&store);
    let drv = |host: &str| fleet.evaluate(&store, host);
    let (nuc, hp) = (drv("nuc"), drv("hp"));
    fleet.break_evaluation("nuc");
    let flake = format!("{}#nixosConfigurations.nuc", fleet.config.flake_url());
    let attribute = format!("{flake}.config.system.build.toplevel.drvPath");
    let failed = store.nix(&["nix", "eval", "--raw", &attribute]).failure();
    assert!(failed.stderr.contains("this host does not evaluate"), "{failed}");
    assert_eq!(drv("hp"), hp);
    fleet.break_build("nuc");
    let failed = store.nix(&["nix-store", "--realise", &drv("nuc")]).failure();
    assert!(failed.stderr.contains("broken-nuc.c:42: error"), "{failed}");
    fleet.mend("nuc");
    assert_eq!(drv("nuc"), nuc);
    let system = store.nix(&[
        "nix",
        "eval",
        "--raw",
        &format!("{flake}.config.nixpkgs.hostPlatform.system"),
    ]);
    assert_eq!(system.success().text(), larder_testkit::nix::system());
}

#[test]
fn a_local_edit_changes_the_system_and_no_package() {
    let (dir, fleet) = fleet();
    let store = TestStore::new(NixVersion::V2_26);
    fleet.lock(&store);
    let before = fleet.build(&store, "hp");
    let work_tree = fleet.clone_config(&dir.path().join("clone"));
    edit_motd(work_tree.dir(), "hp", "edited here");
    let flake = format!("{}#nixosConfigurations.hp", work_tree.dir().display());
    let out = store.work_dir().join("result");
    let attribute = format!("{flake}.config.system.build.toplevel");
    let _ = store.nix(&["nix", "build", "--out-link", out.to_str().unwrap(), &attribute]).success();
    let after = std::fs::read_link(&out).unwrap().display().to_string();
    let old = store.closure(&before);
    let new: Vec<String> =
        store.closure(&after).into_iter().filter(|path| !old.contains(path)).collect();
    let names: BTreeSet<&str> = new.iter().map(|path| &path["/nix/store/".len() + 33..]).collect();
    assert_eq!(names, BTreeSet::from(["etc", "etc-motd", "nixos-system-hp-25.05"]));
}
